"""Signs of life: one fact a minute while somebody works on a box, so that it does not look idle."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cli.render import note
from ledger.domain.errors import RentrollError
from ledger.domain.events import Touched
from ledger.flows.work import SIGN_OF_LIFE_S

if TYPE_CHECKING:
    from cli.app import App


@contextmanager
def signs_of_life(app: "App", lease_id: str, cause: str) -> "Iterator[None]":
    """Appends `touched` every minute until the block ends. A failure is a warning: the work goes on."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(SIGN_OF_LIFE_S):
            try:
                app.book.record(lease_id, Touched(cause=cause))
            except RentrollError as failure:
                note(f"no sign of life could be recorded: {failure.message}")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()

"""What comes out of a run: its streams on ours, its exit code as ours."""

import os
import select
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from cli.failures import RUN_FAILED
from cli.render import note

if TYPE_CHECKING:
    from ledger.domain.ports import Ended
    from ledger.flows.services import Stage

SIGNALS = 128


def told(stage: "Stage") -> None:
    """The command's own output is what people see while it runs; the flow speaks only where something is amiss."""
    note(f"{stage.slug}: {stage.name}: {stage.detail}")


def exit_code(ended: "Ended") -> int:
    """The remote code as it is; 128+N for signal N."""
    return exit_code_of(ended.exit_code, ended.signal)


def exit_code_of(code: int | None, name: str | None) -> int:
    """The same of a code and the name of a signal, one of which is known."""
    if code is not None:
        return code
    number = signal.Signals.__members__.get(f"SIG{name}")
    return SIGNALS + number if number is not None else RUN_FAILED


def sink(descriptor: int) -> Callable[[bytes], None]:
    """Writes every byte to one of our own streams, unbuffered, so that nothing waits and nothing is reordered.

    Another program on the same pipe may have made it non-blocking: then its reader is waited for here.
    """

    def write(chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            try:
                view = view[os.write(descriptor, view) :]
            except BlockingIOError:
                room = select.poll()
                room.register(descriptor, select.POLLOUT)
                room.poll()

    return write

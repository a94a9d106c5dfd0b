"""Going on over a new connection where one is lost, a few times, for work that does nothing twice."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from ledger.domain.errors import SshFailure
from ledger.domain.ports import Clock, NoAnswer, Workspace

PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""How long to wait before each new connection after one was lost; each byte that arrives begins the row again."""
CUT = "session"
"""The stage of a connection that was there and is gone."""
UNREACHED = "tcp"

T = TypeVar("T")


def going_on(work: Callable[[], T], *, arrived: Callable[[], int], clock: Clock, lost: Callable[[str], None]) -> T:
    """Does the work, and again after a pause where its connection was cut; then a box may be out of reach for a while.

    `arrived` counts what has come through in all tries: while it grows the row of pauses begins again. `lost` is told
    of each connection that was lost. Raises the last `SshFailure`, and at once what else the work raises: also
    `NoAnswer`, for which somebody has waited long enough and which a new connection does not mend.
    """
    tries = before = 0
    while True:
        try:
            return work()
        except NoAnswer:
            raise
        except SshFailure as failure:
            now = arrived()
            if now > before:
                tries, before = 0, now
            is_worth_it = failure.stage == CUT or (failure.stage == UNREACHED and before > 0)
            if not is_worth_it or tries == len(PAUSES_S):
                raise
            lost(failure.message)
            clock.sleep(PAUSES_S[tries])
            tries += 1


@contextmanager
def filled(
    open_workspace: Callable[[], Workspace],
    fill: Callable[[Workspace], T],
    *,
    clock: Clock,
    lost: Callable[[str], None],
) -> Iterator[tuple[Workspace, T]]:
    """A workspace, open while the block lasts, and what `fill` gave that put a tree into it.

    What has arrived before a connection was lost is not sent again: a sync finds it there. Where the workspace cannot
    be opened at first that is raised at once.
    """
    with ExitStack() as stack:
        opened = [stack.enter_context(open_workspace())]

        def once() -> T:
            if not opened:
                opened.append(stack.enter_context(open_workspace()))
            try:
                return fill(opened[0])
            except SshFailure:
                opened.clear()
                stack.close()
                raise

        given = going_on(once, arrived=lambda: 1, clock=clock, lost=lost)
        yield opened[0], given

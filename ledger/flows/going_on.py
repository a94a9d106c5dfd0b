"""Going on over a new connection where one is lost, a few times, for work that does nothing twice."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import TypeVar

from ledger.domain.errors import SshFailure
from ledger.domain.ports import Clock, Workspace

PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""How long to wait before each new connection after one was lost; each byte that arrives begins the row again."""
CUT = "session"
"""The stage of a connection that was there and is gone."""
UNREACHED = "tcp"

T = TypeVar("T")


def going_on(work: Callable[[], T], *, arrived: Callable[[], int], clock: Clock, lost: Callable[[str], None]) -> T:
    """Does the work, and again after a pause where its connection was cut; then a box may be out of reach for a while.

    `arrived` counts what has come through in all tries: while it grows the row of pauses begins again. `lost` is told
    of each connection that was lost. Raises the last `SshFailure`, and at once what else the work raises.
    """
    tries = before = 0
    while True:
        try:
            return work()
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


def filled(
    open_workspace: Callable[[], Workspace],
    fill: Callable[[Workspace], T],
    *,
    clock: Clock,
    lost: Callable[[str], None],
) -> tuple[Workspace, T]:
    """An open workspace for the caller to leave, and what `fill` gave that put a tree into it.

    What has arrived before a connection was lost is not sent again: a sync finds it there.
    """
    opened = 0

    def once() -> tuple[Workspace, T]:
        nonlocal opened
        with ExitStack() as stack:
            workspace = stack.enter_context(open_workspace())
            opened = 1
            given = fill(workspace)
            stack.pop_all()
            return workspace, given

    return going_on(once, arrived=lambda: opened, clock=clock, lost=lost)

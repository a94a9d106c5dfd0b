"""Work that goes on over a new connection: how often, after which pauses, and after what not."""

from collections.abc import Sequence

import pytest

from ledger.domain.errors import SshFailure, SyncFailure
from ledger.domain.ports import Ended, NoAnswer, Workspace
from ledger.flows.going_on import PAUSES_S, filled, going_on
from ledger.flows.work import run
from tests.flows.clock import VirtualClock
from tests.flows.jobs import FakeWorkspace, ended, ends, no_signs_of_life
from tests.flows.test_follow import job
from tests.flows.world import STARTED_AT, Program, World

CUT = SshFailure("the connection was lost.", stage="session")
SILENT = NoAnswer("the box was silent for 900 s", stage="session")
AWAY = SshFailure("nobody answers", stage="tcp")


class Work:
    """Each try has one of these ends: a failure, or how many bytes came through before the connection was cut."""

    def __init__(self, *tries: BaseException | int) -> None:
        self.clock = VirtualClock(STARTED_AT)
        self.lost: list[str] = []
        self._tries = iter(tries)
        self._arrived = 0

    def __call__(self) -> float:
        """How many seconds were waited, all in all."""
        began_s = self.clock.monotonic_s()
        going_on(self._try, arrived=lambda: self._arrived, clock=self.clock, lost=self.lost.append)
        return self.clock.monotonic_s() - began_s

    def _try(self) -> None:
        end = next(self._tries, None)
        if isinstance(end, BaseException):
            raise end
        if end is not None:
            self._arrived += end
            raise CUT


@pytest.mark.parametrize(
    ("tries", "waited_s"),
    [
        ((), 0.0),
        ((0,), 0.5),
        ((0, 0, 0, 0, 0), 15.5),
        ((7, AWAY, AWAY), 3.5),
        ((7, 0, 7, 0), 3.0),
    ],
)
def test_the_pauses_grow_until_something_comes_through(tries: Sequence[BaseException | int], waited_s: float) -> None:
    work = Work(*tries)
    assert (work(), len(work.lost)) == (waited_s, len(tries))


@pytest.mark.parametrize(
    ("tries", "failure", "lost"),
    [
        ((0, 0, 0, 0, 0, 0), CUT, len(PAUSES_S)),
        ((7, AWAY, AWAY, AWAY, AWAY, AWAY), AWAY, len(PAUSES_S)),
        ((AWAY,), AWAY, 0),
        ((7, SILENT), SILENT, 1),
        ((SshFailure("another key", stage="host-key"),), None, 0),
        ((SyncFailure("the disk is full"),), None, 0),
    ],
)
def test_it_ends_with_what_a_new_connection_does_not_mend(
    tries: Sequence[BaseException | int], failure: BaseException | None, lost: int
) -> None:
    work = Work(*tries)
    with pytest.raises((SshFailure, SyncFailure)) as raised:
        work()
    assert (raised.value, len(work.lost)) == (failure or tries[0], lost)


def test_a_workspace_that_could_not_be_filled_is_left_and_the_one_that_was_is_open() -> None:
    workspaces = [FakeWorkspace(), FakeWorkspace()]
    opened = iter(workspaces)

    def fill(workspace: Workspace) -> str:
        if workspace is workspaces[0]:  # type: ignore[comparison-overlap]
            raise CUT
        return "digest"

    def open_next() -> Workspace:
        return next(opened).opened(None, None, None, wait_s=0, waiting=None)  # type: ignore[no-any-return, arg-type]

    with filled(open_next, fill, clock=VirtualClock(STARTED_AT), lost=lambda _why: None) as (workspace, given):
        assert (workspace is workspaces[1], given) == (True, "digest")  # type: ignore[comparison-overlap]
        assert [each.is_open for each in workspaces] == [False, True]
    assert [each.is_open for each in workspaces] == [False, False]


def test_a_workspace_that_cannot_be_opened_at_first_is_not_tried_again() -> None:
    tried: list[str] = []

    def fails() -> Workspace:
        tried.append("open")
        raise CUT

    unused = filled(fails, lambda _workspace: None, clock=VirtualClock(STARTED_AT), lost=tried.append)
    with pytest.raises(SshFailure), unused:
        pass
    assert tried == ["open"]


def test_a_run_whose_tree_was_torn_on_its_way_copies_on_and_begins_once(world: World, program: Program) -> None:
    workspace = FakeWorkspace(ends(7))
    program.memory_box.open = workspace.opened  # type: ignore[method-assign, assignment]
    torn = [CUT]

    def prepare(_workspace: Workspace) -> tuple[str, bool | None]:
        for failure in torn[:1]:
            torn.clear()
            raise failure
        return "d" * 64, False

    done: Ended = run(program.services, job(program), no_signs_of_life, prepare=prepare)

    assert (done, torn) == (ended(7), [])
    assert [each["manifest_digest"] for each in world.payloads("run-started")] == ["d" * 64]

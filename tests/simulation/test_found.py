"""What the simulation has found, shortened: each run broke a rule before the code was mended."""

from providers.emulator.faults import Defer, DropBefore, Fault
from tests.simulation.chooser import Recorded
from tests.simulation.play import Run
from tests.simulation.steps import Decision, Die, Hang, PutFault, Setup, SetWall, Start, Step, Wait
from tests.simulation.witness import Violation

ACQUIRE = Start("p1", "acquire", 1, 30, "newest")
AT_ONCE = ("world", 1)
LATER = ("world", 100)
SENT = ("p1", 14)
"""Where the first program has committed its first `create-sent`."""
UNANSWERED = ("p1", 20)
"""Where it has committed that this had no answer."""


def broken(*happened: tuple[tuple[str, int], Step]) -> Violation | None:
    decisions = [Decision(label, crossing, step) for (label, crossing), step in happened]
    return Run(Recorded(Setup(), decisions)).play().violation


def test_the_flight_of_a_post_that_was_held_up_is_not_counted_from_long_before_it_left() -> None:
    lost = PutFault(Fault(call="create", effects=(DropBefore(),)))

    assert broken((AT_ONCE, lost), (AT_ONCE, ACQUIRE), (SENT, Hang(400))) is None


def test_a_wall_clock_that_is_set_forward_ends_no_request() -> None:
    late = PutFault(Fault(call="create", effects=(Defer(65),)))

    assert broken((AT_ONCE, late), (AT_ONCE, ACQUIRE), (UNANSWERED, SetWall(100))) is None


def test_a_touch_that_changes_a_limit_hides_no_fact_before_it_from_the_replay() -> None:
    touch = Start("p2", "touch", 1, 1, "newest")
    stop = Start("p3", "stop", 1, 0, "newest")

    assert broken((AT_ONCE, ACQUIRE), (LATER, touch), (LATER, stop), (("p3", 2), Die())) is None


def test_a_lease_that_was_written_off_has_left_no_key_behind() -> None:
    write_off = Start("p2", "write-off", 1, 0, "newest")
    not_sent, destroying = ("p1", 15), ("p2", 18)

    meanwhile = ((not_sent, Die()), (LATER, Wait(600)), (LATER, write_off), (destroying, Die()))
    assert broken((AT_ONCE, ACQUIRE), *meanwhile) is None

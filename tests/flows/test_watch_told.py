"""What a watch tells: each trouble once while it lasts, the leases of one kind together, and again when it is over."""

from ledger.domain.errors import Conflict, InDoubt, ProviderFailure, RentrollError
from ledger.domain.plan import Action
from ledger.flows.recover import NOT_BEGUN, Done
from ledger.flows.watch import Looked, Troubles
from tests.flows.world import STARTED_AT

Told = tuple[str, tuple[str, ...], bool]
"""A trouble as it was told: its code, its leases, and whether it began."""


def done(slug: str, action: str = "delete", *, error: RentrollError | None = None, result: str = "completed") -> Done:
    about = Action(lease_id=f"id of {slug}", slug=slug, instance_id=None, action=action, reason="because")
    return Done(action=about, result="failed" if error else result, error=error)


def told(*passes: list[Done], failures: tuple[RentrollError | None, ...] = ()) -> list[list[Told]]:
    """What is told of some passes, each whole but where it has a failure."""
    troubles, told = Troubles(), []
    for number, dones in enumerate(passes):
        failure = failures[number] if number < len(failures) else None
        looked = Looked(
            started_at=STARTED_AT,
            finished_at=STARTED_AT,
            done=dones,
            failure=failure,
            is_whole=not failure or bool(dones),
        )
        told.append([(c.code, c.slugs, c.failure is not None) for c in troubles.changes(looked)])
    return told


FAILED = ProviderFailure("no answer")
DOUBT = InDoubt("not known yet")


def test_the_leases_of_one_trouble_are_told_together_once_and_together_when_it_is_over() -> None:
    failing = [done("a", error=FAILED), done("b", error=FAILED), done("c", error=DOUBT)]
    assert told(failing, failing, [done("a"), done("b"), done("c", error=DOUBT)], []) == [
        [("provider", ("a", "b"), True), ("in-doubt", ("c",), True)],
        [],
        [("provider", ("a", "b"), False)],
        [("in-doubt", ("c",), False)],
    ]


def test_a_lease_that_only_waits_or_was_not_begun_is_still_in_trouble() -> None:
    waiting = [done("a", action="none", result="nothing to do")]
    assert told([done("a", error=FAILED)], waiting, [done("a", result=NOT_BEGUN)], [done("a", error=FAILED)]) == [
        [("provider", ("a",), True)],
        [],
        [],
        [],
    ]


def test_another_trouble_of_the_same_lease_is_told() -> None:
    assert told([done("a", error=FAILED)], [done("a", error=DOUBT)], [done("a")]) == [
        [("provider", ("a",), True)],
        [("in-doubt", ("a",), True)],
        [("in-doubt", ("a",), False)],
    ]


def test_a_pass_that_could_not_look_says_nothing_of_any_lease() -> None:
    failing = [done("a", error=FAILED)]
    assert told(failing, [], failing, failures=(None, Conflict("busy"))) == [
        [("provider", ("a",), True)],
        [("conflict", (), True)],
        [("conflict", (), False)],
    ]


def test_a_trouble_of_the_whole_pass_stands_beside_those_of_leases() -> None:
    passes = ([done("a", error=FAILED)], [done("a")])
    assert told(*passes, failures=(ProviderFailure("no key"),)) == [
        [("provider", (), True), ("provider", ("a",), True)],
        [("provider", ("a",), False), ("provider", (), False)],
    ]

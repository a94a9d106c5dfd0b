"""Every move between phases that the rules allow, as a whole: a new one, or a lost one, is seen here."""

import pytest

from ledger.domain.diagram import Lifecycle, explore

MOVES_BETWEEN_PHASES = """
nothing -> requested: create-requested
requested -> in-doubt: create-sent
requested -> rolling-back: instance-id-bound
requested -> released: released
in-doubt -> provisioning: instance-id-bound
in-doubt -> rolling-back: create-in-doubt, create-rejected, instance-id-bound
in-doubt -> released: released
provisioning -> ready: ready
provisioning -> rolling-back: rollback
provisioning -> released: released
ready -> deleting: delete-requested
ready -> released: released
rolling-back -> deleting: delete-requested
rolling-back -> released: released
deleting -> released: released
released -> rolling-back: instance-id-bound, reopened
"""

FACTS_THAT_STAY = """
requested: acquire-fenced, claim-moved, credential-rebound, stop-requested
in-doubt: acquire-fenced, candidate-tried, claim-moved, create-in-doubt, create-sent, credential-rebound, stop-requested
provisioning: acquire-fenced, candidate-tried, candidates-settled, claim-moved, create-in-doubt, credential-rebound, \
keep-ended, keep-granted, stop-requested
ready: acquire-fenced, candidate-tried, candidates-settled, claim-moved, create-in-doubt, credential-rebound, \
keep-ended, keep-granted, run-finished, run-started, stop-requested, sync-finished, touched
rolling-back: acquire-fenced, candidate-tried, candidates-settled, claim-moved, create-in-doubt, credential-rebound, \
instance-id-bound, run-finished
deleting: acquire-fenced, candidate-tried, candidates-settled, claim-moved, create-in-doubt, credential-rebound, \
delete-accepted, delete-deferred, delete-requested, deletion-confirmed, run-finished
released: candidate-tried, candidates-settled, create-in-doubt, credential-rebound, run-finished
"""


@pytest.fixture(scope="module")
def lifecycle() -> Lifecycle:
    return explore()


def table(text: str) -> dict[str, set[str]]:
    return {where: set(types.split(", ")) for where, types in (line.split(": ") for line in text.strip().splitlines())}


def test_the_phases_are_left_by_these_facts_only(lifecycle: Lifecycle) -> None:
    """The arrows of the diagram, whole."""
    found: dict[str, set[str]] = {}
    for move in lifecycle.moves:
        if move.source is not move.target:
            found.setdefault(f"{move.source or 'nothing'} -> {move.target}", set()).add(move.type)
    assert found == table(MOVES_BETWEEN_PHASES)


def test_these_facts_leave_a_phase_as_it_is(lifecycle: Lifecycle) -> None:
    """What may be recorded in a phase without leaving it, whole."""
    found: dict[str, set[str]] = {}
    for move in lifecycle.moves:
        if move.source is move.target:
            found.setdefault(str(move.source), set()).add(move.type)
    assert found == table(FACTS_THAT_STAY)

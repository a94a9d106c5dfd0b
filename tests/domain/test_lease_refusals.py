"""Every refusal and every event type is met by a rule of the tables."""

from typing import Any

from ledger.domain import events as e
from ledger.domain.refusals import REFUSALS
from tests.domain import histories as h
from tests.domain import test_lease_candidates as candidates
from tests.domain import test_lease_create as create
from tests.domain import test_lease_hold as hold
from tests.domain import test_lease_release as release
from tests.domain import test_lease_reopen as reopen

RULES: list[Any] = [
    rule.values
    for rules in (
        create.REQUEST_RULES,
        create.SEND_RULES,
        create.REPLAY_RULES,
        create.OUTCOME_RULES,
        create.BIND_RULES,
        candidates.CANDIDATE_RULES,
        hold.READY_RULES,
        hold.LIFE_RULES,
        hold.KEEP_RULES,
        hold.HOLDER_RULES,
        release.ROLLBACK_RULES,
        release.DELETE_RULES,
        release.ABSENCE_RULES,
        release.RELEASE_RULES,
        reopen.REOPEN_RULES,
    )
    for rule in rules
]
TYPES = {kind.TYPE for kind in e.LeaseEvent.__args__}


def test_every_refusal_is_met_by_a_rule() -> None:
    """No name in REFUSALS is unused, and no rule expects one that is not there."""
    assert {verdict for *_, verdict in RULES} - {h.RECORDED, h.NOTHING} == set(REFUSALS)


def test_every_event_type_is_recorded_and_refused_by_a_rule() -> None:
    """Each fact has a line in which it may happen, and one in which it may not or is recorded already."""
    recorded = {wanted.TYPE for _, _, wanted, verdict in RULES if verdict == h.RECORDED}
    other = {wanted.TYPE for _, _, wanted, verdict in RULES if verdict != h.RECORDED}
    assert (recorded, other) == (TYPES, TYPES)

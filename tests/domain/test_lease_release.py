"""The rules of giving back: rollback, DELETE, absence and release."""

import pytest
from msgspec.structs import replace

from ledger.domain import events as e
from tests.domain import histories as h
from tests.domain.histories import NOTHING, RECORDED, Past

DELETED_ONCE: Past = (*h.UNSHOWN, (602, h.delete_accepted()))
FIVE = (11, 12, 13, 14, 15)
ALL_SEEN_S = 1 + 540 + 4 * 300
MS_S = 0.001


def looks(*kinds: str, at_s: float = 205) -> e.DeletionConfirmed:
    return e.DeletionConfirmed(
        instance_id=h.BOX,
        credential_binding="c1",
        evidence=tuple(e.Observation(kind=kind, at=h.at(at_s)) for kind in kinds),
    )


ROLLBACK_RULES = [
    pytest.param(h.PROVISIONING, 600, h.rollback(), RECORDED, id="an acquisition that failed is rolled back (RBK-01)"),
    pytest.param(h.ROLLING_BACK, 601, h.rollback(), NOTHING, id="one rollback is one fact"),
    pytest.param(h.DELETING, 601, h.rollback(), NOTHING, id="what is being deleted needs no rollback (RBK-16)"),
    pytest.param(h.KEPT_FAILED, 700, h.rollback(), RECORDED, id="a kept failure is rolled back before its deletion"),
    pytest.param(
        h.KEPT_FAILED,
        86_399,
        replace(h.rollback(), stage="expired"),
        "not-expired",
        id="but not for its end while its keep lasts",
    ),
    pytest.param(
        h.KEPT_FAILED, 86_400, replace(h.rollback(), stage="expired"), RECORDED, id="and for its end from then on"
    ),
    pytest.param(h.READY, 600, h.rollback(), "not-acquiring", id="a ready box is deleted, not rolled back"),
    pytest.param(h.UNANSWERED, 600, h.rollback(), "not-acquiring", id="without a box there is nothing to roll back"),
    pytest.param(h.RELEASED, 600, h.rollback(), "released", id="a released lease is not rolled back (RDY-08)"),
]

DELETE_RULES = [
    pytest.param(h.READY, 200, h.delete_requested(), RECORDED, id="a ready box is deleted on request (REL-02)"),
    pytest.param(h.KEPT, 200, h.delete_requested(), RECORDED, id="a kept box too (KEEP-08)"),
    pytest.param(h.DELETING, 201, h.delete_requested(), NOTHING, id="one announcement makes one DELETE"),
    pytest.param(h.READY, 200, h.delete_requested(2), "wrong-attempt", id="DELETEs are numbered from 1"),
    pytest.param(
        h.READY, 200, h.delete_requested(instance_id=h.OTHER_BOX), "bound-to-another", id="not another's box (REL-05)"
    ),
    pytest.param(h.UNANSWERED, 200, h.delete_requested(), "may-exist", id="a box not known is not deleted (CRE-34)"),
    pytest.param(h.PROVISIONING, 200, h.delete_requested(), "roll-back-first", id="an acquisition rolls back first"),
    pytest.param(h.ROLLING_BACK, 601, h.delete_requested(reason="rollback"), RECORDED, id="then its box is deleted"),
    pytest.param(h.RELEASED, 300, h.delete_requested(2), "released", id="a released lease deletes nothing"),
    pytest.param(h.READY, 1_919, h.delete_requested(reason="expired"), "not-expired", id="a lease has its time"),
    pytest.param(h.READY, 1_920, h.delete_requested(reason="expired"), RECORDED, id="a lease that ended is deleted"),
    pytest.param(h.KEPT, 9_000, h.delete_requested(reason="expired"), "not-expired", id="keep holds it off (KEEP-06)"),
    pytest.param(
        (*h.READY, (1_910, h.touched())),
        1_920,
        h.delete_requested(reason="expired"),
        "not-expired",
        id="a renewed lease survives (CLN-16, PEER-27)",
    ),
    pytest.param(
        (*h.READY, (9_000, h.moved())),
        8_999,
        h.delete_requested(reason="expired"),
        "not-expired",
        id="a clock behind the newest fact expires nothing",
    ),
    pytest.param(h.DELETING, 202, h.delete_requested(2), RECORDED, id="a DELETE whose sender died is sent again"),
    pytest.param(h.DEFERRED, 202, h.delete_requested(2), RECORDED, id="a DELETE that failed is sent again (DEL-10)"),
    pytest.param(h.ACCEPTED, 260, h.delete_requested(2), "settling", id="an accepted DELETE settles first (DEL-03)"),
    pytest.param(h.ACCEPTED, 261, h.delete_requested(2), RECORDED, id="after 60 s it is sent again (W-02)"),
    pytest.param(h.ACCEPTED, 100, h.delete_requested(2), RECORDED, id="a clock set back does not hold it off"),
    pytest.param(h.CONFIRMED, 300, h.delete_requested(2), "settled", id="a box that is gone is not deleted"),
    pytest.param(h.DELETING, 201, h.delete_accepted(), RECORDED, id="the answer to a DELETE is recorded"),
    pytest.param(h.ACCEPTED, 202, h.delete_accepted(), NOTHING, id="one answer is one fact"),
    pytest.param(h.ACCEPTED, 202, h.delete_deferred(), NOTHING, id="what was accepted is not deferred"),
    pytest.param(
        (*h.DEFERRED, (202, h.delete_requested(2))), 203, h.delete_accepted(1), NOTHING, id="a late answer says nothing"
    ),
    pytest.param(h.RELEASED, 300, h.delete_accepted(), NOTHING, id="nor does one after the release"),
    pytest.param(h.DELETING, 201, h.delete_deferred(), RECORDED, id="a failed DELETE is recorded (DEL-09)"),
    pytest.param(h.DELETING, 201, h.delete_accepted(2), "wrong-attempt", id="an answer belongs to an announced DELETE"),
    pytest.param(
        h.DELETING, 201, h.delete_accepted(instance_id=h.OTHER_BOX), "bound-to-another", id="and to the bound box"
    ),
]

ABSENCE_RULES = [
    pytest.param(h.ACCEPTED, 210, h.confirmed(205), RECORDED, id="404, an inventory without it, 404: it is gone"),
    pytest.param(h.DELETING, 210, h.confirmed(205), RECORDED, id="absence needs no answer to the DELETE (DEL-09)"),
    pytest.param(h.CONFIRMED, 220, h.confirmed(215), NOTHING, id="one absence is one fact"),
    pytest.param(h.READY, 210, h.confirmed(205), "not-deleting", id="absence follows a delete-requested"),
    pytest.param(h.RELEASED, 300, h.confirmed(299), "released", id="a released box need not be gone again"),
    pytest.param(
        h.ACCEPTED, 210, h.confirmed(205, instance_id=h.OTHER_BOX), "bound-to-another", id="absence is of the bound box"
    ),
    pytest.param(
        h.ACCEPTED,
        210,
        replace(h.confirmed(205), credential_binding="c2"),
        "rebound",
        id="what another key does not see proves nothing (CRD-03)",
    ),
    pytest.param(h.ACCEPTED, 210, looks("get-404"), "no-evidence", id="one 404 is no proof"),
    pytest.param(h.ACCEPTED, 210, looks("get-404", "get-404", "get-404"), "no-evidence", id="nor are three (RBK-13)"),
    pytest.param(h.ACCEPTED, 210, looks(), "no-evidence", id="nor is nothing"),
    pytest.param(
        h.ACCEPTED,
        210,
        e.DeletionConfirmed(
            instance_id=h.BOX,
            credential_binding="c1",
            evidence=h.confirmed(205).evidence[1:] + h.confirmed(205).evidence[:1],
        ),
        "no-evidence",
        id="nor are looks in another order",
    ),
    pytest.param(
        h.ACCEPTED,
        210,
        e.DeletionConfirmed(
            instance_id=h.BOX,
            credential_binding="c1",
            evidence=(*h.confirmed(209).evidence[:1], *h.confirmed(205).evidence[1:]),
        ),
        "no-evidence",
        id="nor are looks whose times are out of order",
    ),
    pytest.param(DELETED_ONCE, 1_801, h.confirmed(1_800), "no-evidence", id="an unseen box may still appear (W-05)"),
    pytest.param(DELETED_ONCE, 1_810, h.confirmed(1_802), RECORDED, id="30 min after it was bound it would have"),
    pytest.param(DELETED_ONCE, 9_000, h.confirmed(1_800), "no-evidence", id="the looks themselves are that late"),
    pytest.param(h.UNSHOWN, 9_000, h.confirmed(8_990), "no-evidence", id="and one DELETE was sent for it"),
    pytest.param(
        (*h.UNSHOWN, (602, h.delete_deferred(status=None))),
        9_000,
        h.confirmed(8_990),
        "no-evidence",
        id="a DELETE that got no answer may not have been sent",
    ),
    pytest.param(
        (*h.UNSHOWN, (602, h.delete_deferred(status=404))),
        9_000,
        h.confirmed(8_990),
        RECORDED,
        id="a DELETE that was answered 404 was sent",
    ),
    pytest.param(
        (*h.UNSHOWN, (602, h.delete_deferred(status=404)), (700, h.delete_requested(2, shown=True))),
        710,
        h.confirmed(705),
        RECORDED,
        id="once a read has shown it its absence counts at once",
    ),
]

RELEASE_RULES = [
    pytest.param(h.CONFIRMED, 211, h.released("completed"), RECORDED, id="a box that is gone is released"),
    pytest.param(h.RELEASED, 212, h.released("completed"), NOTHING, id="a lease ends once"),
    pytest.param(h.RELEASED, 212, h.released("cancelled"), "released", id="and in one way"),
    pytest.param(h.CONFIRMED, 211, h.released("rolled-back"), "may-exist", id="once ready is not rolled back"),
    pytest.param(
        (*h.ROLLING_BACK, (601, h.delete_requested(reason="rollback")), (602, h.confirmed(601))),
        603,
        h.released("rolled-back"),
        RECORDED,
        id="never ready is rolled back",
    ),
    pytest.param(h.ACCEPTED, 211, h.released("completed"), "may-exist", id="accepted is not deleted (DEL-01)"),
    pytest.param(h.READY, 211, h.released("completed"), "may-exist", id="a ready box is not just forgotten"),
    pytest.param(h.REJECTED, 3, h.released("rejected"), RECORDED, id="a rejected create is over (CRE-11)"),
    pytest.param(h.UNANSWERED, 40, h.released("rejected"), "may-exist", id="one in doubt is not rejected"),
    pytest.param(
        (*h.REJECTED, (9, h.bound())), 10, h.released("rejected"), "may-exist", id="nor one whose box came up after all"
    ),
    pytest.param(h.REQUESTED, 9, h.released("cancelled"), RECORDED, id="what was never sent is cancelled (CRE-33)"),
    pytest.param(h.UNSENT, 9, h.released("cancelled"), RECORDED, id="what never left is cancelled (W-12)"),
    pytest.param(h.SENT, 9, h.released("cancelled"), "may-exist", id="an announced POST is not cancelled"),
    pytest.param(
        h.UNANSWERED,
        ALL_SEEN_S,
        h.released("never-created", inventories=FIVE),
        RECORDED,
        id="five spaced inventories after the window show that nothing was made (W-01)",
    ),
    pytest.param(
        h.UNANSWERED,
        ALL_SEEN_S - 1,
        h.released("never-created", inventories=FIVE),
        "may-exist",
        id="five cannot be spaced sooner",
    ),
    pytest.param(
        h.UNANSWERED,
        9_000,
        h.released("never-created", inventories=(11, 12, 13, 14, 14)),
        "may-exist",
        id="one inventory counts once",
    ),
    pytest.param(
        (*h.UNANSWERED, (9_000, h.stop_requested())),
        8_999,
        h.released("never-created", inventories=FIVE),
        "may-exist",
        id="a clock behind the newest fact shows no absence",
    ),
    pytest.param(
        h.PROVISIONING, 9_000, h.released("never-created", inventories=FIVE), "may-exist", id="a bound box was created"
    ),
    pytest.param(
        (*h.TRIED, (900, h.tried(verdict="accepted"))),
        9_000,
        h.released("never-created", inventories=FIVE),
        "may-exist",
        id="so was one that has accepted its key, bound or not",
    ),
    pytest.param(
        (*h.TRIED, (900, h.tried(verdict="unproven"))),
        9_000,
        h.released("never-created", inventories=FIVE),
        RECORDED,
        id="any other answer leaves it to the inventories",
    ),
    pytest.param(
        h.UNANSWERED,
        541,
        h.released("written-off", reason="console"),
        RECORDED,
        id="a person may write it off (rule 7)",
    ),
    pytest.param(
        h.UNANSWERED, 540, h.released("written-off", reason="console"), "may-exist", id="not inside the window"
    ),
    pytest.param(
        h.UNANSWERED, -9, h.released("written-off", reason="console"), RECORDED, id="a wrong clock leaves that way open"
    ),
    pytest.param(h.UNANSWERED, 541, h.released("written-off"), "no-evidence", id="writing off needs a reason"),
    pytest.param(
        h.DEFERRED, 541, h.released("written-off", reason="key revoked"), RECORDED, id="a box that no key deletes"
    ),
    pytest.param(
        h.DEFERRED,
        541 - MS_S,
        h.released("written-off", reason="key revoked"),
        "may-exist",
        id="not inside the window either",
    ),
    pytest.param(
        h.DEFERRED, 1 - MS_S, h.released("written-off", reason="x"), RECORDED, id="nor is it stuck by a wrong clock"
    ),
    pytest.param(
        h.REQUESTED, 9_000, h.released("written-off", reason="x"), "may-exist", id="what was never sent is cancelled"
    ),
    pytest.param(
        (*h.TWIN, (1, h.bound(evidence="key-proof", attempt=None))),
        1,
        h.released("written-off", reason="key revoked"),
        RECORDED,
        id="a twin was never sent: it is written off at any time",
    ),
    pytest.param(
        h.TWIN, 9_000, h.released("written-off", reason="x"), "may-exist", id="but not before its box is known"
    ),
    pytest.param(h.CONFIRMED, 211, h.released("lost"), "no-evidence", id="a lease ends in one of six ways"),
]


@pytest.mark.parametrize(
    ("past", "when_s", "wanted", "verdict"),
    [*ROLLBACK_RULES, *DELETE_RULES, *ABSENCE_RULES, *RELEASE_RULES],
)
def test_a_rule_of_giving_back(past: Past, when_s: float, wanted: e.LeaseEvent, verdict: str) -> None:
    """Each line is one rule: given a past, wanting this fact at that second comes to this verdict."""
    assert h.verdict(h.tell(past), wanted, h.at(when_s)) == verdict

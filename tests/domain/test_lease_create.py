"""The rules of asking, sending and binding: one line a rule, with the past, the wanted fact and the verdict."""

import pytest
from msgspec.structs import replace

from ledger.domain import events as e
from ledger.domain.ending import end_of
from ledger.domain.errors import CredentialsFailure
from ledger.domain.lease import decide
from ledger.domain.refusals import Refused
from ledger.domain.state import Lease, Outcome, Phase
from ledger.domain.windows import window_open
from tests.domain import histories as h
from tests.domain.histories import NOTHING, RECORDED, Past

DAY_S = 86_400

REQUEST_RULES = [
    pytest.param((), 0, h.requested(), RECORDED, id="a lease begins with its request"),
    pytest.param(h.REQUESTED, 0, h.requested(), NOTHING, id="the same request again is recorded already"),
    pytest.param(h.REQUESTED, 0, h.requested(slug="bold-bay"), "exists", id="a lease id is used once"),
    pytest.param((), 0, h.requested(ttl_ms=0), "bad-limits", id="a TTL is longer than zero (CFG-19)"),
    pytest.param((), 0, h.requested(idle_timeout_ms=-1), "bad-limits", id="idle time is longer than zero (CFG-19)"),
    pytest.param((), 0, h.requested(ttl_ms=4_000 * 86_400_000), "bad-limits", id="a TTL stays inside the calendar"),
    pytest.param((), 0, h.requested(kept=h.keep()), RECORDED, id="a keep may be asked for from the beginning"),
    pytest.param((), 0, h.requested(kept=h.keep(reason=" ")), "bad-keep", id="a requested keep needs a reason"),
    pytest.param((), 0, h.requested(kept=h.keep(0)), "bad-keep", id="a requested keep ends in the future"),
    pytest.param((), 0, h.requested(kept=h.keep(7 * DAY_S)), RECORDED, id="a keep of seven days is the longest"),
    pytest.param((), 0, h.requested(kept=h.keep(7 * DAY_S + 1)), "bad-keep", id="a keep is not longer than 7 days"),
    pytest.param((), 0, h.stop_requested(), "no-such-lease", id="nothing happens to a lease never asked for"),
]

SEND_RULES = [
    pytest.param(h.REQUESTED, 1, h.sent(), RECORDED, id="the first POST is announced before it leaves (CRE-03)"),
    pytest.param(h.SENT, 1, h.sent(), NOTHING, id="one announcement makes one POST (CRE-24)"),
    pytest.param(h.REQUESTED, 1, h.sent(2), "wrong-attempt", id="attempts are numbered from 1"),
    pytest.param(h.REQUESTED, 1, h.sent(0), "wrong-attempt", id="there is no attempt 0"),
    pytest.param(h.UNANSWERED, 200, h.sent(3, up_s=200), "wrong-attempt", id="no attempt is skipped"),
    pytest.param(h.REQUESTED, 1, h.sent(acquirer=h.RIVAL), "fenced", id="only the acquirer may POST"),
    pytest.param(h.REQUESTED, 1021, h.sent(), "past-deadline", id="a hung acquirer may not POST past its deadline"),
    pytest.param(h.REQUESTED, 1020, h.sent(), RECORDED, id="the deadline itself is still inside"),
    pytest.param(
        (*h.REQUESTED, (1, h.stop_requested())),
        2,
        h.sent(),
        "stop-requested",
        id="a stopped lease sends nothing (PEER-03)",
    ),
    pytest.param(
        ((0, h.requested(ttl_ms=60_000)),), 60, h.sent(), "past-end", id="a dead lease asks for no box (W-18)"
    ),
    pytest.param(h.TWIN, 1, h.sent(), "settled", id="nothing is ever created for a twin"),
    pytest.param(
        (*h.REQUESTED, (1, h.rebound())), 2, h.sent(), "rebound", id="a create goes out under the key it was asked with"
    ),
]

REPLAY_RULES = [
    pytest.param(h.SENT, 90, h.sent(2, up_s=90), "in-flight", id="a POST without an outcome may run for 90 s"),
    pytest.param(h.UNANSWERED, 90, h.sent(2, up_s=90), "in-flight", id="a torn POST may run for 90 s"),
    pytest.param(h.UNANSWERED, 91, h.sent(2, up_s=91), RECORDED, id="90 s after it left a torn POST is over (CRE-08)"),
    pytest.param(h.SENT, 91, h.sent(2, up_s=91), RECORDED, id="a POST whose sender died is replayed (CRE-15)"),
    pytest.param(h.ANSWERED, 3, h.sent(2, up_s=3), RECORDED, id="an answered POST is over at once"),
    pytest.param(h.UNANSWERED, 540, h.sent(2, up_s=540), RECORDED, id="the window is open until nine minutes"),
    pytest.param(h.UNANSWERED, 541, h.sent(2, up_s=541), "window-closed", id="it closes at nine minutes (CRE-17)"),
    pytest.param(h.UNANSWERED, 100, h.sent(2, up_s=541), "window-closed", id="the clock through sleep closes it too"),
    pytest.param(h.UNANSWERED, 100, h.sent(2, up_s=0), "window-closed", id="uptime never runs backwards"),
    pytest.param(
        h.UNANSWERED, 100, h.sent(2, up_s=100, boot_id=h.OTHER_BOOT), "window-closed", id="another boot never replays"
    ),
    pytest.param(
        ((0, h.requested()), (1, h.sent(date_s=1)), (2, h.in_doubt(answered=True))),
        100,
        h.sent(2, up_s=100, date_s=541),
        "window-closed",
        id="the provider's Date closes it too",
    ),
    pytest.param(
        ((0, h.requested()), (1, h.sent(date_s=1)), (2, h.in_doubt(answered=True))),
        100,
        h.sent(2, up_s=100),
        RECORDED,
        id="a provider that sends no Date has no say",
    ),
    pytest.param(
        (*h.ANSWERED, (300, h.stop_requested())),
        299,
        h.sent(2, up_s=299),
        "window-closed",
        id="a clock behind the newest fact never replays (W-15)",
    ),
    pytest.param(
        (*h.ANSWERED, (400, h.stop_requested()), (100, h.fenced(deadline_s=900))),
        101,
        h.sent(2, up_s=101, acquirer=h.RIVAL),
        "window-closed",
        id="a fact from a clock set back does not make the past newer (W-15)",
    ),
    pytest.param(
        (*h.ANSWERED, (3, h.sent(2, up_s=3)), (4, h.in_doubt(2, sent=False))),
        5,
        h.sent(3, up_s=5),
        RECORDED,
        id="a replay that sent nothing is over",
    ),
    pytest.param(
        (*h.ANSWERED, (50, h.stop_requested())),
        60,
        h.sent(2, up_s=60),
        RECORDED,
        id="a stop does not forbid the replay that learns the id",
    ),
    pytest.param(h.FENCED, 101, h.sent(2, up_s=101), "fenced", id="a fenced acquirer never replays"),
    pytest.param(
        h.FENCED, 101, h.sent(2, up_s=101, acquirer=h.RIVAL), RECORDED, id="who took over may replay on the same boot"
    ),
    pytest.param(
        (*h.ANSWERED, (50, h.rebound())), 60, h.sent(2, up_s=60), "rebound", id="no replay under another key (CRE-23)"
    ),
    pytest.param(
        h.ANSWERED,
        60,
        replace(h.sent(2, up_s=60), credential_binding="c2"),
        "rebound",
        id="a key that was never proven replays nothing (CRE-23)",
    ),
    pytest.param(
        h.ANSWERED,
        60,
        replace(h.sent(2, up_s=60), request_digest="d2"),
        "request-changed",
        id="no replay with another body (CRE-22)",
    ),
    pytest.param(
        (*h.ANSWERED, (50, h.rebound()), (51, h.rebound("c1"))),
        60,
        h.sent(2, up_s=60),
        RECORDED,
        id="the key that asked may replay again once it is back",
    ),
    pytest.param(h.PROVISIONING, 100, h.sent(2, up_s=100), "already-bound", id="a bound lease sends nothing (CRE-26)"),
    pytest.param(h.REJECTED, 3, h.sent(2, up_s=3), "settled", id="a rejected create is never replayed (CRE-11)"),
    pytest.param(h.UNSENT, 3, h.sent(2, up_s=3), "settled", id="a create of which nothing left is over (W-12)"),
    pytest.param(
        h.WRITTEN_OFF, 3_601, h.sent(2, up_s=3_601), "released", id="a released lease sends nothing (PEER-03)"
    ),
]

OUTCOME_RULES = [
    pytest.param(h.SENT, 2, h.rejected(), RECORDED, id="a refused first attempt made nothing (CRE-10)"),
    pytest.param(h.REJECTED, 3, h.rejected(), NOTHING, id="one rejection is one fact"),
    pytest.param(h.REQUESTED, 2, h.rejected(), "wrong-attempt", id="an outcome belongs to an announced attempt"),
    pytest.param(h.UNANSWERED, 40, h.rejected(), "may-exist", id="an attempt in doubt is not rejected later"),
    pytest.param(
        (*h.ANSWERED, (3, h.sent(2, up_s=3))),
        4,
        h.rejected(2),
        "may-exist",
        id="a refused replay settles nothing (CRE-12)",
    ),
    pytest.param(
        (*h.SENT, (91, h.sent(2, up_s=91))),
        92,
        h.rejected(),
        "may-exist",
        id="a first attempt that was replayed settles nothing",
    ),
    pytest.param(
        (*h.SENT, (700, h.bound(evidence="key-proof", attempt=None))),
        701,
        h.rejected(),
        "already-bound",
        id="a late rejection does not undo a bound box",
    ),
    pytest.param(
        (*h.SENT, (3_600, h.released("written-off", reason="gone"))),
        3_601,
        h.rejected(),
        "released",
        id="a late rejection does not move a released lease",
    ),
    pytest.param(h.SENT, 31, h.in_doubt(), RECORDED, id="an attempt without a reliable outcome is in doubt"),
    pytest.param(h.UNANSWERED, 31, h.in_doubt(), NOTHING, id="one doubt is one fact"),
    pytest.param(h.REJECTED, 3, h.in_doubt(), NOTHING, id="a settled attempt is not in doubt again"),
    pytest.param(h.SENT, 31, h.in_doubt(2), "wrong-attempt", id="doubt belongs to an announced attempt"),
    pytest.param(h.SENT, 31, h.in_doubt(0), "wrong-attempt", id="no attempt is numbered 0"),
]

BIND_RULES = [
    pytest.param(h.SENT, 2, h.bound(), RECORDED, id="an answered id is bound"),
    pytest.param(h.PROVISIONING, 3, h.bound(), NOTHING, id="the same id is bound once"),
    pytest.param(h.PROVISIONING, 3, h.bound(h.OTHER_BOX), "bound-to-another", id="binding never switches (CRE-32)"),
    pytest.param(h.REQUESTED, 2, h.bound(), "never-sent", id="without a create there is no box to bind (DEL-18)"),
    pytest.param(h.SENT, 2, h.bound(h.OLD_BOX), "not-new", id="a box that was there before is not ours"),
    pytest.param(h.SENT, 2, h.bound("  "), "no-evidence", id="a blank id names no box (API-03)"),
    pytest.param(h.TWIN, 1, h.bound(attempt=None, evidence="key-proof"), RECORDED, id="a twin's box is bound unsent"),
    pytest.param(h.UNSENT, 3, h.bound(), RECORDED, id="a box of a create that we thought unsent is bound all the same"),
    pytest.param(h.REJECTED, 3, h.bound(), RECORDED, id="a box of a rejected create is bound all the same"),
    pytest.param(h.FENCED, 101, h.bound(), RECORDED, id="an id that a fenced acquirer learnt is bound"),
]


@pytest.mark.parametrize(
    ("past", "when_s", "wanted", "verdict"),
    [*REQUEST_RULES, *SEND_RULES, *REPLAY_RULES, *OUTCOME_RULES, *BIND_RULES],
)
def test_a_rule_of_the_create(past: Past, when_s: float, wanted: e.LeaseEvent, verdict: str) -> None:
    """Each line is one rule: given a past, wanting this fact at that second comes to this verdict."""
    assert h.verdict(h.tell(past), wanted, h.at(when_s)) == verdict


@pytest.mark.holds("KEEP-07", "W-37")
@pytest.mark.parametrize(
    ("past", "late", "phase"),
    [
        pytest.param(h.SENT, h.bound(), Phase.PROVISIONING, id="answered to its acquirer"),
        pytest.param(h.SENT, h.bound(acquirer=h.RIVAL), Phase.ROLLING_BACK, id="answered to a stranger"),
        pytest.param(h.FENCED, h.bound(), Phase.ROLLING_BACK, id="answered to a fenced acquirer"),
        pytest.param(h.FENCED, h.bound(acquirer=h.RIVAL), Phase.ROLLING_BACK, id="answered to who took over"),
        pytest.param(h.UNANSWERED, h.bound(evidence="key-proof", attempt=None), Phase.ROLLING_BACK, id="key proof"),
        pytest.param(h.UNANSWERED, h.bound(evidence="spool"), Phase.ROLLING_BACK, id="spooled"),
        pytest.param((*h.SENT, (2, h.stop_requested())), h.bound(), Phase.ROLLING_BACK, id="stopped meanwhile (W-42)"),
        pytest.param(h.TWIN, h.bound(evidence="key-proof", attempt=None), Phase.ROLLING_BACK, id="a twin"),
        pytest.param(h.REJECTED, h.bound(), Phase.ROLLING_BACK, id="rejected"),
        pytest.param(h.UNSENT, h.bound(), Phase.ROLLING_BACK, id="thought unsent"),
        pytest.param(h.WRITTEN_OFF, h.bound(), Phase.ROLLING_BACK, id="written off"),
        pytest.param(h.NEVER_CREATED, h.bound(), Phase.ROLLING_BACK, id="released as never created"),
        pytest.param(h.REJECTED_RELEASED, h.bound(), Phase.ROLLING_BACK, id="released as rejected"),
    ],
)
def test_an_id_is_taken_in_every_phase_and_worked_on_only_by_who_asked(
    past: Past, late: e.InstanceIdBound, phase: Phase
) -> None:
    """A learnt id is never refused; only one answered to the unfenced acquirer is worked on."""
    lease = h.tell((*past, (5_000, late)))
    assert (lease.phase, lease.instance_id, lease.outcome, lease.released_at, lease.keep) == (
        phase,
        h.BOX,
        None,
        None,
        None,
    )


def test_the_window_is_open_before_anything_was_sent() -> None:
    """Without a first POST there is nothing whose age counts."""
    assert window_open(h.tell(h.REQUESTED), now=h.at(9_999), boot_id="any", uptime_ms=0, provider_date=None) is True


@pytest.mark.parametrize(
    ("past", "end"),
    [
        pytest.param((), None, id="a lease never asked for has no end"),
        pytest.param(h.REQUESTED, Outcome.CANCELLED, id="nothing was sent (CRE-33)"),
        pytest.param(h.UNSENT, Outcome.CANCELLED, id="no byte left (W-12)"),
        pytest.param(h.TWIN, Outcome.CANCELLED, id="an unbound twin"),
        pytest.param(h.REJECTED, Outcome.REJECTED, id="rejected (CRE-11)"),
        pytest.param(h.SENT, None, id="in doubt"),
        pytest.param(h.PROVISIONING, None, id="bound"),
        pytest.param(h.DELETING, None, id="deletion announced"),
        pytest.param(h.ACCEPTED, None, id="deletion accepted (DEL-01)"),
        pytest.param(h.CONFIRMED, Outcome.COMPLETED, id="gone and once ready (DEL-13)"),
        pytest.param(
            (*h.ROLLING_BACK, (601, h.delete_requested(reason="rollback")), (602, h.confirmed(601))),
            Outcome.ROLLED_BACK,
            id="gone and never ready",
        ),
        pytest.param(h.WRITTEN_OFF, None, id="written off, so nothing is proven"),
    ],
)
def test_how_a_lease_ends_is_told_by_its_facts(past: Past, end: Outcome | None) -> None:
    """`end_of` names the outcome that is proven, and `decide` takes exactly that one."""
    lease = h.tell(past)
    assert end_of(lease) == end
    if end is not None:
        assert h.verdict(lease, h.released(end), h.at(9_000)) == RECORDED


def test_a_refusal_names_the_lease_and_maps_to_the_error_table() -> None:
    """A refusal reads as one sentence and carries the code, exit code and remedy of its row."""
    lease: Lease = h.tell((*h.ANSWERED, (50, h.rebound())))
    with pytest.raises(Refused) as refusal:
        decide(lease, h.sent(2, up_s=60), h.at(60))
    told = refusal.value
    assert (str(told), told.name, told.code, told.exit_code, told.remedy, told.lease_id) == (
        "lease amber-acre: its create goes out only under the key that asked for it",
        "rebound",
        "credentials",
        3,
        CredentialsFailure.remedy,
        h.LEASE_ID,
    )

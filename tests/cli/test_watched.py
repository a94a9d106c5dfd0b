"""What is told of a ledger's watch: by a new box, by `doctor`, and from the two files that both read."""

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from cli.watched import judged
from ledger.domain.claim import Claim
from ledger.domain.errors import Conflict, UsageFailure
from ledger.store.watch_file import LastPass, WatchLock, read_last_pass, watching, write_last_pass
from tests.cli.running import Like, Rentroll, until

NOW = datetime.fromisoformat("2026-08-21T12:00:00Z")
LAST = LastPass(
    pid=7,
    host="desk",
    started_at=NOW - timedelta(seconds=13),
    finished_at=NOW - timedelta(seconds=12),
    interval_seconds=60,
    scope="here",
    credential_binding="ours",
)
TIMER = replace(LAST, once=True)
LATE = replace(LAST, finished_at=NOW - timedelta(seconds=241))
FAILED = replace(LAST, failure="credentials: no key")
HOLDER = "pid 7 on desk"
CLAIM = Claim._make([None] * len(Claim._fields))._replace(scope="here", credential_binding="ours")
OTHER_KEY = CLAIM._replace(credential_binding="theirs")
OTHER_PLACE = CLAIM._replace(scope="there")


@pytest.mark.holds("PEER-25")
@pytest.mark.parametrize(
    ("who", "last", "claim", "is_so", "sentence"),
    [
        pytest.param(None, None, None, False, "nobody watches this ledger", id="never"),
        pytest.param(None, LAST, None, False, "nobody watches this ledger (last pass 12s ago)", id="dead"),
        pytest.param(HOLDER, LAST, None, True, "watched: last pass 12s ago, by pid 7 on desk", id="alive"),
        pytest.param(HOLDER, LAST, CLAIM, True, "watched: last pass 12s ago, by pid 7 on desk", id="alive, its own"),
        pytest.param(
            HOLDER, None, CLAIM, True, "watched by pid 7 on desk, which has not finished a pass yet", id="just begun"
        ),
        pytest.param(
            "pid 8 on desk", LAST, CLAIM, True, "watched by pid 8 on desk, which has not finished a pass yet",
            id="just begun after another",
        ),
        pytest.param(
            HOLDER, LATE, None, False, "the watch of this ledger hangs (pid 7 on desk; last pass 4m ago)", id="hangs"
        ),
        pytest.param(None, TIMER, CLAIM, True, "watched: last pass 12s ago, by a timer every 1m", id="a timer"),
        pytest.param(
            None, replace(LATE, once=True), None, False, "nobody watches this ledger (last pass 4m ago)",
            id="a timer that stopped",
        ),
        pytest.param(
            HOLDER, FAILED, CLAIM, False, "the watch of this ledger fails (last pass 12s ago): credentials: no key",
            id="fails",
        ),
        pytest.param(
            HOLDER, replace(LAST, trouble="1 of its leases failed, the first with provider: no"), CLAIM, True,
            "watched: last pass 12s ago, by pid 7 on desk; 1 of its leases failed, the first with provider: no",
            id="one lease fails",
        ),
        pytest.param(
            HOLDER, LAST, OTHER_KEY, False, "the watch of this ledger uses another endpoint or key (last pass 12s ago)",
            id="another key",
        ),
        pytest.param(
            HOLDER, LAST, OTHER_PLACE, False,
            "the watch of this ledger uses another endpoint or key (last pass 12s ago)",
            id="another endpoint",
        ),
        pytest.param(
            HOLDER, replace(LAST, scope=None, credential_binding=None), CLAIM, True,
            "watched: last pass 12s ago, by pid 7 on desk", id="no ledger at its last pass",
        ),
        pytest.param(
            HOLDER, replace(LAST, finished_at=NOW + timedelta(hours=1)), None, True,
            "watched: last pass 0s ago, by pid 7 on desk", id="a clock that was set back",
        ),
    ],
)  # fmt: skip
def test_what_the_files_say(who: str | None, last: LastPass, claim: Claim | None, is_so: bool, sentence: str) -> None:
    found = judged(who, last, NOW, claims=[claim] if claim else [])
    assert (found.is_so, found.sentence, found.hint is None) == (is_so, sentence, is_so)


@pytest.mark.parametrize(
    ("who", "last", "claims", "hint"),
    [
        (None, None, [], "no lease ends by itself: put `rentroll watch` under systemd or cron"),
        (None, LAST, [], "no lease ends by itself: put `rentroll watch` under systemd or cron"),
        (HOLDER, LATE, [], "end that process and start the watch anew"),
        (HOLDER, FAILED, [], "its next pass tries again; what it writes to stderr says more"),
        (
            HOLDER, LAST, [OTHER_KEY],
            "start the watch with their endpoint and key; `rentroll rotate` takes leases of another key over",
        ),
    ],
    ids=["never", "dead", "hangs", "fails", "another key"],
)  # fmt: skip
def test_only_where_nobody_watches_a_watch_is_to_be_put_up(
    who: str | None, last: LastPass | None, claims: list[Claim], hint: str
) -> None:
    assert judged(who, last, NOW, claims=claims).hint == hint


def test_of_several_leases_it_is_counted_how_many_the_watch_does_not_reach() -> None:
    assert judged(HOLDER, LAST, NOW, claims=[CLAIM, OTHER_KEY, OTHER_PLACE]).sentence == (
        "the watch of this ledger uses another endpoint or key than 2 of 3 open leases (last pass 12s ago)"
    )


def test_a_note_is_read_as_it_was_written_and_only_by_its_owner(tmp_path: Path) -> None:
    ledger = str(tmp_path / "folder" / "ledger.db")
    assert read_last_pass(ledger) is None
    for last in (LAST, TIMER, FAILED):
        write_last_pass(ledger, last)
        assert read_last_pass(ledger) == last
    assert [path.stat().st_mode & 0o777 for path in (Path(f"{ledger}.watch"), Path(ledger).parent)] == [0o600, 0o700]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"pid": "x"}'])
def test_a_damaged_note_is_none(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "ledger.db.watch").write_bytes(damage)
    assert read_last_pass(str(tmp_path / "ledger.db")) is None


def test_one_lock_for_a_ledger_whoever_asks_meanwhile(tmp_path: Path) -> None:
    ledger = str(tmp_path / "new" / "ledger.db")
    me = f"pid {os.getpid()} on {os.uname().nodename}"
    assert watching(ledger) is None
    with WatchLock(ledger):
        assert watching(ledger) == me
        with pytest.raises(Conflict, match=f"watched already, by {me}"), WatchLock(ledger):
            pass
        assert watching(ledger) == me
    assert watching(ledger) is None
    with WatchLock(ledger):
        assert watching(ledger) == me


def test_a_folder_that_is_closed_to_us_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UsageFailure, match="cannot be opened: file exists"),
        WatchLock(str(tmp_path / "file" / "x")),
    ):
        pass


@pytest.mark.holds("PEER-25")
def test_a_run_says_where_nobody_would_stop_its_box(rentroll: Rentroll) -> None:
    ran = rentroll("run", "--no-sync", "--slug", "job", "--keep-on-failure", "--", "false")
    nobody = "rentroll: nobody watches this ledger: should this run be killed, nobody will stop job by itself"
    stays = (
        r"rentroll: job stays and bills; nobody watches this ledger: until \S+Z nobody will stop this box by itself, "
        "and then only whoever types `rentroll cleanup`; `rentroll stop job` ends it"
    )
    assert ran.code == 1
    assert nobody in ran.err.splitlines()
    assert ran.err.splitlines()[-1] == Like(stays)


def test_a_run_that_is_watched_over_says_nothing_of_it(rentroll: Rentroll) -> None:
    with WatchLock(f"{os.environ['RENTROLL_STATE_DIR']}/ledger.db"):
        ran = rentroll("run", "--no-sync", "--slug", "job", "--", "true")
    assert (ran.code, [line for line in ran.err.splitlines() if "watch" in line]) == (0, [])


def checks(rentroll: Rentroll) -> dict[str, Any]:
    return {check["name"]: check for check in rentroll("doctor", "--json").json["checks"]}


def test_doctor_warns_where_nobody_watches_and_is_content_where_somebody_does(rentroll: Rentroll) -> None:
    ledger = f"{os.environ['RENTROLL_STATE_DIR']}/ledger.db"
    found = rentroll("doctor", "--json")
    watch = {check["name"]: check for check in found.json["checks"]}["watch"]
    assert (found.code, watch) == (
        0,
        {
            "name": "watch",
            "ok": True,
            "detail": "nobody watches this ledger",
            "hint": "no lease ends by itself: put `rentroll watch` under systemd or cron",
            "exit_code": 0,
        },
    )
    assert "warn  watch       nobody watches this ledger" in rentroll("doctor").out.splitlines()
    with WatchLock(ledger):
        me = watching(ledger)
        assert (checks(rentroll)["watch"]["detail"], checks(rentroll)["watch"]["hint"]) == (
            f"watched by {me}, which has not finished a pass yet",
            None,
        )


@pytest.mark.holds("PEER-25")
def test_doctor_is_not_content_with_a_watch_that_does_not_reach_the_open_leases(rentroll: Rentroll, box: Any) -> None:
    rentroll("watch", "--once", "--interval", "5m")
    assert checks(rentroll)["watch"]["detail"] == Like(r"watched: last pass \d+s ago, by a timer every 5m")
    rentroll("watch", "--once", "--interval", "5m", env={"RENTROLL_FAL_KEY": "another:key"})
    assert checks(rentroll)["watch"]["detail"] == Like(
        r"the watch of this ledger uses another endpoint or key \(last pass \d+s ago\)"
    )


def test_a_single_pass_that_was_typed_by_hand_is_no_watch(rentroll: Rentroll, box: Any) -> None:
    assert rentroll("watch", "--once").code == 0
    assert checks(rentroll)["watch"]["detail"] == "nobody watches this ledger"


@pytest.mark.holds("W-38")
def test_doctor_counts_what_needs_a_person_and_what_its_key_does_not_reach(rentroll: Rentroll, box: Any) -> None:
    assert checks(rentroll)["leases"]["detail"] == "1 open, 0 in need of attention"
    ran = rentroll("doctor", "--json", env={"RENTROLL_FAL_KEY": "another:key"})
    (leases,) = [check for check in ran.json["checks"] if check["name"] == "leases"]
    assert (leases["ok"], leases["detail"], leases["hint"]) == (
        True,
        "1 open, 0 in need of attention, 1 of another endpoint or key (box)",
        "`rentroll rotate` takes leases of another key over; --api-url reaches another endpoint",
    )


def test_doctor_names_leases_that_need_a_person(rentroll: Rentroll, box: Any) -> None:
    rentroll("touch", "box", "--ttl", "1s")
    until(lambda: checks(rentroll)["leases"]["hint"])
    leases = checks(rentroll)["leases"]
    assert (leases["detail"], leases["hint"]) == (
        "1 open, 1 in need of attention",
        "`rentroll list` says what is wrong with box; `rentroll cleanup` acts",
    )


def test_doctor_warns_of_a_ledger_that_others_may_read(rentroll: Rentroll, box: Any) -> None:
    ledger = Path(os.environ["RENTROLL_STATE_DIR"]) / "ledger.db"
    ledger.chmod(0o644)
    found = checks(rentroll)["ledger"]
    assert (found["ok"], found["hint"]) == (True, f"chmod 600 {ledger}")
    ledger.chmod(0o600)
    assert checks(rentroll)["ledger"]["hint"] is None


def test_doctor_finds_a_clock_behind_the_ledger(rentroll: Rentroll, box: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from cli.app import App

    monkeypatch.setattr(App, "now", lambda _app: datetime.fromisoformat("2020-01-01T00:00:00Z"))
    clock = checks(rentroll)["clock"]
    assert (clock["ok"], clock["exit_code"], clock["hint"]) == (
        False,
        2,
        "set the clock; until then nothing that depends on time is done",
    )

"""What warmup, list, status and touch print: the lease object of the contract, whole."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from providers.emulator.faults import Fault, Status
from providers.emulator.serve import Emulator
from tests.cli.running import LEASE_ID, TIME, Like, Rentroll, lease_object


@pytest.mark.holds("CRE-02", "HOLE-01")
def test_warmup_prints_the_lease_object(rentroll: Rentroll) -> None:
    ran = rentroll("warmup", "--slug", "box", "--json")
    assert (ran.code, ran.json) == (0, lease_object(schema="rentroll.warmup/1"))


@pytest.mark.holds("REL-01")
def test_status_prints_the_same_lease_object_by_slug_by_id_and_by_instance_id(rentroll: Rentroll, box: Any) -> None:
    wanted = box | {"schema": "rentroll.status/1", "cost": box["cost"] | {"accrued": Like(r"0\.\d\d")}}
    for name in ("box", box["lease_id"], box["instance_id"]):
        ran = rentroll("status", name, "--json")
        assert (ran.code, ran.json) == (0, wanted)


@pytest.mark.holds("W-26", "PEER-23")
def test_list_prints_leases_newest_first_with_totals(rentroll: Rentroll, box: Any) -> None:
    newer = rentroll("warmup", "--slug", "newer", "--type", "gpu_8x_h100_sxm5", "--json").json
    ran = rentroll("list", "--json")
    assert ran.code == 0
    assert ran.json == {
        "schema": "rentroll.list/1",
        "as_of": TIME,
        "position": 8,
        "leases": [
            {k: v for k, v in newer.items() if k != "schema"} | {"cost": newer["cost"] | {"accrued": Like(r"0\.\d\d")}},
            {k: v for k, v in box.items() if k != "schema"} | {"cost": box["cost"] | {"accrued": Like(r"0\.\d\d")}},
        ],
        "totals": {
            "open": 2,
            "rate_per_hour": "27.00",
            "accrued": Like(r"0\.\d\d"),
            "currency": "USD",
            "unpriced": 0,
        },
    }


@pytest.mark.holds("W-26")
def test_list_counts_a_box_of_unknown_rate_as_unpriced_and_its_cost_as_unknown(rentroll: Rentroll) -> None:
    leased = rentroll("warmup", "--slug", "box", "--json", env={"RENTROLL_RATES_GPU_1X_H100_SXM5": None})
    listed = rentroll("list", "--json").json
    assert leased.json["cost"] == {"rate_per_hour": None, "accrued": None, "currency": None, "source": None}
    assert listed["totals"] == {
        "open": 1,
        "rate_per_hour": None,
        "accrued": None,
        "currency": None,
        "unpriced": 1,
    }
    assert rentroll("list").out.splitlines()[-1] == "1 open at ?/h, ? so far, 1 of unknown cost"


def test_sums_of_which_a_part_is_not_known_are_said_to_be_the_least(rentroll: Rentroll, box: Any) -> None:
    rentroll("warmup", "--slug", "other", env={"RENTROLL_RATES_GPU_1X_H100_SXM5": None})
    line = rentroll("list").out.splitlines()[-1]
    assert line == Like(r"2 open at \$3\.00/h at least, \$0\.\d\d so far at least, 1 of unknown cost")


def test_a_lease_in_doubt_has_an_unknown_cost(rentroll: Rentroll, emulator: Emulator) -> None:
    emulator.add_fault(Fault(call="create", effects=(Status(status=500),), count=None))
    assert rentroll("warmup", "--slug", "doubt", "--timeout", "1s").code == 75
    totals = rentroll("list", "--json").json["totals"]
    assert totals == {"open": 1, "rate_per_hour": None, "accrued": None, "currency": None, "unpriced": 1}


def test_list_q_prints_ids_only(rentroll: Rentroll, box: Any) -> None:
    assert rentroll("list", "-q").out == f"{box['lease_id']}\n"


def test_an_empty_ledger_lists_nothing_without_being_made(rentroll: Rentroll) -> None:
    ran = rentroll("list", "--json")
    totals = {"open": 0, "rate_per_hour": "0.00", "accrued": "0.00", "currency": None, "unpriced": 0}
    assert ran.json == {"schema": "rentroll.list/1", "as_of": TIME, "position": 0, "leases": [], "totals": totals}
    assert list(Path(os.environ["RENTROLL_STATE_DIR"]).iterdir()) == []


@pytest.mark.holds("W-38", "PEER-05", "PEER-46")
def test_list_and_status_work_without_a_key_and_without_the_network(rentroll: Rentroll, box: Any) -> None:
    nowhere = {"RENTROLL_FAL_KEY": None, "RENTROLL_FAL_API_URL": "http://127.0.0.1:9/v1"}
    assert [c["lease_id"] for c in rentroll("list", "--json", env=nowhere).json["leases"]] == [box["lease_id"]]
    assert rentroll("status", "box", "--json", env=nowhere).json["phase"] == "ready"


@pytest.mark.holds("W-29", "HOLE-10")
def test_a_released_lease_is_shown_with_all_and_has_no_key_any_more(rentroll: Rentroll, box: Any) -> None:
    rentroll("stop", "box")
    assert rentroll("list", "--json").json["leases"] == []
    (shown,) = rentroll("list", "--all", "--json").json["leases"]
    assert shown == lease_object(
        lease_id=box["lease_id"],
        phase="released",
        outcome="completed",
        ssh=box["ssh"] | {"key_path": None},
        released_at=TIME,
        sequence=8,
        position=8,
        provider_status=shown["provider_status"],
    )


@pytest.mark.holds("W-29", "HOLE-10")
def test_as_of_a_position_shows_what_stood_then(rentroll: Rentroll, box: Any) -> None:
    rentroll("stop", "box")
    then = rentroll("list", "--as-of", "3", "--json").json
    assert [(c["lease_id"], c["phase"]) for c in then["leases"]] == [(box["lease_id"], "provisioning")]
    assert then["position"] == 3
    assert rentroll("list", "--as-of", "0", "--json").json["leases"] == []


def test_as_of_a_time_shows_what_stood_then(rentroll: Rentroll, box: Any) -> None:
    rentroll("stop", "box")
    then = rentroll("list", "--as-of", box["ready_at"], "--json").json
    assert [(c["lease_id"], c["phase"]) for c in then["leases"]] == [(box["lease_id"], "ready")]
    assert rentroll("list", "--as-of", "2020-01-01T00:00:00Z", "--json").json["leases"] == []


def test_as_of_the_future_or_nonsense_is_refused(rentroll: Rentroll) -> None:
    assert rentroll("list", "--as-of", "2999-01-01T00:00:00Z").code == 2
    assert rentroll("list", "--as-of", "yesterday").code == 2
    assert rentroll("list", "--as-of", "3", "--refresh").code == 2


@pytest.mark.holds("LST-06", "W-36")
def test_refresh_shows_the_live_status_with_one_walk_over_the_inventory(
    rentroll: Rentroll, box: Any, emulator: Emulator
) -> None:
    rentroll("warmup", "--slug", "other")
    emulator.change(lambda state, _now: state.force_status(box["instance_id"], "draining"))
    before = len(emulator.journal())
    shown = {c["slug"]: c["provider_status"] for c in rentroll("list", "--refresh", "--json").json["leases"]}
    assert shown == {"box": "draining", "other": "ready"}
    assert [entry.call for entry in emulator.journal()[before:]] == ["list"]


@pytest.mark.holds("LST-04")
def test_refresh_of_a_box_that_the_provider_does_not_show_says_so(
    rentroll: Rentroll, box: Any, emulator: Emulator
) -> None:
    emulator.change(lambda state, now: state.remove_instance(box["instance_id"], now))
    (shown,) = rentroll("list", "--refresh", "--json").json["leases"]
    assert (shown["phase"], shown["provider_status"]) == ("ready", "provider-absence-unverified")


@pytest.mark.holds("LST-03", "W-38")
def test_refresh_at_another_endpoint_still_shows_the_lease(rentroll: Rentroll, box: Any) -> None:
    ran = rentroll("status", "box", "--refresh", "--json", "--api-url", "http://127.0.0.1:9/v1")
    assert (ran.code, ran.json["provider_status"]) == (0, "provider-verification-unavailable")
    assert ran.json["instance_id"] == box["instance_id"]


@pytest.mark.holds("LST-03")
def test_refresh_through_a_failing_provider_still_shows_every_lease(
    rentroll: Rentroll, box: Any, emulator: Emulator
) -> None:
    emulator.add_fault(Fault(call="list", effects=(Status(status=500),), count=None))
    (shown,) = rentroll("list", "--refresh", "--json").json["leases"]
    assert (shown["instance_id"], shown["provider_status"]) == (
        box["instance_id"],
        "provider-verification-unavailable",
    )


@pytest.mark.holds("LST-05", "W-38")
def test_refresh_without_the_leases_key_asks_nobody(rentroll: Rentroll, box: Any, emulator: Emulator) -> None:
    before = len(emulator.journal())
    ran = rentroll("list", "--refresh", "--json", env={"RENTROLL_FAL_KEY": None})
    assert [c["provider_status"] for c in ran.json["leases"]] == ["credential-binding-mismatch"]
    assert len(emulator.journal()) == before


@pytest.mark.holds("TCH-01", "TCH-05", "W-35")
def test_touch_renews_idle_time_and_prints_the_lease(rentroll: Rentroll, box: Any) -> None:
    ran = rentroll("touch", "box", "--ttl", "3h", "--idle-timeout", "90.5", "--json")
    assert (ran.code, ran.json) == (
        0,
        lease_object(
            schema="rentroll.touch/1",
            lease_id=box["lease_id"],
            ttl_seconds=10_800,
            idle_timeout_seconds=90.5,
            sequence=5,
            position=5,
        ),
    )
    assert ran.json["last_touched_at"] > box["last_touched_at"]


def test_touch_keeps_a_box_for_a_while_with_a_reason(rentroll: Rentroll, box: Any) -> None:
    kept = rentroll("touch", "box", "--keep-until", "2h", "--reason", "a long job", "--json").json
    assert kept["keep"] == {"until": TIME, "reason": "a long job"}
    assert kept["expires_at"] == kept["keep"]["until"]


@pytest.mark.holds("W-25")
def test_touch_refuses_a_keep_without_reason_or_beyond_seven_days(rentroll: Rentroll, box: Any) -> None:
    assert rentroll("touch", "box", "--keep-until", "2h").code == 2
    assert rentroll("touch", "box", "--keep-until", "8d", "--reason", "x").code == 2
    assert rentroll("touch", "box", "--keep-until", "2020-01-01T00:00:00Z", "--reason", "x").code == 2
    assert rentroll("touch", "box", "--reason", "x").code == 2
    assert rentroll("status", "box", "--json").json["keep"] is None


@pytest.mark.holds("TCH-04")
def test_touch_of_a_released_lease_is_not_found(rentroll: Rentroll, box: Any) -> None:
    rentroll("stop", "box")
    assert rentroll("touch", box["lease_id"]).code == 4


@pytest.mark.holds("W-25")
def test_keep_ends_with_the_ttl_unless_told_otherwise(rentroll: Rentroll) -> None:
    kept = rentroll("warmup", "--keep", "--reason", "a demo", "--ttl", "2h", "--json").json
    assert kept["keep"] == {"until": TIME, "reason": "a demo"}
    assert kept["expires_at"] == kept["keep"]["until"]


@pytest.mark.holds("HOLE-01")
def test_keep_without_reason_leases_nothing(rentroll: Rentroll, emulator: Emulator) -> None:
    before = len(emulator.journal())
    assert rentroll("warmup", "--keep").code == 2
    assert len(emulator.journal()) == before


@pytest.mark.holds("LST-08")
def test_status_wait_returns_at_once_for_a_ready_box(rentroll: Rentroll, box: Any) -> None:
    assert rentroll("status", "box", "--wait", "--json").json["phase"] == "ready"


@pytest.mark.holds("LST-08")
def test_status_wait_on_a_lease_that_ended_is_a_provider_failure_with_one_object(rentroll: Rentroll, box: Any) -> None:
    rentroll("stop", "box")
    ran = rentroll("status", box["lease_id"], "--wait", "--json")
    assert ran.code == 5
    assert ran.error == {
        "code": "provider",
        "exit_code": 5,
        "message": "lease box is released and will not become ready",
        "lease_id": box["lease_id"],
    }


def test_the_repository_of_a_lease_is_its_origin_without_credentials(rentroll: Rentroll, repository: Path) -> None:
    url = "https://user:token@example.com/team/work.git"
    subprocess.run(["git", "remote", "add", "origin", url], check=True)
    assert rentroll("warmup", "--json").json["repo"] == "https://example.com/team/work.git"


def test_a_generated_slug_is_an_adjective_and_a_noun(rentroll: Rentroll) -> None:
    leased = rentroll("warmup", "--json").json
    assert leased["slug"] == Like(r"[a-z]+-[a-z]+")
    assert leased["lease_id"] == LEASE_ID


@pytest.mark.holds("W-26")
def test_dry_run_shows_the_request_the_limits_and_the_worst_case_and_leases_nothing(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    before = len(emulator.journal())
    ran = rentroll("warmup", "--dry-run", "--slug", "box", "--ttl", "30m", "--json", env={"RENTROLL_FAL_KEY": None})
    assert ran.json == {
        "schema": "rentroll.warmup-plan/1",
        "provider": "fal",
        "api_url": emulator.url,
        "request": {"instance_type": "gpu_1x_h100_sxm5", "sector": None, "ssh_key": "made for this lease"},
        "slug": "box",
        "ttl_seconds": 1800,
        "idle_timeout_seconds": 1800,
        "timeout_seconds": 900,
        "keep": None,
        "worst_case_cost": "1.50",
        "currency": "USD",
    }
    assert len(emulator.journal()) == before


def test_json_output_is_one_line_and_progress_is_on_stderr(rentroll: Rentroll) -> None:
    ran = rentroll("warmup", "--slug", "box", "--json")
    assert len(ran.out.splitlines()) == 1
    assert json.loads(ran.out)["slug"] == "box"
    assert "box: bound" in ran.err

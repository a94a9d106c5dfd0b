"""`rotate`: with both keys at once every lease of the old key follows the new one, and without proof none does."""

from typing import Any

import pytest

from providers.emulator.faults import DropAfter, Fault, Status
from providers.emulator.serve import Emulator
from tests.cli.leftovers import add_key, alive, booted, in_doubt, killed_before
from tests.cli.running import LEASE_ID, Like, Ran, Rentroll

NEW = "new:key"


def both(emulator: Emulator, new: str = NEW) -> dict[str, str | None]:
    return {"RENTROLL_FAL_KEY": new, "RENTROLL_FAL_KEY_OLD": emulator.key}


def shown(box: Any, result: str) -> dict[str, Any]:
    fields = {name: box[name] for name in ("lease_id", "slug", "instance_id", "phase")}
    return fields | {"result": result}


@pytest.mark.holds("W-20", "W-21", "CRD-02")
def test_every_lease_of_the_old_key_follows_the_new_one(rentroll: Rentroll, box: Any, emulator: Emulator) -> None:
    add_key(emulator, NEW)

    ran = rentroll("rotate", "--json", env=both(emulator))

    assert (ran.code, ran.json) == (
        0,
        {
            "schema": "rentroll.rotate/1",
            "dry_run": False,
            "evidence": "both-keys-one-name",
            "leases": [shown(box, "rebound")],
        },
    )
    assert rentroll("stop", "box", env={"RENTROLL_FAL_KEY": NEW}).code == 0
    again = rentroll("rotate", "--json", env=both(emulator))
    assert (again.code, again.json["leases"]) == (0, [])


@pytest.mark.holds("W-20")
def test_a_deletion_that_only_the_old_key_could_confirm_is_confirmed_under_the_new_one(
    rentroll: Rentroll, box: Any, emulator: Emulator
) -> None:
    killed_before("deletion-confirmed", "stop", "box")
    add_key(emulator, NEW)
    rentroll("rotate", env=both(emulator))
    ran = rentroll("recover", "--json", env={"RENTROLL_FAL_KEY": NEW})
    assert (ran.code, ran.json["actions"][0]["result"]) == (0, "completed")


@pytest.mark.holds("W-21", "CRE-23")
def test_a_create_in_doubt_is_settled_under_the_new_key(rentroll: Rentroll, emulator: Emulator) -> None:
    in_doubt(rentroll, emulator, DropAfter())
    booted(emulator)
    add_key(emulator, NEW)
    assert rentroll("rotate", env=both(emulator)).code == 0
    ran = rentroll("recover", "--json", env={"RENTROLL_FAL_KEY": NEW})
    assert (ran.code, ran.json["actions"][0]["result"], alive(emulator)) == (0, "rolled-back", [])


def test_a_dry_run_asks_with_both_keys_and_changes_nothing(rentroll: Rentroll, box: Any, emulator: Emulator) -> None:
    add_key(emulator, NEW)
    before = rentroll("events", "--jsonl").out
    ran = rentroll("rotate", "--dry-run", "--json", env=both(emulator))
    assert (ran.code, ran.json) == (
        0,
        {
            "schema": "rentroll.rotate/1",
            "dry_run": True,
            "evidence": "both-keys-one-name",
            "leases": [shown(box, "not done: dry run")],
        },
    )
    assert rentroll("events", "--jsonl").out == before


def test_people_see_each_lease(rentroll: Rentroll, box: Any, emulator: Emulator) -> None:
    add_key(emulator, NEW)
    ran = rentroll("rotate", env=both(emulator))
    assert [line.split() for line in ran.out.splitlines()] == [
        ["LEASE", "PHASE", "RESULT"],
        ["box", "ready", "rebound"],
    ]


@pytest.mark.holds("W-20")
def test_keys_that_may_not_read_the_account_prove_it_by_one_inventory(
    rentroll: Rentroll, box: Any, emulator: Emulator
) -> None:
    add_key(emulator, NEW, billing=False)
    ran = rentroll("rotate", "--json", env=both(emulator))
    assert (ran.code, ran.json["evidence"]) == (0, "both-keys-one-inventory")


@pytest.mark.holds("CRD-03")
@pytest.mark.parametrize(
    ("keys", "code", "message"),
    [
        ({"RENTROLL_FAL_KEY_OLD": None}, 3, "the old API key is required from RENTROLL_FAL_KEY_OLD"),
        ({"RENTROLL_FAL_KEY_OLD": " "}, 3, "the old API key is required from RENTROLL_FAL_KEY_OLD"),
        ({"RENTROLL_FAL_KEY": None}, 3, "an API key is required from the environment"),
        ({"RENTROLL_FAL_KEY": "same"}, 2, "the old key and the new one are the same"),
        ({"RENTROLL_FAL_KEY": "other:key"}, 3, "the two keys are not proven to be of one account"),
        ({"RENTROLL_FAL_KEY": "nobody:key"}, 3, Like(r"the new API key is not accepted \(.*\)")),
        ({"RENTROLL_FAL_KEY_OLD": "nobody:key"}, 3, Like(r"the old API key is not accepted \(.*\)")),
    ],
)
def test_without_proof_nothing_is_changed(
    rentroll: Rentroll, box: Any, emulator: Emulator, keys: dict[str, str | None], code: int, message: str
) -> None:
    add_key(emulator, NEW)
    emulator.change(lambda state, _now: state.add_account("other", "other:key"))
    given = {name: emulator.key if key == "same" else key for name, key in keys.items()}
    before = rentroll("events", "--jsonl").out

    ran = rentroll("rotate", "--json", env=both(emulator) | given)

    assert (ran.code, ran.error["message"]) == (code, message)
    assert rentroll("events", "--jsonl").out == before


@pytest.mark.holds("CRD-04")
def test_a_provider_that_cannot_be_asked_is_its_own_failure(rentroll: Rentroll, box: Any, emulator: Emulator) -> None:
    add_key(emulator, NEW)
    emulator.add_fault(Fault(call="list", effects=(Status(status=503, error_type="overloaded"),)))
    ran = rentroll("rotate", "--json", env=both(emulator))
    assert (ran.code, ran.error["code"]) == (5, "provider")


def test_neither_key_is_told_to_anybody(rentroll: Rentroll, box: Any, emulator: Emulator) -> None:
    old, new = "emulator:old-secret", "emulator:new-secret"
    add_key(emulator, new)
    told = [
        rentroll("-vv", "rotate", "--json", env=both(emulator, new)),
        rentroll("rotate", env={"RENTROLL_FAL_KEY": new, "RENTROLL_FAL_KEY_OLD": old}),
    ]
    assert [ran.code for ran in told] == [0, 3]
    texts = "".join(ran.out + ran.err for ran in told) + rentroll("events", "--jsonl").out
    assert [key for key in (emulator.key, old, new) if key in texts or key.partition(":")[2] in texts] == []


def test_where_there_is_no_lease_there_is_nothing_to_do_and_no_ledger_is_made(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    ran = rentroll("rotate", "--json", env=both(emulator))
    assert (ran.code, ran.json) == (
        0,
        {"schema": "rentroll.rotate/1", "dry_run": False, "evidence": None, "leases": []},
    )
    assert rentroll("rotate", env=both(emulator)).out == "no lease of the old key is open or looked for\n"
    assert rentroll("verify", "--json").json["events"] == 0


def test_a_lease_of_a_third_key_stays_with_it(rentroll: Rentroll, box: Any, emulator: Emulator) -> None:
    for key in (NEW, "third:key"):
        add_key(emulator, key)
    rentroll("warmup", "--slug", "third", env={"RENTROLL_FAL_KEY": "third:key"})
    ran = rentroll("rotate", "--json", env=both(emulator))
    assert [(lease["slug"], lease["lease_id"]) for lease in ran.json["leases"]] == [("box", LEASE_ID)]


def test_where_the_old_key_is_lost_a_person_may_confirm_a_lease_by_another_box_of_that_key(
    rentroll: Rentroll, box: Any, emulator: Emulator
) -> None:
    in_doubt(rentroll, emulator, DropAfter())
    claim = rentroll("status", "job", "--json").json
    add_key(emulator, NEW, billing=False)

    refused = rentroll("recover", "--only", "job", "--json", env={"RENTROLL_FAL_KEY": NEW})
    ran = rentroll("rotate", "--confirm", "job", "--json", env={"RENTROLL_FAL_KEY": NEW})

    assert refused.json["actions"][0]["error"]["code"] == "credentials"
    rebound = shown(claim, "rebound") | {"evidence": "sibling-seen"}
    assert (ran.code, ran.json["evidence"], ran.json["leases"]) == (0, "sibling-seen", [rebound])


def confirm(rentroll: Rentroll, *names: str, key: str | None = NEW) -> Ran:
    named = [word for name in names for word in ("--confirm", name)]
    env = {"RENTROLL_FAL_KEY": key} if key else None
    return rentroll("rotate", *named, "--json", env=env)


def test_what_is_confirmed_is_shown_with_the_evidence_that_the_ledger_keeps_and_once(
    rentroll: Rentroll, box: Any, emulator: Emulator
) -> None:
    in_doubt(rentroll, emulator, DropAfter())
    claim = rentroll("status", "job", "--json").json
    add_key(emulator, NEW)

    first = confirm(rentroll, "job")
    before = rentroll("events", "--jsonl").out
    again = confirm(rentroll, "job")

    kept = {"evidence": "account-name"}
    assert (first.code, first.json["evidence"]) == (0, "account-name")
    assert first.json["leases"] == [shown(claim, "rebound") | kept]
    assert (again.code, again.json["leases"]) == (0, [shown(claim, "nothing to do") | kept])
    assert rentroll("events", "--jsonl").out == before


def test_a_lease_of_this_key_needs_no_confirmation(rentroll: Rentroll, box: Any) -> None:
    before = rentroll("events", "--jsonl").out
    ran = confirm(rentroll, "box", key=None)
    assert (ran.code, ran.json["evidence"]) == (0, None)
    assert ran.json["leases"] == [shown(box, "nothing to do") | {"evidence": None}]
    assert rentroll("events", "--jsonl").out == before


def test_a_confirmation_that_fails_is_told_and_keeps_no_other_lease_from_its_turn(
    rentroll: Rentroll, box: Any, emulator: Emulator
) -> None:
    add_key(emulator, NEW)
    ran = confirm(rentroll, "nobody", "box")
    missing, rebound = ran.json["leases"]
    error = missing.pop("error")
    assert (ran.code, error["code"], ran.json["evidence"]) == (4, "not-found", None)
    assert missing == dict.fromkeys(("lease_id", "instance_id", "phase", "evidence")) | {
        "slug": "nobody",
        "result": "failed",
    }
    assert rebound == shown(box, "rebound") | {"evidence": "instance-seen"}
    assert "rentroll: nobody: not-found: no lease 'nobody' in this ledger" in ran.err.splitlines()


def test_a_lease_that_is_not_proven_to_be_of_the_new_keys_account_fails_alone(
    rentroll: Rentroll, box: Any, emulator: Emulator
) -> None:
    emulator.change(lambda state, _now: state.add_account("stranger", "stranger:key"))
    ran = confirm(rentroll, "box", key="stranger:key")
    (lease,) = ran.json["leases"]
    assert (ran.code, lease["result"], lease["error"]["code"]) == (3, "failed", "credentials")
    people = rentroll("rotate", "--confirm", "box", env={"RENTROLL_FAL_KEY": "stranger:key"})
    assert (people.code, people.out.splitlines()[-1].split()) == (3, ["box", "ready", "failed"])

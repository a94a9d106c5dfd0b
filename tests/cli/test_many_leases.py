"""A hundred leases at once: what asks the provider of all of them asks once."""

import signal
from datetime import datetime
from typing import Any

import pytest
from msgspec.structs import replace

from cli.app import App, GlobalOptions
from ledger.domain.events import InstanceIdBound
from providers.emulator.faults import Delay, Fault
from providers.emulator.serve import ACCOUNT, Emulator
from providers.emulator.state import FalState
from tests.cli.running import Rentroll, finish, spawn, until

MANY = 100


@pytest.fixture
def hundred(box: Any, emulator: Emulator) -> list[str]:
    """The ids of a hundred boxes, each the one of an open lease: `box` and copies of it."""

    def add(state: FalState, now: datetime) -> list[str]:
        return [state.add_instance(ACCOUNT, now) for _ in range(1, MANY)]

    ids = emulator.change(add)
    app = App(GlobalOptions(ledger=None, config=None, verbosity=0, log_format="console", color=False))
    request = app.register.load(box["lease_id"]).request
    assert request is not None
    for number, name in enumerate(ids):
        copy = replace(request, slug=f"box-{number}", twin_of=box["lease_id"], keep=None)
        fact = InstanceIdBound(instance_id=name, evidence="key-proof", acquirer="", attempt=None, instance=None)
        app.book.record(app.new_lease_id(), copy, fact)
    app.close()
    return [box["instance_id"], *ids]


@pytest.mark.holds("W-36")
def test_a_refreshed_list_of_a_hundred_leases_is_one_walk_over_the_inventory(
    rentroll: Rentroll, hundred: list[str], emulator: Emulator
) -> None:
    before = len(emulator.journal())
    ran = rentroll("list", "--refresh", "--json")
    shown = {lease["instance_id"]: lease["provider_status"] for lease in ran.json["leases"]}
    assert (ran.code, shown) == (0, dict.fromkeys(hundred, "ready"))
    assert [entry.call for entry in emulator.journal()[before:]] == ["list"]


@pytest.mark.holds("W-36")
def test_an_audit_of_a_hundred_leases_is_one_walk_over_the_inventory(
    rentroll: Rentroll, hundred: list[str], emulator: Emulator
) -> None:
    before = len(emulator.journal())
    ran = rentroll("audit", "--json")
    assert sorted(lease["instance_id"] for lease in ran.json["owned"]) == sorted(hundred)
    assert [entry.call for entry in emulator.journal()[before:]] == ["list"]


def test_a_watch_gives_a_hundred_boxes_back_in_one_pass(
    rentroll: Rentroll, hundred: list[str], emulator: Emulator
) -> None:
    ran = rentroll("watch", "--once", "--jsonl", env={"RENTROLL_FAL_POLL_INTERVAL": "0.2"})
    assert (ran.code, ran.json["tally"]) == (
        0,
        {"done": MANY - 1, "failed": 0, "kept": 1, "still_billable": 0, "elsewhere": 0},
    )
    left = [view.id for view in emulator.instances() if view.deleted_at is None and view.id in hundred]
    assert left == hundred[:1]


def test_a_watch_that_is_stopped_in_a_pass_ends_what_it_has_begun_and_no_more(
    hundred: list[str], emulator: Emulator
) -> None:
    emulator.add_fault(Fault(call="delete", effects=(Delay(seconds=2.0),), count=None))
    before = len(emulator.journal())
    with spawn(["watch", "--interval", "1h"]) as process:
        until(lambda: any(entry.call == "delete" for entry in emulator.journal()[before:]))
        process.send_signal(signal.SIGTERM)
        ran = finish(process)
    given_back = ran.out.count(": delete: rolled-back")
    left = [view.id for view in emulator.instances() if view.deleted_at is None and view.id in hundred]
    assert (ran.code, 0 < given_back < MANY - 1, len(left)) == (0, True, MANY - given_back)

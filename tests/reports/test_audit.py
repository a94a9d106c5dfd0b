"""`audit`: every listed box and every open lease in one place, with since when, and what of it is a difference."""

from datetime import datetime
from typing import Any

import pytest
from msgspec.structs import asdict, replace

from ledger.domain.audited import Audit, Candidate, Elsewhere, Foreign, Gone, Held, InDoubt, Overdue, Owned, Returned
from ledger.domain.claim import Claim, short_time
from ledger.domain.events import CreateRequested, InstanceIdBound, InventoryObserved, Rate
from ledger.domain.instance import Instance
from ledger.domain.units import format_time, parse_money
from ledger.flows.observe import observe, record
from ledger.flows.write_off import write_off
from ledger.reports.audit import audit
from providers.emulator.accounts import Permissions
from providers.emulator.faults import DropBefore, Hide, IgnoreDelete
from providers.emulator.serve import ACCOUNT
from tests.flows.recovering import around_in, dies_at, lost, passed, stranger
from tests.flows.world import LEASE, MINUTE_MS, OTHER, STARTED_AT, Program, World

SCOPE = "endpoint:https://fal.test/v1"
DISTANT = "endpoint:https://elsewhere.test/v1"
H100 = "gpu_1x_h100_sxm5"
RATE = Rate(per_hour=parse_money("3.00"), currency="USD", source="test")


def looked(world: World, program: Program) -> Audit:
    """Reads an inventory, and compares it with the ledger."""
    observe(program.services)
    return audit(world.reader, world.reader.head().position, around_in(world, expires=True))


def differences(found: Audit) -> tuple[int, int]:
    """How many differences there are, and how many where foreign boxes are none."""
    return found.differences(allow_foreign=False), found.differences(allow_foreign=True)


def entries(found: Audit) -> dict[str, tuple[Any, ...]]:
    """What is in each place, without the empty ones."""
    return {name: value for name, value in asdict(found).items() if isinstance(value, tuple) and value}


def text(at: datetime | None) -> str:
    assert at is not None
    return short_time(format_time(at))


def held(world: World, lease: str = LEASE, **fields: Any) -> dict[str, Any]:
    """What is told of an open lease inside its time."""
    claim = world.claim(lease)
    return {
        "lease_id": lease,
        "slug": claim.slug,
        "instance_id": claim.instance_id,
        "instance_type": H100,
        "phase": claim.phase,
        "expires_at": short_time(claim.expires_at),
        "reason": "inside its time",
        "is_difference": False,
    } | fields


def owned(world: World, lease: str = LEASE, **fields: Any) -> Owned:
    return Owned(**held(world, lease) | {"provider_status": "ready", "is_other_key": False} | fields)


def test_an_empty_account_and_an_empty_ledger_agree(world: World, program: Program) -> None:
    found = looked(world, program)
    assert found == Audit(
        as_of=text(STARTED_AT),
        position=1,
        begun_at=text(STARTED_AT),
        scope=SCOPE,
        owned=(),
        overdue=(),
        gone=(),
        returned=(),
        in_doubt=(),
        foreign=(),
        elsewhere=(),
        unsent=(),
    )
    assert differences(found) == (0, 0)


def test_a_box_of_an_open_lease_inside_its_time_is_owned_and_no_difference(world: World, program: Program) -> None:
    program.acquire()
    found = looked(world, program)
    assert (entries(found), differences(found)) == ({"owned": (owned(world),)}, (0, 0))


def test_a_kept_box_past_its_ttl_is_no_difference(world: World, program: Program) -> None:
    program.acquire(ttl_ms=30 * MINUTE_MS, keep=world.keep(hours=2))
    world.clock.wait(3600)
    found = looked(world, program)
    assert (entries(found), differences(found)) == ({"owned": (owned(world, reason="kept"),)}, (0, 0))


def test_a_box_that_somebody_is_just_making_ready_is_no_difference(world: World, program: Program) -> None:
    other, found = world.program(), []
    world.when("GET", lambda: found.append(looked(world, other)), path="instances/")
    program.acquire()
    place = owned(world, phase="provisioning", provider_status="provisioning", reason="somebody is working on it")
    assert [(entry.lease_id, entry.phase, entry.is_difference) for entry in found[0].owned] == [
        (LEASE, place.phase, False)
    ]
    assert [differences(each) for each in found] == [(0, 0)] * len(found)


@pytest.mark.holds("W-23")
def test_a_create_that_is_being_answered_is_in_doubt_with_its_box_and_no_difference_yet(
    world: World, program: Program
) -> None:
    other, found = world.program(), []
    program.boundaries.on("answered create", lambda: found.append(looked(world, other)))
    program.acquire()
    [box] = world.boxes()
    [doubt] = found[0].in_doubt
    assert ([c.instance_id for c in doubt.candidates], doubt.is_difference, found[0].foreign) == ([box.id], False, ())
    assert differences(found[0]) == (0, 0)


def test_a_box_past_its_end_is_overdue_with_what_it_has_cost(world: World, program: Program) -> None:
    program.acquire(rate=RATE)
    world.clock.wait(7200)
    found = looked(world, program)
    claim = world.claim()
    late = Overdue(
        **asdict(owned(world, reason=f"expired at {short_time(claim.expires_at)}", is_difference=True)),
        accrued="6.00",
        rate_per_hour="3.00",
        currency="USD",
    )
    assert (entries(found), differences(found)) == ({"overdue": (late,)}, (1, 1))


def test_a_box_whose_deletion_is_not_finished_is_owned_and_a_difference(world: World, program: Program) -> None:
    program.acquire()
    dies_at(program, "committed delete-requested", program.stop)
    found = looked(world, world.program())
    place = owned(world, reason="its deletion is not finished (deleting)", is_difference=True)
    assert (entries(found), differences(found)) == ({"owned": (place,)}, (1, 1))


def test_a_box_that_is_not_listed_is_gone_since_the_first_look_without_it(world: World, program: Program) -> None:
    program.acquire(idle_timeout_ms=90 * MINUTE_MS)
    seen_at = world.clock.now()
    looked(world, program)
    world.emulator.change(lambda state, now: state.remove_instance(world.claim().instance_id or "", now))
    world.clock.wait(60)
    missed_at = world.clock.now()
    looked(world, program)
    world.clock.wait(60)
    found = looked(world, program)
    place = Gone(**held(world, is_difference=True), last_seen_at=text(seen_at), missing_since=text(missed_at))
    assert (entries(found), differences(found)) == ({"gone": (place,)}, (1, 1))


def test_a_gone_box_that_no_inventory_has_shown_was_last_seen_when_it_became_ready(
    world: World, program: Program
) -> None:
    program.acquire()
    world.emulator.change(lambda state, now: state.remove_instance(world.claim().instance_id or "", now))
    world.clock.wait(60)
    found = looked(world, program)
    assert [(gone.last_seen_at, gone.missing_since) for gone in found.gone] == [
        (text(world.lease().ready_at), text(world.clock.now()))
    ]


def test_a_box_that_was_bound_after_the_look_began_is_not_judged_by_it(world: World, program: Program) -> None:
    early = program.provider.inventory()
    world.clock.wait(1)
    program.acquire()
    found = audit(world.reader, record(program.services, early), around_in(world, expires=True))
    assert ([gone.lease_id for gone in found.gone], differences(found)) == ([LEASE], (0, 0))


@pytest.mark.holds("W-06")
def test_a_released_lease_whose_box_is_listed_has_returned(world: World, program: Program) -> None:
    program.acquire()
    world.fault("delete", IgnoreDelete())
    world.fault("get", Hide(), count=None, skip=1)
    world.fault("list", Hide(), count=None)
    program.stop()
    world.emulator.change(lambda state, _now: state.script.clear())
    world.clock.wait(1)
    found = looked(world, program)
    claim = world.claim()
    back = Returned(
        lease_id=LEASE,
        slug="gpu-box",
        instance_id=claim.instance_id or "",
        outcome="completed",
        released_at=text(world.lease().released_at),
        provider_status="ready",
    )
    assert (entries(found), differences(found)) == ({"returned": (back,)}, (1, 1))


def test_a_box_that_was_released_while_the_look_went_on_has_not_returned(world: World, program: Program) -> None:
    program.acquire()
    early = program.provider.inventory()
    world.clock.wait(1)
    program.stop()
    found = audit(world.reader, record(program.services, early), around_in(world, expires=True))
    assert (entries(found), differences(found)) == ({}, (0, 0))


@pytest.mark.holds("W-23")
def test_a_create_in_doubt_names_every_listed_box_that_could_be_its_own_and_what_it_said(
    world: World, program: Program
) -> None:
    box = lost(world, program)
    world.clock.wait(60)
    decoy = stranger(world, public_key="ssh-ed25519 AAAA", instance_id="inst_zz")
    untried = stranger(world, instance_id="inst_zzz", ready=False)
    world.silent.add(box.id)
    tried_at = text(world.clock.now())
    passed(world.program())
    found = looked(world, world.program())
    said = [(box.id, "ready", "no-answer", tried_at), (decoy, "ready", "refused", tried_at)]
    tries = [
        Candidate(instance_id=name, instance_type=H100, provider_status=status, verdict=verdict, tried_at=at)
        for name, status, verdict, at in (*said, (untried, "provisioning", None, None))
    ]
    place = InDoubt(
        **held(world, phase="in-doubt", reason="its create may have made a box", is_difference=True),
        candidates=tuple(tries),
    )
    assert (entries(found), differences(found)) == ({"in_doubt": (place,)}, (1, 1))


def test_a_create_in_doubt_without_a_possible_box_is_a_difference_all_the_same(world: World, program: Program) -> None:
    stranger(world, instance_id="inst_before")
    world.fault("create", DropBefore(), count=None)
    dies_at(program, "committed create-in-doubt", program.acquire)
    found = looked(world, world.program())
    assert [(doubt.lease_id, doubt.candidates) for doubt in found.in_doubt] == [(LEASE, ())]
    assert [box.instance_id for box in found.foreign] == ["inst_before"]
    assert differences(found) == (2, 1)


@pytest.mark.holds("W-23", "PEER-20")
def test_a_box_that_no_lease_is_bound_to_is_foreign_since_between_two_looks(world: World, program: Program) -> None:
    looked(world, program)
    world.clock.wait(60)
    absent_at = world.clock.now()
    looked(world, program)
    world.clock.wait(60)
    box = stranger(world, sector="sector_1", instance_type="gpu_8x_h100_sxm5")
    world.clock.wait(60)
    first_seen_at = world.clock.now()
    looked(world, program)
    world.clock.wait(60)
    found = looked(world, program)
    place = Foreign(
        instance_id=box,
        instance_type="gpu_8x_h100_sxm5",
        region="us-west",
        provider_status="ready",
        creator=ACCOUNT,
        first_seen_at=text(first_seen_at),
        absent_at=text(absent_at),
        could_be_of=(),
    )
    assert (entries(found), differences(found)) == ({"foreign": (place,)}, (1, 0))


def test_what_another_key_saw_counts_and_what_it_missed_does_not(world: World, program: Program) -> None:
    box = Instance(id="inst_zz", instance_type=H100, region="us-west", status="ready")

    def seen(*instances: Instance, binding: str, scope: str = SCOPE) -> str:
        at = world.clock.now()
        fact = InventoryObserved(scope=scope, credential_binding=binding, begun_at=at, instances=instances)
        program.book.record_account(fact)
        world.clock.wait(60)
        return text(at)

    ours = program.services.credential_binding
    seen(binding="another")
    absent_at = seen(binding=ours)
    seen(binding="another")
    seen(box, binding="another", scope=DISTANT)
    first_seen_at = seen(box, binding="another")
    seen(binding=ours)
    seen(box, binding=ours)
    found = audit(world.reader, world.reader.head().position, around_in(world, expires=True))
    assert [(foreign.first_seen_at, foreign.absent_at) for foreign in found.foreign] == [(first_seen_at, absent_at)]


def test_a_box_that_could_be_one_of_a_lease_that_ended_unproven_is_never_allowed_as_foreign(
    world: World, program: Program
) -> None:
    box = lost(world, program)
    world.silent.add(box.id)
    world.clock.wait(600)
    write_off(world.program().services, LEASE, reason="nobody knows", token="t")
    found = looked(world, world.program())
    assert [(foreign.instance_id, foreign.could_be_of) for foreign in found.foreign] == [(box.id, (LEASE,))]
    assert differences(found) == (1, 1)


@pytest.mark.holds("W-38")
def test_leases_of_another_key_or_endpoint_are_elsewhere_and_what_wants_doing_there_is_a_difference(
    world: World, program: Program
) -> None:
    world.emulator.change(lambda state, _now: state.add_account("theirs", "their:key"))
    world.program(key="their:key").acquire(OTHER, slug="other")
    distant = _leased_at(program, DISTANT)
    found = looked(world, program)
    unfinished = {"reason": "its deletion is not finished (rolling-back)", "is_difference": True}
    assert entries(found) == {
        "elsewhere": (
            Elsewhere(**held(world, OTHER), scope=SCOPE, differs="key"),
            Elsewhere(**held(world, distant) | unfinished, scope=DISTANT, differs="endpoint"),
        )
    }
    assert differences(found) == (1, 1)


def test_a_box_that_this_key_sees_is_owned_although_another_key_leased_it(world: World, program: Program) -> None:
    program.acquire()
    world.emulator.change(lambda state, _now: state.accounts.accept_key("new:key", Permissions(account=ACCOUNT)))
    found = looked(world, world.program(key="new:key"))
    assert (entries(found), differences(found)) == ({"owned": (owned(world, is_other_key=True),)}, (0, 0))


def test_a_lease_of_which_nothing_was_sent_is_no_difference(world: World, program: Program) -> None:
    dies_at(program, "committed create-requested", program.acquire)
    found = looked(world, world.program())
    place = Held(**held(world, phase="requested", reason="nothing was sent"))
    assert (entries(found), differences(found)) == ({"unsent": (place,)}, (0, 0))


class Contradicted:
    """A ledger in which another lease claims the box of each."""

    def __init__(self, register: Any) -> None:
        self._register = register

    def claims(self, *, include_released: bool) -> list[Claim]:
        found = self._register.claims(include_released=include_released)
        return [claim._replace(contradiction="two leases claim one box") for claim in found]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._register, name)


def test_a_lease_whose_box_another_one_claims_is_a_difference_inside_its_time(world: World, program: Program) -> None:
    program.acquire()
    observe(program.services)
    register: Any = Contradicted(world.reader)
    found = audit(register, world.reader.head().position, around_in(world, expires=True))
    place = owned(world, reason="two leases claim one box", is_difference=True)
    assert (entries(found), differences(found)) == ({"owned": (place,)}, (1, 1))


def test_two_leases_of_one_box_are_both_shown(world: World, program: Program) -> None:
    program.acquire()
    box = world.claim().instance_id or ""
    other = _leased_at(program, SCOPE, box=box)
    assert [(entry.lease_id, entry.instance_id) for entry in looked(world, program).owned] == [
        (LEASE, box),
        (other, box),
    ]


def test_without_an_inventory_at_that_position_there_is_no_audit(world: World, program: Program) -> None:
    program.acquire()
    with pytest.raises(ValueError, match="no inventory stands at position 2"):
        audit(world.reader, 2, around_in(world, expires=True))


def _leased_at(program: Program, scope: str, *, box: str = "inst_far") -> str:
    """A lease that holds a second box, at some endpoint."""
    world = program.world
    lease = world.new_lease_id()
    request = world.lease(OTHER if world.lease(OTHER).request else LEASE).request
    assert isinstance(request, CreateRequested)
    fact = InstanceIdBound(instance_id=box, evidence="spool", acquirer="gone", attempt=None, instance=None)
    program.book.record(lease, replace(request, slug="far", scope=scope, twin_of=OTHER), fact)
    return lease

"""Another API key: proven to be of the lease's account, or refused; and `rotate`, with both keys at once."""

from datetime import datetime

import pytest
from msgspec.structs import replace

from ledger.domain.errors import Conflict, CredentialsFailure, IntegrityFailure, UsageFailure
from ledger.domain.ports import CallFailed
from ledger.domain.refusals import Refused
from ledger.flows.rebind import own_account
from ledger.flows.release import delete_box
from ledger.flows.rotate import OldKey, rotate
from providers.emulator.accounts import Account, Permissions
from providers.emulator.faults import Fault, Hide, IgnoreDelete, Status
from providers.emulator.messages import Call
from providers.emulator.serve import ACCOUNT
from providers.emulator.state import FalState
from tests.flows.recovering import Told, damage, dies_at, passed, stranger
from tests.flows.world import ACQUIRED, GONE, LEASE, MINUTE_MS, OTHER, Program, World

NEW = "second:key-of-the-same-account"
THEIRS = "their:key-of-another-account"
SERVER_ERROR = Status(500, error_type="server_error")
WINDOW_S = 540.0


def accept(world: World, key: str = NEW, *, billing: bool = True, revoke_old: bool = False) -> Program:
    """A process with another key of the same account."""

    def change(state: FalState, _now: datetime) -> None:
        accounts = state.accounts
        accounts.accept_key(key, Permissions(account=ACCOUNT, billing=billing))
        if revoke_old:
            accounts.revoke_key(world.emulator.key)

    world.emulator.change(change)
    return world.program(key=key)


@pytest.fixture
def leased(world: World, program: Program) -> Program:
    program.acquire(idle_timeout_ms=90 * MINUTE_MS)
    return program


@pytest.mark.holds("CRD-02", "DEL-13")
def test_a_key_that_sees_the_lease_s_own_box_is_accepted_before_anything_else_is_done(
    world: World, leased: Program
) -> None:
    released = accept(world, revoke_old=True).stop()

    assert (released.outcome, world.boxes()) == ("completed", [])
    assert world.types() == [*ACQUIRED, "credential-rebound", *GONE]
    assert world.payloads("credential-rebound")[0]["evidence"] == "instance-seen"


@pytest.mark.holds("CRD-03", "PEER-05")
def test_a_key_of_another_account_is_refused_and_changes_nothing(world: World, leased: Program) -> None:
    world.emulator.change(lambda state, _now: state.add_account("theirs", THEIRS))

    with pytest.raises(CredentialsFailure) as raised:
        world.program(key=THEIRS).stop()

    assert raised.value.next_step == "rentroll rotate"
    assert (world.types(), world.calls("delete")) == (ACQUIRED, [])


@pytest.mark.holds("CRD-03")
def test_a_box_that_the_inventory_omits_proves_no_key(world: World, leased: Program) -> None:
    other = accept(world, billing=False)
    world.emulator.add_fault(Fault(call="list", effects=(Hide(),), count=None))

    with pytest.raises(CredentialsFailure):
        other.stop()
    assert world.types() == ACQUIRED


@pytest.mark.holds("CRD-04", "CLN-26")
@pytest.mark.parametrize("call", ["get", "list"])
def test_a_check_that_fails_is_a_failure_and_no_mismatch(world: World, leased: Program, call: Call) -> None:
    other = accept(world, billing=False)
    world.emulator.add_fault(Fault(call=call, effects=(SERVER_ERROR,), count=None))

    with pytest.raises(CallFailed) as raised:
        own_account(other.services, world.lease())
    assert (raised.value.status, world.types()) == (500, ACQUIRED)

    world.clock.sleep(90 * 60)
    assert passed(other) == {LEASE: Told("delete", "failed", "provider")}


@pytest.mark.holds("CRD-05", "W-20")
def test_an_unconfirmed_deletion_is_confirmed_under_another_key_only_with_evidence(
    world: World, leased: Program
) -> None:
    world.fault("delete", IgnoreDelete())
    dies_at(leased, "committed delete-accepted", leased.stop)
    box_id = world.claim().instance_id or ""
    world.emulator.change(lambda state, now: state.remove_instance(box_id, now))
    world.clock.sleep(60)
    nameless = accept(world, billing=False, revoke_old=True)

    with pytest.raises(CredentialsFailure):
        nameless.stop()
    assert world.types()[-1] == "delete-accepted"

    assert accept(world, "third:key-that-may-read-the-name").stop().outcome == "completed"
    assert world.payloads("credential-rebound")[0]["evidence"] == "account-name"


@pytest.mark.holds("W-21")
def test_where_there_is_no_box_to_see_the_account_s_name_proves_a_key(world: World, program: Program) -> None:
    dies_at(program, "committed create-sent", program.acquire)
    world.clock.sleep(WINDOW_S)

    assert passed(accept(world, revoke_old=True)) == {LEASE: Told("settle", "failed", "in-doubt")}
    assert world.payloads("credential-rebound")[0]["evidence"] == "account-name"


def test_a_rebound_create_is_not_replayed(world: World, program: Program) -> None:
    dies_at(program, "committed create-sent", program.acquire)
    trap = stranger(world)
    world.silent.add(trap)
    world.clock.sleep(120)

    passed(accept(world))

    assert world.posts() == []


@pytest.mark.holds("RBK-03", "RDY-12")
def test_a_stop_under_another_key_during_an_acquire_rebinds_nothing_and_the_acquire_rolls_back(
    world: World, program: Program
) -> None:
    other = accept(world)

    def stop() -> None:
        with pytest.raises(Conflict, match="still being acquired"):
            other.stop(timeout_s=0)

    program.boundaries.on("check", stop)

    with pytest.raises(Refused, match="a stop was asked for: enough"):
        program.acquire()
    assert "credential-rebound" not in world.types()
    assert (world.claim().outcome, world.key_folders()) == ("rolled-back", [])


def test_a_person_may_confirm_by_another_box_of_the_old_key(world: World, program: Program) -> None:
    program.acquire(OTHER, slug="other-box")
    dies_at(program, "committed create-sent", program.acquire)
    other = accept(world, billing=False)

    with pytest.raises(CredentialsFailure):
        own_account(other.services, world.lease())
    rebound = own_account(other.services, world.lease(), confirmed=True)

    assert rebound.credential_binding == other.services.credential_binding
    assert world.payloads("credential-rebound")[0]["evidence"] == "sibling-seen"


@pytest.mark.holds("W-20", "W-21", "CRD-02")
@pytest.mark.parametrize(("billing", "evidence"), [(True, "both-keys-one-name"), (False, "both-keys-one-inventory")])
def test_rotate_binds_every_open_lease_to_the_new_key(
    world: World, program: Program, billing: bool, evidence: str
) -> None:
    program.acquire(OTHER, slug="other-box")
    dies_at(program, "committed create-sent", program.acquire)
    new, old = accept(world, billing=billing), world.program()

    _, rebound = rotate(new.services, OldKey(provider=old.provider, credential_binding=old.services.credential_binding))

    assert [lease.lease_id for lease in rebound] == [LEASE, OTHER]
    assert {lease.credential_binding for lease in rebound} == {new.services.credential_binding}
    assert [world.payloads("credential-rebound", one)[0]["evidence"] for one in (LEASE, OTHER)] == [evidence] * 2


@pytest.mark.holds("W-20")
def test_rotate_between_two_accounts_changes_nothing(world: World, leased: Program) -> None:
    world.emulator.change(lambda state, _now: state.add_account("theirs", THEIRS))
    theirs, old = world.program(key=THEIRS), world.program()

    with pytest.raises(CredentialsFailure):
        rotate(theirs.services, OldKey(provider=old.provider, credential_binding=old.services.credential_binding))
    assert world.types() == ACQUIRED


def test_two_empty_inventories_prove_no_account(world: World, program: Program) -> None:
    dies_at(program, "committed create-sent", program.acquire)
    new, old = accept(world, billing=False), world.program()

    with pytest.raises(CredentialsFailure):
        rotate(new.services, OldKey(provider=old.provider, credential_binding=old.services.credential_binding))
    assert world.types() == ["create-requested", "create-sent"]


def test_a_key_is_not_rotated_to_itself(world: World, leased: Program) -> None:
    own = OldKey(provider=leased.provider, credential_binding=leased.services.credential_binding)
    with pytest.raises(UsageFailure):
        rotate(leased.services, own)


def test_what_the_old_key_still_does_after_a_rotation_counts_for_nothing(world: World, leased: Program) -> None:
    new, old = accept(world), world.program()
    rotate(new.services, OldKey(provider=old.provider, credential_binding=old.services.credential_binding))

    delete_box(old.services, LEASE, reason="stop")

    assert [seen["evidence"] for seen in world.payloads("credential-rebound")] == [
        "both-keys-one-name",
        "instance-seen",
    ]


@pytest.mark.holds("CRD-03")
def test_a_box_that_was_never_deleted_is_not_given_up_on_the_word_of_an_account_s_name(
    world: World, leased: Program
) -> None:
    """Two workspaces may bear one name: what another one does not see is not gone."""

    def change(state: FalState, _now: datetime) -> None:
        state.add_account("theirs", THEIRS)
        state.accounts.add(Account(username=ACCOUNT))

    world.emulator.change(change)
    theirs = world.program(key=THEIRS)
    theirs.boundaries.on("call billing", lambda: None)
    named = theirs.services.provider.account().username

    with pytest.raises(CredentialsFailure):
        own_account(theirs.services, replace(world.lease(), account_name=named))
    assert world.types() == ACQUIRED


@pytest.mark.holds("W-04", "W-20")
def test_a_lease_that_cannot_be_read_keeps_no_other_one_from_following_the_new_key(
    world: World, program: Program
) -> None:
    program.acquire(OTHER, slug="other-box")
    program.acquire()
    new, old = accept(world), world.program()
    damage(world, LEASE)

    with pytest.raises(IntegrityFailure, match="1 leases follow the new key, 1 could not be read: gpu-box"):
        rotate(new.services, OldKey(provider=old.provider, credential_binding=old.services.credential_binding))
    assert world.types(OTHER)[-1] == "credential-rebound"


def test_a_rotation_that_reads_no_name_keeps_the_one_that_was_recorded(world: World, program: Program) -> None:
    program.acquire()
    new = accept(world, billing=False)
    world.fault("billing", SERVER_ERROR, count=None)
    old = world.program()

    rotate(new.services, OldKey(provider=old.provider, credential_binding=old.services.credential_binding))

    assert world.payloads("credential-rebound")[0]["account_name"] is None
    assert world.lease().account_name == ACCOUNT

"""Leasing a box that becomes ready: what is durable when, and what the provider sees."""

import json

import pytest

from ledger.domain.claim import lease_object
from ledger.domain.credentials import credential_binding
from ledger.domain.errors import UsageFailure
from ledger.domain.state import Phase
from providers.emulator.faults import Rewrite, Status
from tests.flows.world import ACQUIRED, LEASE, OTHER, Program, World


@pytest.mark.holds("CRE-01")
def test_one_create_under_the_lease_id_makes_a_ready_lease(world: World, program: Program) -> None:
    lease = program.acquire(instance_type="gpu_8x_h100_sxm5", sector="sector_2")

    assert world.types() == ACQUIRED
    assert world.calls() == ["list", "billing", "create", "get", "get"]
    public_key = world.payloads("create-requested")[0]["public_key"]
    [(idempotency_key, body)] = world.posts()
    assert idempotency_key == LEASE
    assert json.loads(body) == {"instance_type": "gpu_8x_h100_sxm5", "sector": "sector_2", "ssh_key": public_key}
    [box] = world.boxes()
    claim = world.claim()
    assert (claim.phase, claim.slug, claim.instance_id, claim.ssh_host, claim.ssh_port, claim.sector) == (
        "ready",
        "gpu-box",
        box.id,
        box.ip,
        22,
        "sector_2",
    )
    assert (lease.phase, lease.sequence) == (Phase.READY, claim.sequence)
    assert world.key_folders() == [LEASE]


@pytest.mark.holds("CRE-03", "CRE-25", "PEER-01", "PEER-41")
def test_when_a_create_arrives_its_intent_and_its_attempt_are_durable(world: World, program: Program) -> None:
    seen: list[tuple[list[str], str | None]] = []
    world.when("POST", lambda: seen.append((world.types(), world.claim().instance_id)))
    world.fault("create", _server_error(), count=1)

    program.acquire()

    once = ["create-requested", "create-sent"]
    assert seen == [(once, None), ([*once, "create-in-doubt", "create-sent"], None)]


@pytest.mark.holds("CRE-03", "CRD-01", "PEER-09")
def test_the_intent_holds_all_that_recovery_needs(world: World, program: Program) -> None:
    """Times, digest, binding, endpoint and the ids that were there before; never the API key."""
    stranger = world.emulator.change(lambda state, now: state.add_instance("emulated-team", now))
    program.acquire()

    requested = world.payloads("create-requested")[0]
    assert requested["ids_before"] == [stranger]
    assert requested["scope"] == program.client.scope
    assert requested["credential_binding"] == program.services.credential_binding
    assert requested["account_name"] == "emulated-team"
    assert requested["deadline"] == "2026-08-21T12:17:00.000000Z"
    sent = world.payloads("create-sent")[0]
    assert (sent["attempt"], sent["boot_id"], sent["uptime_ms"]) == (1, "boot-1", 1_000_000)
    assert sent["provider_date"] == "2026-08-21T12:00:00.000000Z"
    ledger = b"".join(path.read_bytes() for path in world.folder.glob("ledger.db*") if path.is_file())
    assert world.emulator.key.encode() not in ledger


@pytest.mark.holds("CRE-20", "PEER-09")
def test_a_lease_lives_from_its_request_not_from_ready(world: World, program: Program) -> None:
    world.fault("get", _status("provisioning"), count=200)

    lease = program.acquire(ttl_ms=20 * 60_000)

    assert lease.ready_at is not None
    assert (lease.ready_at - world.clock.now()).total_seconds() == 0
    assert world.claim().expires_at == "2026-08-21T12:20:00.000000Z"


@pytest.mark.holds("CRE-36", "PEER-12", "PEER-19", "PEER-41")
def test_nothing_is_polled_before_the_box_is_bound(world: World, program: Program) -> None:
    """Without a hook: `instance-id-bound` is durable at the first poll."""
    seen: list[list[str]] = []
    world.when("GET", lambda: seen.append(world.types()), path="/instances/inst_")

    program.acquire()

    assert seen == [["create-requested", "create-sent", "instance-id-bound"]] * 2


@pytest.mark.holds("LCK-05")
def test_the_lease_lock_is_held_from_before_the_intent_until_the_end(world: World, program: Program) -> None:
    free: list[bool] = []
    world.arrived.append(lambda _request: free.append(world.is_free(LEASE)))

    program.acquire()

    assert (free, world.is_free(LEASE)) == ([False] * 5, True)


@pytest.mark.holds("LCK-06", "PEER-18")
def test_an_explicit_slug_that_is_held_is_refused_naming_its_holder(world: World, program: Program) -> None:
    """The contract's way: exit 2, and nothing is left of the second."""
    program.acquire()

    with pytest.raises(UsageFailure) as refused:
        world.program().acquire(OTHER)

    assert refused.value.message == f"the slug gpu-box is held by lease {LEASE}; nothing was made"
    assert (refused.value.exit_code, refused.value.lease_id) == (2, LEASE)
    assert refused.value.next_step == "rentroll status gpu-box"
    assert (world.types(OTHER), world.key_folders(), len(world.posts())) == ([], [LEASE], 1)


@pytest.mark.holds("LCK-06")
def test_a_generated_slug_that_is_held_gets_a_suffix(world: World, program: Program) -> None:
    program.acquire()

    lease = world.program().acquire(OTHER, slug_is_explicit=False)

    assert lease.slug.startswith("gpu-box-")
    assert world.claim().slug == "gpu-box"


def _server_error() -> Status:
    return Status(500, error_type="server_error")


def _status(name: str) -> Rewrite:
    return Rewrite(put={"status": name}, omit=("ip",))


@pytest.mark.holds("CRE-02")
def test_what_is_shown_of_a_lease_holds_no_internal_facts(world: World, program: Program) -> None:
    """Neither the credential's binding, nor the acquirer, nor the deletion's facts."""
    program.acquire()

    shown = json.dumps(lease_object(world.claim(), world.clock.now(), "/keys"))

    internal = (program.services.credential_binding, f"acquirer of {LEASE}", "boot-1")
    assert [secret for secret in internal if secret in shown] == []


@pytest.mark.holds("CRD-01", "W-28")
def test_a_binding_tells_keys_apart_but_not_their_outer_spaces(world: World) -> None:
    """Under this ledger's salt only."""
    salt = world.reader.salt()

    assert credential_binding(salt, " a:key\n") == credential_binding(salt, "a:key")
    assert len({credential_binding(salt, "a:key"), credential_binding(salt, "b:key")}) == 2
    assert credential_binding(b"another salt", "a:key") != credential_binding(salt, "a:key")

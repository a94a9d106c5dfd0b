"""What has to hold wherever a program died, and in the end: read from the ledger, the provider and the keys."""

from collections import Counter
from collections.abc import Iterator

from ledger.domain.state import Lease, Outcome, Phase
from ledger.domain.suspects import never_created_evidence
from providers.emulator.messages import Request
from tests.crash.scenarios import Scenario
from tests.flows.world import World


class Witness:
    """Sees every POST and DELETE arrive, and notes those that the ledger had not announced by then."""

    def __init__(self, world: World) -> None:
        self.unannounced: list[str] = []
        self._world = world
        self._seen: Counter[tuple[str, str]] = Counter()
        world.arrived.append(self._observe)

    def _observe(self, request: Request) -> None:
        if request.method == "POST":
            lease_id = request.headers.get("idempotency-key", "")
            self._count("create", lease_id, len(self._world.payloads("create-sent", lease_id)))
        elif request.method == "DELETE":
            instance_id = request.target.rpartition("/")[2]
            self._count("delete", instance_id, self._announced_deletes(instance_id))

    def _count(self, call: str, target: str, announced: int) -> None:
        self._seen[call, target] += 1
        if self._seen[call, target] > announced:
            self.unannounced.append(f"{call} {target}: seen {self._seen[call, target]}, announced {announced}")

    def _announced_deletes(self, instance_id: str) -> int:
        """One for each fact; and rule 3's one, of an id that the ledger did not take from the answer to its create."""
        announced = self._world.reader.rows(types=("delete-requested",))
        bound = self._world.reader.rows(types=("instance-id-bound",))
        by_spool = any(instance_id in row.payload and '"spool"' in row.payload for row in bound)
        return sum(instance_id in row.payload for row in announced) + (by_spool or instance_id in spooled(self._world))


def problems(world: World, witness: Witness, scenario: Scenario) -> list[str]:
    """What is wrong at any time, in a sentence each."""
    found = leases(world)
    return [
        *(f"the ledger does not verify: {problem}" for problem in world.verification().problems),
        *(f"not announced: {call}" for call in witness.unannounced),
        *boxes(world, scenario),
        *(f"the key of {lease.lease_id} is gone too early" for lease in found if _lacks_its_key(world, lease)),
        *(f"the lock of {lease.lease_id} is held" for lease in found if not world.is_free(lease.lease_id)),
    ]


def remains(world: World) -> list[str]:
    """What is left once everything should be over."""
    found = leases(world)
    ours = {lease.request.public_key for lease in found if lease.request is not None}
    keys = world.key_folders()
    return [
        *(f"box {box.id} still runs" for box in world.boxes() if box.public_key in ours),
        *(f"lease {lease.lease_id} is {lease.phase}" for lease in found if lease.is_open),
        *(f"the key of {lease.lease_id} is still there" for lease in found if lease.lease_id in keys),
        *(f"{path.name} waits in the spool" for path in world.spool_folder.glob("*")),
    ]


def leases(world: World) -> list[Lease]:
    """Every lease there ever was."""
    return [world.lease(claim.lease_id) for claim in world.reader.claims(include_released=True)]


def spooled(world: World) -> str:
    """All that waits in the spool."""
    return "".join(path.read_text() for path in world.spool_folder.glob("*.json"))


def boxes(world: World, scenario: Scenario) -> Iterator[str]:
    """What is wrong with the boxes: those that nobody knows, those that are too many, those that are not ours."""
    found = leases(world)
    by_key = {lease.request.public_key: lease for lease in found if lease.request and not lease.request.twin_of}
    bound = {lease.instance_id for lease in found if lease.is_open or scenario.lied}
    waiting = spooled(world)
    made = world.emulator.instances()
    for box in made:
        lease = by_key.get(box.public_key or "")
        if lease is None:
            if box.deleted_at is not None:
                yield f"box {box.id} of somebody else was deleted"
        elif box.deleted_at is None and box.id not in bound and box.id not in waiting and not _is_looked_for(lease):
            yield f"box {box.id} of lease {lease.lease_id} ({lease.phase}) runs and nobody knows it"
    for key, number in Counter(box.public_key or "" for box in made).items():
        if key in by_key and number > scenario.boxes:
            yield f"{number} boxes were made for lease {by_key[key].lease_id}"


def _is_looked_for(lease: Lease) -> bool:
    """Whether a box without a binding is no surprise; one of a lease that was proven never to have made any is."""
    return lease.phase is Phase.IN_DOUBT or (lease.is_suspect and lease.outcome is not Outcome.NEVER_CREATED)


def _lacks_its_key(world: World, lease: Lease) -> bool:
    """Whether the key is gone although a box of the lease may be there or come. A twin's is the key of its lease."""
    register = world.reader
    observed = register.inventories(after=register.first_position(lease.lease_id))
    never_made = lease.phase is Phase.IN_DOUBT and never_created_evidence(
        lease, observed, lambda box: bool(register.find(box))
    )
    is_over = not lease.is_open or lease.confirmed_at is not None or lease.nothing_sent or lease.rejected or never_made
    is_twin = lease.request is not None and lease.request.twin_of is not None
    had_none = is_twin or "released" in world.types(lease.lease_id)  # its end took the key, whatever came back
    return not is_over and not had_none and lease.lease_id not in world.key_folders()

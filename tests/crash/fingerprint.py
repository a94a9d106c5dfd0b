"""Everything that a process finds when it starts, as one value: two worlds that agree in it have the same future."""

from tests.crash.autopsy import leases
from tests.flows.world import World

Fingerprint = tuple[object, ...]


def fingerprint(world: World) -> Fingerprint:
    """The time, the ledger, the files and fal's state, without what is random and means nothing: the keys."""
    requests = [lease.request for lease in leases(world) if lease.request is not None]

    def named(text: str) -> str:
        for number, request in enumerate(requests):
            text = text.replace(request.public_key, f"key {number}").replace(request.request_digest, f"digest {number}")
        return text

    rows = tuple((row.stream, row.type, row.recorded_at, named(row.payload)) for row in world.reader.rows())
    files = tuple(
        sorted(
            str(path.relative_to(world.folder))
            for folder in (world.keys.root, world.spool_folder)
            for path in folder.rglob("*")
        )
    )
    boxes = tuple(named(repr(box)) for box in world.emulator.instances())
    calls = tuple(
        (entry.at, entry.call, entry.path) for entry in world.emulator.journal() if entry.call in ("create", "delete")
    )
    return (world.clock.monotonic_s(), rows, files, boxes, calls, world.fal.to_come())

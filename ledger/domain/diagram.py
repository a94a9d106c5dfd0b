"""The lifecycle as the code has it: explores `decide` and `evolve` and writes it into `docs/lifecycle.md`.

`python -m ledger.domain.diagram docs/lifecycle.md` rewrites what stands between the page's markers. Nothing here is
written down twice: the moves and refusals are found by trying representative facts, breadth first, on every kind of
lease that they lead to; the words come from the docstrings of the facts and constants.
"""

import ast
import inspect
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from ledger.domain import events as e
from ledger.domain import windows as rules
from ledger.domain.evolve import evolve
from ledger.domain.instance import Instance
from ledger.domain.lease import decide
from ledger.domain.refusals import REFUSALS, Refused
from ledger.domain.state import Lease, Outcome, Phase, Recorded
from ledger.domain.units import format_duration

_START = datetime(2026, 1, 1, tzinfo=UTC)
_PAUSES = (timedelta(), timedelta(seconds=100), timedelta(minutes=10), timedelta(minutes=70))
"""At once; a POST is over; the window has closed; the lease has ended."""
_BOX, _OTHER_BOX, _OLD_BOX = "i-1", "i-2", "i-0"


class Move(NamedTuple):
    """A fact that may be recorded, and the phases that it leads from and to."""

    source: Phase | None
    type: str
    target: Phase


class Refusal(NamedTuple):
    """One way in which a fact was refused: the name, the fact, and the first message that came with it."""

    name: str
    type: str
    message: str


class Lifecycle(NamedTuple):
    """What the exploration met, in the order in which it met it, each once."""

    moves: tuple[Move, ...]
    refusals: tuple[Refusal, ...]


def explore() -> Lifecycle:
    """Every move and refusal that representative facts meet, from the lease that nothing was said of."""
    moves: dict[Move, None] = {}
    refusals: dict[tuple[str, str], Refusal] = {}
    start = Lease(lease_id="rl_example")
    leases, seen = [(start, _START)], {_kind(start)}
    for lease, told_at in leases:
        for pause in _PAUSES:
            now = told_at + pause
            for fact in _facts(lease, now):
                try:
                    follows = decide(lease, fact, now)
                except Refused as refusal:
                    message = refusal.message.partition(": ")[2]
                    refusals.setdefault((refusal.name, fact.TYPE), Refusal(refusal.name, fact.TYPE, message))
                    continue
                for new in follows:
                    after = evolve(lease, _recorded(lease, new, now))
                    moves[Move(lease.phase, new.TYPE, after.phase or Phase.REQUESTED)] = None
                    if _kind(after) not in seen:
                        seen.add(_kind(after))
                        leases.append((after, now))
    return Lifecycle(tuple(moves), tuple(refusals.values()))


def _recorded(lease: Lease, fact: e.LeaseEvent, now: datetime) -> Recorded:
    return Recorded(stream=lease.lease_id, sequence=lease.sequence + 1, recorded_at=now, actor="example", event=fact)


def _kind(lease: Lease) -> tuple[object, ...]:
    """What of a lease the rules tell apart in its phase, without its exact times and names."""
    results = tuple(attempt.result for attempt in lease.attempts)
    if lease.instance_id is not None:
        results = ("open",) if "open" in results else ()
    always = (lease.phase, results[-2:], len(results) == 1, lease.instance_id, lease.keep is None)
    request = lease.request
    if request is None:
        return always
    if lease.phase in (Phase.REQUESTED, Phase.IN_DOUBT, Phase.PROVISIONING):
        is_rebound = lease.credential_binding != request.credential_binding
        asked = (request.keep is None, request.twin_of is None)
        return (*always, *asked, lease.failure is None, lease.stop_reason, lease.is_taken_over, is_rebound)
    deletion = (lease.shown, lease.delete_result, lease.delete_answered, lease.confirmed_at is None)
    return (*always, *deletion, lease.ready_at is None, lease.open_runs)


def _facts(lease: Lease, now: datetime) -> Iterator[e.LeaseEvent]:
    yield from _creating(lease, now)
    yield from _holding(lease, now)
    yield from _ending(lease, now)


def _creating(lease: Lease, now: datetime) -> Iterator[e.LeaseEvent]:
    """Asking, sending and binding, in the ways that fit and in one that does not."""
    plain, last = _request(now), len(lease.attempts)
    yield plain
    yield replace(plain, keep=_keep(now))
    yield replace(plain, keep=_ended_keep(now))
    yield replace(plain, twin_of="rl_first", slug="example-twin")
    yield replace(plain, ttl_ms=0)
    sent = e.CreateSent(
        attempt=last + 1,
        acquirer=lease.acquirer,
        credential_binding="first",
        request_digest="digest",
        boot_id="boot",
        uptime_ms=(now - _START) // timedelta(milliseconds=1),
        provider_date=None,
    )
    yield sent
    yield replace(sent, acquirer="fenced")
    yield replace(sent, request_digest="changed")
    yield replace(sent, attempt=last + 2)
    yield e.CreateRejected(attempt=last, status=429, error_type="rate_limited", message="no capacity", request_id=None)
    doubt = e.CreateInDoubt(attempt=last, cause="timeout", sent=True, answered=False, status=None, request_id=None)
    yield doubt
    yield replace(doubt, sent=False)
    yield replace(doubt, attempt=1)
    for candidate, verdict in ((_OTHER_BOX, "refused"), (_OLD_BOX, "refused"), (_OTHER_BOX, "perhaps")):
        yield e.CandidateTried(
            instance_id=candidate, host="203.0.113.2", verdict=verdict, host_key="key", detail="authentication failed"
        )
    yield e.CandidatesSettled(inventories=(1,))
    yield e.CandidatesSettled(inventories=())
    bound = e.InstanceIdBound(
        instance_id=_BOX, evidence="create-answer", acquirer=lease.acquirer, attempt=last, instance=_instance()
    )
    yield bound
    yield replace(bound, evidence="key-proof", attempt=None)
    yield replace(bound, instance_id=_OTHER_BOX)
    yield replace(bound, instance_id=_OLD_BOX)
    yield replace(bound, instance_id="")


def _holding(lease: Lease, now: datetime) -> Iterator[e.LeaseEvent]:
    ready = e.Ready(
        acquirer=lease.acquirer,
        instance=_instance(),
        host="203.0.113.1",
        port=22,
        user="ubuntu",
        host_key="key",
        host_key_fingerprint="print",
        tools={},
    )
    yield ready
    yield replace(ready, acquirer="fenced")
    yield e.Touched(cause="touch")
    yield e.Touched(cause="touch", ttl_ms=0)
    yield e.KeepGranted(keep=_keep(now), cause="user")
    yield e.KeepGranted(keep=_ended_keep(now), cause="user")
    for acquirer in (lease.acquirer, "fenced"):
        yield e.KeepGranted(keep=_keep(now), cause="failed-acquire", acquirer=acquirer, stage="ssh", failure="timeout")
    yield e.KeepEnded(reason="over")
    yield e.SyncFinished(files=1, sent_files=1, sent_bytes=1, deleted_files=0, duration_ms=1, manifest_digest="digest")
    yield e.RunStarted(run_id="run", command=("true",), work_dir="/", repository=None, host="desk", pid=1)
    yield e.RunFinished(run_id="run", exit_code=0, signal=None, duration_ms=1, stdout_bytes=0, stderr_bytes=0)
    yield e.ClaimMoved(repository=None, host="laptop", reason="moved")
    yield e.CredentialRebound(credential_binding="rotated", account_name=None, evidence="instance-seen")
    deadline = now + timedelta(minutes=1)
    for evidence in ("lock-free", "deadline-passed"):
        yield e.AcquireFenced(acquirer="recovery", deadline=deadline, evidence=evidence, host="desk", pid=2)


def _ending(lease: Lease, now: datetime) -> Iterator[e.LeaseEvent]:
    yield e.StopRequested(reason="not wanted")
    yield e.Rollback(stage="ssh", cause="timeout", shown=False)
    delete = e.DeleteRequested(instance_id=_BOX, attempt=lease.deletes + 1, reason="stop", shown=False)
    yield delete
    yield replace(delete, reason="expired", shown=True)
    yield e.DeleteAccepted(instance_id=_BOX, attempt=lease.deletes)
    yield e.DeleteDeferred(instance_id=_BOX, attempt=lease.deletes, cause="server_error", status=500, retry_at=None)
    kinds = ("get-404", "inventory", "get-404")
    evidence = tuple(e.Observation(kind=kind, at=now) for kind in kinds)
    yield e.DeletionConfirmed(instance_id=_BOX, credential_binding=lease.credential_binding, evidence=evidence)
    for outcome in Outcome:
        yield e.Released(outcome=outcome, reason="settled by hand", inventories=(1, 2, 3, 4, 5))
    yield e.Released(outcome=Outcome.WRITTEN_OFF)
    seen = tuple(e.Observation(kind=kind, at=now) for kind in ("inventory", "get-200"))
    for looks in (seen, evidence):
        yield e.Reopened(instance_id=_BOX, credential_binding=lease.credential_binding, slug="example", evidence=looks)


def _request(now: datetime) -> e.CreateRequested:
    return e.CreateRequested(
        provider="fal",
        scope="https://api.fal.ai/v1",
        slug="example",
        instance_type="gpu_1x_h100_sxm5",
        sector=None,
        public_key="ssh-ed25519",
        request_digest="digest",
        credential_binding="first",
        account_name=None,
        ids_before=(_OLD_BOX,),
        ssh_user="ubuntu",
        ssh_port=22,
        work_root="~",
        ttl_ms=60 * 60_000,
        idle_timeout_ms=30 * 60_000,
        keep=None,
        acquirer="acquirer",
        deadline=now + timedelta(hours=2),
        host="desk",
        pid=1,
        purpose="warmup",
        rate=None,
        repository=None,
    )


def _keep(now: datetime) -> e.Keep:
    return e.Keep(until=now + timedelta(days=1), reason="training")


def _ended_keep(now: datetime) -> e.Keep:
    return e.Keep(until=now, reason="training")


def _instance() -> Instance:
    return Instance(id=_BOX, instance_type="gpu_1x_h100_sxm5", region="us-west", status="ready")


def diagram(lifecycle: Lifecycle) -> str:
    """The moves between phases as a Mermaid `stateDiagram-v2`; facts that stay in a phase are left to the table."""
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f'    state "{phase}" as {_node(phase)}' for phase in Phase]
    edges: dict[tuple[Phase | None, Phase], list[str]] = {}
    for move in sorted(lifecycle.moves, key=_in_order):
        if move.source is not move.target:
            edges.setdefault((move.source, move.target), []).append(move.type)
    lines += [
        f"    {_node(source)} --> {_node(target)}: {', '.join(types)}" for (source, target), types in edges.items()
    ]
    return "\n".join([*lines, "    released --> [*]", "```"])


def _in_order(move: Move) -> tuple[int, int, int]:
    phases = list(Phase)
    return (
        -1 if move.source is None else phases.index(move.source),
        phases.index(move.target),
        list(e.EVENT_TYPES).index(move.type),
    )


def _node(phase: Phase | None) -> str:
    return "[*]" if phase is None else phase.replace("-", "_")


def events_table(lifecycle: Lifecycle) -> str:
    """Each fact in a line: where it may be recorded, where it leads, and what it is for."""
    rows = ["| event | recorded in, and where that leads | what it says |", "|---|---|---|"]
    for name, kind in e.EVENT_TYPES.items():
        where = _moves_of(name, lifecycle) if kind in e.LeaseEvent.__args__ else "the account's stream"
        rows.append(f"| `{name}` | {where} | {_first_paragraph(kind)} |")
    return "\n".join(rows)


def _moves_of(name: str, lifecycle: Lifecycle) -> str:
    moves = sorted((move for move in lifecycle.moves if move.type == name), key=_in_order)
    stays = ", ".join(str(move.source) for move in moves if move.source is move.target)
    goes = [f"{move.source or 'nothing'} → {move.target}" for move in moves if move.source is not move.target]
    return "; ".join([*([stays] if stays else []), *goes])


def _first_paragraph(kind: type[e.Event]) -> str:
    return " ".join(inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].split()).replace("|", "\\|")


def refusals_table(lifecycle: Lifecycle) -> str:
    """Each refusal in a line: what it is to a user, which facts meet it, and what it says."""
    rows = ["| refusal | error, exit code | refuses | says, for example |", "|---|---|---|---|"]
    for name, error in REFUSALS.items():
        met = [refusal for refusal in lifecycle.refusals if refusal.name == name]
        message = met[0].message if met else ""
        rows.append(f"| `{name}` | {error.code}, {error.exit_code} | {_refused(met)} | {message} |")
    return "\n".join(rows)


def _refused(met: list[Refusal]) -> str:
    types = {refusal.type for refusal in met}
    if types == {kind.TYPE for kind in e.LeaseEvent.__args__} - {e.CreateRequested.TYPE}:
        return f"every fact but `{e.CreateRequested.TYPE}`"
    return ", ".join(f"`{kind}`" for kind in e.EVENT_TYPES if kind in types)


def constants_table() -> str:
    """Each constant of the rules with its value and the words beside it in `windows.py`."""
    rows = ["| constant | value | why |", "|---|---|---|"]
    body = ast.parse(inspect.getsource(rules)).body
    for statement, beside in pairwise(body):
        match statement, beside:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(words))):
                value = getattr(rules, name)
                shown = format_duration(value) if name.endswith("_MS") else str(value)
                rows.append(f"| `{name}` | {shown} | {' '.join(words.split())} |")
            case _:
                pass
    return "\n".join(rows)


def rewritten(page: str) -> str:
    """The page with every generated block brought up to date. Raises `ValueError` where a marker is missing."""
    lifecycle = explore()
    blocks = {
        "diagram": diagram(lifecycle),
        "events": events_table(lifecycle),
        "refusals": refusals_table(lifecycle),
        "constants": constants_table(),
    }
    for name, block in blocks.items():
        begin, end = f"<!-- generated: {name} -->\n", f"\n<!-- end: {name} -->"
        before, found_begin, rest = page.partition(begin)
        _, found_end, after = rest.partition(end)
        if not (found_begin and found_end):
            raise ValueError(f"the page has no block marked {begin.strip()} … {end.strip()}")
        page = f"{before}{begin}{block}{end}{after}"
    return page


def main(path: Path) -> None:
    """Rewrites the generated blocks of the page at `path`."""
    path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

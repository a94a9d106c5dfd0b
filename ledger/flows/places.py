"""Where the box of a ready lease answers, where its files are there, and who works on it."""

import shlex

from ledger.domain.ports import Endpoint, Holder, Place
from ledger.domain.refusals import Refused
from ledger.domain.state import Lease, Phase
from ledger.flows.services import Services


def work_dir(lease: Lease) -> str:
    """The lease's work folder on the box, quoted for sh."""
    root = place_of(lease).root
    if root.startswith("~/"):
        return f'"$HOME"/{shlex.quote(f"{root[2:]}/{lease.lease_id}")}'
    return shlex.quote(f"{root}/{lease.lease_id}")


def place_of(lease: Lease) -> Place:
    """Where the lease's files are on its box, as it was recorded."""
    if lease.request is None:
        raise ValueError("a ready lease was requested")
    return Place(root=lease.request.work_root.rstrip("/"), lease_id=lease.lease_id)


def endpoint_of(lease: Lease) -> Endpoint:
    """Where the box of a ready lease answers, as it was recorded: never from today's settings (scenario SSH-01)."""
    if lease.phase is not Phase.READY or lease.ready is None:
        raise Refused(lease, "not-ready", f"it is {lease.phase}, not ready")
    ready = lease.ready
    return Endpoint(lease_id=lease.lease_id, host=ready.host, port=ready.port, user=ready.user, host_key=ready.host_key)


def holder_of(services: Services, purpose: str, run_id: str | None = None) -> Holder:
    """This process, as others are told who holds a workspace."""
    return Holder(run_id=run_id, host=services.host, pid=services.pid, purpose=purpose)


def in_words(holder: Holder) -> str:
    """Who works on a box, for people."""
    what = f"running {holder.run_id}" if holder.run_id else f"in use ({holder.purpose})"
    return f"{what}, by pid {holder.pid} on {holder.host}"

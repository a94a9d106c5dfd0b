"""Every refusal by name, and the guards that most decisions begin with."""

from ledger.domain.errors import Conflict, CredentialsFailure, NotFound, RentrollError, UsageFailure
from ledger.domain.state import Lease, Phase

REFUSALS: dict[str, type[RentrollError]] = {
    "exists": Conflict,
    "no-such-lease": NotFound,
    "released": NotFound,
    "not-ready": NotFound,
    "deleting": NotFound,
    "bad-limits": UsageFailure,
    "bound-to-another": UsageFailure,
    "not-new": UsageFailure,
    "already-bound": Conflict,
    "never-sent": UsageFailure,
    "stop-requested": Conflict,
    "rebound": CredentialsFailure,
    "request-changed": Conflict,
    "fenced": Conflict,
    "past-deadline": Conflict,
    "window-closed": Conflict,
    "in-flight": Conflict,
    "settled": Conflict,
    "wrong-attempt": Conflict,
    "not-acquiring": Conflict,
    "past-end": Conflict,
    "not-expired": Conflict,
    "bad-keep": UsageFailure,
    "no-such-run": NotFound,
    "roll-back-first": Conflict,
    "settling": Conflict,
    "not-deleting": Conflict,
    "no-evidence": Conflict,
    "may-exist": Conflict,
    "not-released": Conflict,
}
"""Each refusal by name, and the error that it is to a user."""


class Refused(RentrollError):
    """A fact may not be appended to this lease now. `name` is a key of `REFUSALS`."""

    def __init__(self, lease: Lease, name: str, message: str) -> None:
        name_of_lease = lease.slug or lease.lease_id
        look = f"rentroll status {name_of_lease}" if lease.is_open else None
        super().__init__(f"lease {name_of_lease}: {message}", lease_id=lease.lease_id, next_step=look)
        self.name = name
        kind = REFUSALS[name]
        self.code = kind.code  # type: ignore[misc]
        self.exit_code = kind.exit_code  # type: ignore[misc]
        self.remedy = kind.remedy  # type: ignore[misc]


def require_open(lease: Lease) -> None:
    if lease.phase is Phase.RELEASED:
        raise Refused(lease, "released", f"it is released ({lease.outcome})")


def require_ready(lease: Lease) -> None:
    require_open(lease)
    if lease.phase is Phase.DELETING:
        raise Refused(lease, "deleting", "its deletion has begun")
    if lease.phase is not Phase.READY:
        raise Refused(lease, "not-ready", f"it is {lease.phase}, not ready")


def require_same_box(lease: Lease, instance_id: str) -> None:
    if instance_id != lease.instance_id:
        raise Refused(lease, "bound-to-another", f"its box is {lease.instance_id or 'not known'}, not {instance_id}")


def require_owning_key(lease: Lease, credential_binding: str) -> None:
    """What a key sees counts only if it is the one that owns the lease now."""
    if credential_binding != lease.credential_binding:
        raise Refused(lease, "rebound", "another key saw this: it proves nothing of this lease")

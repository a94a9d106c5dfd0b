"""A lease belongs to the repository that leased it: another one may not work on it unless a person says so."""

from typing import TYPE_CHECKING

from cli.render import note
from ledger.domain.belonging import in_words, is_same
from ledger.domain.errors import UsageFailure

if TYPE_CHECKING:
    from cli.app import App
    from ledger.domain.state import Lease

TAKEN = "taken with --reclaim"


def require_ours(app: "App", lease_id: str, *, reclaim: bool) -> "Lease":
    """The lease as the ledger has it now, if the repository that we stand in may work on it.

    Outside of any repository every lease may be worked on by its name, and one that was leased outside of any from
    everywhere. Raises `UsageFailure` for another repository's; under `reclaim` that appends `claim-moved` instead, and
    the lease is ours from then on.
    """
    lease = app.register.load(lease_id)
    code = app.code
    if code is None or lease.repository is None or is_same(lease.repository, code.repository):
        return lease
    if not reclaim:
        raise UsageFailure(
            f"lease {lease.slug} belongs to another repository: {in_words(lease.repository)}",
            hint="--reclaim takes it over for this one",
            lease_id=lease_id,
        )
    from ledger.domain.events import ClaimMoved

    moved = ClaimMoved(repository=code.repository, host=app.host, reason=TAKEN)
    taken = app.book.record(lease_id, moved).lease
    note(f"{lease.slug} belongs to this repository from now on; it was {in_words(lease.repository)}'s")
    return taken

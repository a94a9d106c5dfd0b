"""From a LEASE argument to one claim, and what a command shows of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cli.app import ASK_THE_PROVIDER
from ledger.domain.errors import NotFound, RentrollError, SshFailure, UsageFailure

if TYPE_CHECKING:
    from cli.app import App
    from ledger.domain.claim import Claim
    from ledger.domain.errors import Interrupted
    from ledger.domain.state import Lease

OURS = "rentroll "


def find(app: "App", name: str) -> "Claim":
    """The one claim that a name means. Raises `NotFound`, or `UsageFailure` where it means several."""
    with app.reader() as reader:
        found = reader.find(name.strip())
    if not found:
        raise NotFound(f"no lease {name.strip()!r} in this ledger", next_step="rentroll list --all")
    if len(found) > 1:
        ids = ", ".join(claim.lease_id for claim in found)
        raise UsageFailure(f"{name.strip()!r} means several leases: {ids}", hint="use a lease id")
    return found[0]


@contextmanager
def about(app: "App", lease: "Lease | Claim") -> Iterator[None]:
    """What fails in the block is about this lease: the failure gets its id, and a next step that names it."""
    try:
        yield
    except RentrollError as failure:
        failure.lease_id = failure.lease_id or lease.lease_id
        if isinstance(failure, SshFailure) and failure.next_step is None and not _is_answer(failure):
            failure.next_step = look_at(app, lease.slug)
        raise


def _is_answer(failure: SshFailure) -> bool:
    """Whether the box has answered, so that there is nothing to look at: what it lacks, or does not know."""
    from ledger.domain.ports import NoAgent, UnknownRun

    return isinstance(failure, NoAgent | UnknownRun)


def look_at(app: "App", slug: str) -> str:
    """What a person types to see what has become of a box that does not answer."""
    return app.command_line("status", slug, "--refresh")


def name_who_tells(app: "App", interrupted: "Interrupted", lease_id: str, run_id: str) -> None:
    """Of a run that a box told no end of after a Ctrl-C: what tells whether it has ended."""
    from ledger.flows.follow import NOT_TOLD

    if interrupted.left == NOT_TOLD:
        tells = app.command_line("runs", "attach", run_id)
        interrupted.left, interrupted.lease_id = f"{NOT_TOLD}: `{tells}` tells", lease_id


def find_or_only(app: "App", name: str | None) -> "Claim":
    """The named claim, or this repository's only open one."""
    if name is not None:
        return find(app, name)
    ours = open_here(app)
    if len(ours) == 1:
        return ours[0]
    what = "several open leases" if ours else "no open lease of its own"
    raise UsageFailure(f"name a lease: this repository has {what}", next_step="rentroll list")


def open_here(app: "App") -> "list[Claim]":
    """The open leases of the repository that we stand in; none outside one."""
    repository = app.repository
    if repository is None:
        return []
    label = repository.origin or repository.path
    with app.reader() as reader:
        return [claim for claim in reader.claims() if claim.repository == label]


def with_our_flags(app: "App", failure: "RentrollError") -> None:
    """Gives the command that a failure recommends the flags that it needs here."""
    step = failure.next_step
    if step is not None and step.startswith(OURS):
        import shlex

        words = shlex.split(step.removeprefix(OURS))
        if words[0] in ASK_THE_PROVIDER and "--api-url" not in words:
            failure.next_step = app.command_line(*words)

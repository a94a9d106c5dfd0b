"""Undoing a failed acquisition as far as the facts allow, and saying what state that left and what to type next."""

from typing import NoReturn

from ledger.domain import events as e
from ledger.domain.errors import InDoubt, Interrupted, RentrollError, SshFailure
from ledger.domain.redact import redact
from ledger.domain.refusals import Refused
from ledger.domain.state import Lease, Phase
from ledger.flows.create import IdNotRecorded, NotAsAsked
from ledger.flows.release import delete_box, finish
from ledger.flows.services import Services, Stage
from ledger.flows.waiting import StopAsked

Failure = Exception | Interrupted


def give_back(services: Services, lease_id: str, failure: Failure, *, keep: e.Keep | None, acquirer: str) -> NoReturn:
    """Rolls a failed acquisition back, or keeps its box where `keep` says so; then raises the failure.

    What is raised names the state that was left and, where the lease is open, the command that ends it. Runs shielded
    from stop signals. A create whose outcome is unknown raises `InDoubt`; a failure that is not ours becomes a
    `RentrollError`.
    """
    with services.interrupts.shielded():
        problems: list[Exception] = []
        try:
            _undo(services, lease_id, failure, keep, acquirer, problems)
        except Exception as problem:  # noqa: BLE001 - the first failure is told, whatever the second one is
            problems.append(problem)
        try:
            lease = services.book.load(lease_id)
        except RentrollError as problem:
            problems.append(problem)
            _raise_with_state(failure, Lease(lease_id=lease_id), "what was made is not known", problems)
        _raise_with_state(failure, lease, _state_left(lease, failure), problems)


def _undo(
    services: Services, lease_id: str, failure: Failure, keep: e.Keep | None, acquirer: str, problems: list[Exception]
) -> None:
    lease = services.book.load(lease_id)
    if keep is not None and _may_keep(lease, failure):
        fact = e.KeepGranted(
            keep=keep, cause="failed-acquire", acquirer=acquirer, stage=stage_of(failure), failure=str(failure)
        )
        try:
            services.book.record(lease_id, fact)
        except RentrollError as problem:
            problems.append(problem)  # without the fact there is no keep: the box is deleted instead (KEEP-02)
        else:
            return
    _delete(services, lease, failure)


def _may_keep(lease: Lease, failure: Failure) -> bool:
    """keep covers a box that did not become ready; not one that nobody asked for or that nobody wants any more."""
    unwanted = isinstance(failure, Interrupted | NotAsAsked) or lease.stop_reason is not None
    return lease.phase is Phase.PROVISIONING and not unwanted


def _delete(services: Services, lease: Lease, failure: Failure) -> None:
    if lease.phase is None:
        services.keys.destroy(lease.lease_id)
        return
    if lease.phase is Phase.PROVISIONING:
        if lease.is_taken_over:
            return  # whoever took it over gives it back; a late decision of ours would only be in the way
        services.tell(Stage(lease_id=lease.lease_id, slug=lease.slug, name="rolling back", detail=str(failure)))
        fact = e.Rollback(stage=stage_of(failure), cause=str(failure), shown=lease.shown)
        lease = services.book.insist(lease.lease_id, fact).lease  # RBK-08
    if lease.phase is Phase.READY and lease.keep is None:
        delete_box(services, lease.lease_id, reason="stop", may_hurry=True)  # it became ready, but nobody was given it
    elif lease.phase in (Phase.ROLLING_BACK, Phase.DELETING) and lease.instance_id is not None:
        delete_box(services, lease.lease_id, reason="rollback", may_hurry=True)
    elif lease.is_open and lease.instance_id is None and (lease.rejected or lease.nothing_sent):
        finish(services, lease.lease_id)


def stage_of(failure: Failure) -> str:
    """The stage that a failure is recorded under."""
    match failure:
        case SshFailure():
            return failure.stage
        case Interrupted():
            return "interrupted"
        case StopAsked():
            return "stop"
        case Refused():
            return failure.name
        case RentrollError():
            return failure.code
        case _:
            return "internal"


def _raise_with_state(failure: Failure, lease: Lease, left: str, problems: list[Exception]) -> NoReturn:
    """Raises the failure that began it, telling what went wrong since, what state it left and what to type next."""
    told = "".join(f"; then: {problem}" for problem in problems if problem is not failure) + f"; {left}"
    is_known = lease.phase is not None
    next_step = f"rentroll stop {lease.slug}" if lease.is_open else None
    if isinstance(failure, Interrupted):
        failure.left = told.removeprefix("; ") + (f"; next: {next_step}" if next_step else "")
        failure.lease_id = lease.lease_id if is_known else None
        raise failure
    if not isinstance(failure, RentrollError):
        bug = redact(f"{type(failure).__name__}: {failure}")
        raise RentrollError(f"{bug}{told}", next_step=next_step, lease_id=lease.lease_id) from failure
    failure.lease_id = lease.lease_id if is_known else failure.lease_id
    failure.next_step = next_step or failure.next_step
    if lease.phase is Phase.IN_DOUBT and not isinstance(failure, InDoubt | IdNotRecorded):
        raise InDoubt(
            f"{failure.message}{told}", hint=failure.hint, next_step=next_step, lease_id=lease.lease_id
        ) from None
    failure.message += told
    raise failure


def _state_left(lease: Lease, failure: Failure) -> str:
    box = f"the box {lease.instance_id} of lease {lease.slug}"
    match lease.phase:
        case None:
            return "nothing was made"
        case Phase.RELEASED if lease.instance_id is not None:
            return f"the box {lease.instance_id} was given back"
        case Phase.RELEASED:
            return f"nothing was made, lease {lease.slug} is closed as {lease.outcome}"
        case Phase.IN_DOUBT if isinstance(failure, IdNotRecorded):
            return f"lease {lease.slug} stays open until the id is appended"
        case Phase.IN_DOUBT:
            return f"whether a box was made for lease {lease.slug} is unknown, and the lease stays open"
        case _ if lease.instance_id is None:
            return f"nothing was made, but lease {lease.slug} stays open"
        case _ if lease.keep is not None:
            return f"the box {lease.instance_id} was kept and bills, as lease {lease.slug}"
        case _ if lease.confirmed_at is not None:
            return f"{box} is gone, but the lease stays open"
        case _:
            return f"{box} may still bill, and the lease stays open"

"""`recover --write-off`: a person ends a lease that no evidence can settle, after seeing what could be its box."""

import shlex
import sys
from typing import TYPE_CHECKING, NamedTuple

import click

from cli.actions import action_object
from cli.failures import tell_failure
from cli.leases import find, with_our_flags
from cli.render import emit, note, say
from ledger.domain import events as e
from ledger.domain.claim import Claim, is_overdue
from ledger.domain.errors import RentrollError, UsageFailure
from ledger.domain.lease import decide
from ledger.domain.plan import Action
from ledger.domain.state import Outcome
from ledger.domain.units import after_ms
from ledger.domain.windows import WINDOW_MS
from ledger.flows.recover import Done
from ledger.flows.write_off import possible_boxes, write_off

if TYPE_CHECKING:
    from cli.app import App
    from ledger.flows.services import Services, Stage


class WriteOff(NamedTuple):
    """What a person asked for. `yes` answers the question ahead."""

    name: str
    reason: str
    yes: bool
    dry_run: bool
    as_json: bool


def write_one_off(app: "App", wish: WriteOff) -> int:
    """Writes one lease off, or says why not; gives the exit code, which is that of its failure."""
    app.purpose = "write-off"
    claim: Claim | None = None
    try:
        claim = find(app, wish.name)
        result = _write_off(app, wish, claim)
    except RentrollError as failure:
        with_our_flags(app, failure)
        if not wish.as_json:
            raise
        emit("recover", _object(wish, Done(action=_action(wish, claim), result="failed", error=failure)))
        tell_failure(claim.slug if claim else wish.name, failure)
        return failure.exit_code
    done = Done(action=_action(wish, claim), result=result)
    if wish.as_json:
        emit("recover", _object(wish, done))
    else:
        say(f"{claim.slug} {claim.lease_id}: {result}")
    return 0


def _action(wish: WriteOff, claim: Claim | None) -> Action:
    if claim is None:
        return Action(lease_id="", slug=wish.name, instance_id=None, action="write-off", reason=wish.reason)
    return Action(
        lease_id=claim.lease_id,
        slug=claim.slug,
        instance_id=claim.instance_id,
        action="write-off" if claim.is_open else "none",
        reason=wish.reason,
    )


def _object(wish: WriteOff, done: Done) -> dict[str, object]:
    shown = action_object(done)
    return {"dry_run": wish.dry_run, "actions": [shown | {"lease_id": shown["lease_id"] or None}], "tally": None}


def _write_off(app: "App", wish: WriteOff, claim: Claim) -> str:
    if not claim.is_open:
        return "nothing to do"
    _require_an_answer(app, wish, claim)
    _require_possible(app, wish, claim)
    if wish.dry_run:
        return "not done: dry run"
    services = app.services(_told, key_required=False)
    was_asked = _show_boxes(services, claim)
    if not wish.yes:
        if not was_asked:
            raise UsageFailure(
                f"lease {claim.slug} is not written off without a look at what fal has",
                hint="try again when fal can be asked, or say --yes",
                lease_id=claim.lease_id,
            )
        if not click.confirm(
            f"Write lease {claim.slug} off? For seven days `recover` still deletes a box of it that shows up", err=True
        ):
            raise UsageFailure(f"lease {claim.slug} was not written off", lease_id=claim.lease_id)
    return str(write_off(services, claim.lease_id, reason=wish.reason, token=app.random_token()).outcome)


def _require_an_answer(app: "App", wish: WriteOff, claim: Claim) -> None:
    can_ask = app.is_terminal and sys.stdin is not None and sys.stdin.isatty()
    if wish.yes or wish.dry_run or can_ask:
        return
    raise UsageFailure(
        f"lease {claim.slug} is written off only after a question, and there is no terminal to ask at",
        hint="say --yes if it is over for you; for seven days `recover` still deletes a box of it that shows up",
        next_step=f"rentroll recover --only {claim.slug} --write-off --reason {shlex.quote(wish.reason)} --yes",
        lease_id=claim.lease_id,
    )


def _require_possible(app: "App", wish: WriteOff, claim: Claim) -> None:
    """Refuses before anybody is asked: as long as the create may be replayed, evidence may still come."""
    if claim.phase == "ready" and not is_overdue(claim, app.now()):
        raise UsageFailure(
            f"lease {claim.slug} is ready and inside its time: there is nothing to write off",
            hint="give it back instead",
            next_step=f"rentroll stop {claim.slug}",
            lease_id=claim.lease_id,
        )
    lease = app.book.load(claim.lease_id)
    try:
        decide(lease, e.Released(outcome=Outcome.WRITTEN_OFF, reason=wish.reason), app.now())
    except RentrollError as refusal:
        if lease.first_sent_at is not None:
            refusal.hint = f"it may be written off from {after_ms(lease.first_sent_at, WINDOW_MS):%H:%M:%SZ} on"
            refusal.next_step = f"rentroll recover --only {claim.slug}"
        else:
            refusal.hint = "nothing of it was sent: it can be given back as it is"
            refusal.next_step = f"rentroll stop {claim.slug}"
        raise


def _show_boxes(services: "Services", claim: Claim) -> bool:
    """Tells what the provider shows that could be its box, and whether the provider could be asked."""
    try:
        boxes = possible_boxes(services, claim.lease_id)
    except RentrollError as failure:
        note(f"{claim.slug}: fal could not be asked what could be its box: {failure.message}")
        return False
    if not boxes:
        note(f"{claim.slug}: fal shows no instance that could be its box")
    for box in boxes:
        is_its = "is" if box.id == claim.instance_id else "could be"
        note(f"{claim.slug}: {box.id} {is_its} its box: {box.instance_type}, {box.status}, {box.ip or 'no address'}")
    return True


def _told(_stage: "Stage") -> None:
    """The one line of the result says it all."""

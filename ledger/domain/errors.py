"""Every error a user can meet: its name, its exit code and its general remedy, in one table.

The names and codes are the contract of the command line and never change their meaning. A class here is raised
where the trouble is seen; the command line maps it once (`cli/failures.py`).
"""

from typing import ClassVar


class RentrollError(Exception):
    """A foreseen failure. Its message says what happened and what state it left.

    `hint` says why, or what usually helps; `next_step` is a command to type; `lease_id` names the lease it is
    about; `retry_after_s` is how long the provider asked us to wait.
    """

    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 1
    remedy: ClassVar[str] = "This is a bug in rentroll: please report it with the command you ran."

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        next_step: str | None = None,
        lease_id: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.next_step = next_step
        self.lease_id = lease_id
        self.retry_after_s = retry_after_s


class UsageFailure(RentrollError):
    """Bad arguments, bad configuration or a refused claim of ownership."""

    code = "usage"
    exit_code = 2
    remedy = "Correct the command or the setting that is named."


class CredentialsFailure(RentrollError):
    """The API key is missing, rejected, or not the one that owns the lease."""

    code = "credentials"
    exit_code = 3
    remedy = "Set the API key of the account that owns the lease in the environment."


class NotFound(RentrollError):
    """No such lease, slug or instance in this ledger."""

    code = "not-found"
    exit_code = 4
    remedy = "`rentroll list --all` shows what this ledger knows."


class ProviderFailure(RentrollError):
    """fal failed, timed out or has no capacity."""

    code = "provider"
    exit_code = 5
    remedy = "Try again; `rentroll list` shows whether anything was left open."


class SyncFailure(RentrollError):
    """The working tree could not be copied."""

    code = "sync"
    exit_code = 6
    remedy = "The box is untouched or partly copied; the same command goes on from there."


class SshFailure(RentrollError):
    """The box could not be reached, or its host key changed. `stage` says how far we came."""

    code = "ssh"
    exit_code = 7
    remedy = "`rentroll status LEASE` shows the address and the host key that were recorded."

    def __init__(self, message: str, *, stage: str, hint: str | None = None, next_step: str | None = None) -> None:
        super().__init__(message, hint=hint, next_step=next_step)
        self.stage = stage


class BudgetFailure(RentrollError):
    """A spending limit refused it."""

    code = "budget"
    exit_code = 8
    remedy = "Raise the limit or give boxes back."


class IntegrityFailure(RentrollError):
    """The ledger does not verify, or was written by a newer program."""

    code = "integrity"
    exit_code = 9
    remedy = "`rentroll verify` names the events; keep a copy of the ledger before anything else."


class Differences(RentrollError):
    """A report found something."""

    code = "differences"
    exit_code = 10
    remedy = "The report names what was found."


class Conflict(RentrollError):
    """Somebody else is working on this lease."""

    code = "conflict"
    exit_code = 11
    remedy = "Wait for the other process, then try again."


class InDoubt(RentrollError):
    """The outcome of a create is unknown and recorded."""

    code = "in-doubt"
    exit_code = 75
    remedy = "`rentroll stop LEASE` records that the box is not wanted; recovery settles it."


ERRORS: tuple[type[RentrollError], ...] = (
    RentrollError,
    UsageFailure,
    CredentialsFailure,
    NotFound,
    ProviderFailure,
    SyncFailure,
    SshFailure,
    BudgetFailure,
    IntegrityFailure,
    Differences,
    Conflict,
    InDoubt,
)
"""One class for each row of the exit-code table, in its order; the last row is that of `Interrupted`."""


class Interrupted(BaseException):
    """A terminal stop signal, HUP, INT or TERM, ended it; not an error of ours.

    It is raised where the work can be left. `signal_number` is the signal's; the process ends with 128 plus it, after
    giving back. `left` says what state that left.
    """

    code: ClassVar[str] = "interrupted"
    exit_codes: ClassVar[tuple[int, ...]] = (129, 130, 143)
    remedy: ClassVar[str] = "`rentroll list` shows what is still open."

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"interrupted by signal {signal_number}")
        self.signal_number = signal_number
        self.left: str | None = None
        self.lease_id: str | None = None

    @property
    def exit_code(self) -> int:
        return 128 + self.signal_number

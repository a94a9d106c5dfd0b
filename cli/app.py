"""The composition root: the only reader of the environment, the clock and randomness; everything is wired here.

Each part is made when it is first asked for and imported only then: `list` opens the ledger for reading and nothing
else. The API key is read in `provider`, goes into the client, and is kept nowhere.
"""

import os
import sys
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from cli import settings as config
from ledger.domain.errors import UsageFailure

if TYPE_CHECKING:
    from collections.abc import Callable

    from cli.interrupts import SignalInterrupts
    from cli.no_ledger import NoLedger
    from cli.repository import Code
    from ledger.domain.claim import Claim
    from ledger.domain.events import Repository
    from ledger.domain.ports import LeaseLock, Provider
    from ledger.domain.register import Reader, Register
    from ledger.flows.book import Book
    from ledger.flows.services import Services, Stage
    from providers.fal.client import FalClient
    from providers.ssh.box import SshBox

SQLITE = "sqlite:///"
KEY_VARIABLES = ("RENTROLL_FAL_KEY", "FAL_KEY")
OLD_KEY_VARIABLE = "RENTROLL_FAL_KEY_OLD"
ASK_THE_PROVIDER = (
    "audit", "cleanup", "doctor", "list", "live-smoke", "recover", "rotate", "run", "status", "stop", "warmup", "watch",
)  # fmt: skip
"""The commands that take `--api-url`."""


class GlobalOptions(NamedTuple):
    """What stands before the command on the command line."""

    ledger: str | None
    config: str | None
    verbosity: int
    log_format: str
    color: bool


class App:
    """One invocation."""

    def __init__(self, options: GlobalOptions) -> None:
        self.options = options
        self.purpose = "rentroll"
        self.overdue_told: frozenset[str] | None = frozenset()
        """The leases of which the command has said itself that they are overdue; None where that was all of them."""
        self._flags: dict[str, str | None] = {"ledger.url": options.ledger}
        self._opened: list[Callable[[], None]] = []
        if options.verbosity:
            from cli import logs

            logs.configure(options.verbosity, options.log_format)

    def close(self) -> None:
        """Closes what was opened on the way, the last first."""
        while self._opened:
            self._opened.pop()()

    def anew(self) -> "App":
        """The same command line with nothing opened or read yet, for a process that lives long; our signals are its."""
        other = App(self.options)
        other.purpose, other._flags = self.purpose, dict(self._flags)
        other.interrupts = self.interrupts
        return other

    def now(self) -> datetime:
        """The time."""
        return datetime.now(UTC)  # noqa: TID251 - the one clock of the program

    def random_token(self) -> str:
        """Eighty random bits and more, as text."""
        return os.urandom(16).hex()

    def new_lease_id(self) -> str:
        """A lease id that nobody has: 80 random bits and more."""
        from ledger.domain.names import lease_id

        return lease_id(os.urandom)

    def new_run_id(self) -> str:
        """A name for one run."""
        return self.new_lease_id().replace("rl_", "run_", 1)

    def use_flags(self, **flags: str | None) -> None:
        """Puts a command's own flags above every other setting: `fal_api_url` stands for `fal.api_url`."""
        self._flags |= {name.replace("fal_", "fal.", 1): value for name, value in flags.items()}
        self.__dict__.pop("settings", None)  # they may have been read already, to find the ledger

    @cached_property
    def settings(self) -> config.Settings:
        """Effective settings, flags included."""
        loaded = config.load(os.environ, repository_file=self._repository_file(), user_file=self._user_file())
        return loaded.with_flags(self._flags)

    @property
    def valid_settings(self) -> config.Settings:
        """The same, judged by the rules of each. Raises `UsageFailure` naming the setting that is wrong."""
        from cli.validity import require_valid

        require_valid(self.settings)
        return self.settings

    @cached_property
    def state_dir(self) -> str:
        """The folder of the ledger, the keys and the logs: absolute."""
        given = os.environ.get("RENTROLL_STATE_DIR")
        if given is not None:
            if not os.path.isabs(given.strip()):  # noqa: PTH117 - pathlib is not needed to list
                raise UsageFailure("RENTROLL_STATE_DIR must be an absolute path", hint=f"it is {given!r}")
            return given.strip()
        from platformdirs import user_state_dir

        try:
            folder = user_state_dir("rentroll")
        except RuntimeError:  # neither HOME nor a user of that number
            folder = ""
        if not os.path.isabs(folder):  # noqa: PTH117
            raise UsageFailure("there is no home folder to keep the ledger in", hint="set RENTROLL_STATE_DIR or HOME")
        return folder

    def run_folder(self, run_id: str) -> str:
        """Where what a run wrote is kept on this machine."""
        return f"{self.state_dir}/runs/{run_id}"

    @property
    def run_log_bytes(self) -> int:
        """How much of each stream of a run is kept on this machine; none for zero."""
        from cli.run_logs import kept_bytes

        setting = self.settings["runs.log_bytes"]
        return kept_bytes(setting.value, setting.origin)

    def variable(self, name: str) -> str | None:
        """A variable of our environment that a person wants a job to have."""
        return os.environ.get(name)

    @cached_property
    def box(self) -> "SshBox":
        """The boxes over SSH. `RENTROLL_SSH=library` leaves the system's ssh alone."""
        from pathlib import Path

        from providers.ssh.box import SshBox
        from providers.ssh.keys import LeaseKeys

        return SshBox(LeaseKeys(Path(self.keys_root)), use_library=not self.has_system_ssh)

    @property
    def has_system_ssh(self) -> bool:
        """Whether the system's `ssh` is there and wanted. An unknown wish is none: `stop` must not fail of it."""
        if os.environ.get("RENTROLL_SSH", "").strip() == "library":
            return False
        folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
        # Not shutil.which, whose import costs more than a look into every folder.
        return any(os.access(f"{folder or '.'}/ssh", os.X_OK) for folder in folders)

    @property
    def keys_root(self) -> str:
        """The folder that holds each lease's keys."""
        return f"{self.state_dir}/keys"

    @cached_property
    def ledger_path(self) -> str:
        """The file of the ledger. Raises `UsageFailure` for a database that is not served yet."""
        url = self.settings["ledger.url"].value
        if not url:
            return f"{self.state_dir}/ledger.db"
        if url.startswith(("postgresql://", "postgresql+psycopg://")):
            raise UsageFailure("a postgresql ledger is not served yet", hint="it comes with a later release")
        if not url.startswith(SQLITE) or len(url) == len(SQLITE):
            raise UsageFailure(f"not a ledger: {_without_password(url)!r}", hint="write it as sqlite:////absolute/path")
        return url.removeprefix(SQLITE)

    def reader(self) -> "Reader":
        """The ledger for reading claims and events; an empty one where there is none yet."""
        from ledger.store.sqlite_read import open_sqlite_reader

        reader = open_sqlite_reader(self.ledger_path)
        if reader is None:
            return self._no_ledger
        return reader

    def open_claims(self) -> "list[Claim]":
        """The open leases as they are now, over a connection that is open already if there is one."""
        if "register" in self.__dict__:
            return self.register.claims()
        from ledger.store.sqlite_read import open_sqlite_reader

        reader = open_sqlite_reader(self.ledger_path)
        if reader is None:
            return []
        with reader:
            return reader.claims()

    def salt(self) -> bytes:
        """The ledger's own salt, also where it can only be read. A ledger that is missing is made."""
        if "register" not in self.__dict__:
            from ledger.store.sqlite_read import open_sqlite_reader

            reader = open_sqlite_reader(self.ledger_path)
            if reader is not None:
                with reader:
                    return reader.salt()
        return self.register.salt()

    @cached_property
    def _no_ledger(self) -> "NoLedger":
        """What is read where there is no ledger yet; a path that somebody gave may be mistyped, so it is told once."""
        from cli.no_ledger import NoLedger

        if self.settings["ledger.url"].value:
            from cli.render import note

            note(f"there is no ledger at {self.ledger_path} yet")
        return NoLedger()

    @cached_property
    def register(self) -> "Register":
        """The ledger for appending, made if missing."""
        from ledger.store.sqlite import open_sqlite

        register = open_sqlite(self.ledger_path, create=True, random_bytes=os.urandom, now=self.now)
        self._opened.append(register.close)
        return register

    @cached_property
    def code(self) -> "Code | None":
        """The repository that we stand in and its commit; None outside one."""
        from cli.repository import here

        return here(f"{self.state_dir}/repositories")

    @property
    def repository(self) -> "Repository | None":
        """The repository that we stand in; None outside one."""
        return None if self.code is None else self.code.repository

    @cached_property
    def actor(self) -> str:
        """Who is said to have done it: user@host."""
        from getpass import getuser

        try:
            user = getuser()
        except (KeyError, OSError):
            user = f"uid{os.getuid()}"
        return f"{user}@{os.uname().nodename}"

    @cached_property
    def host(self) -> str:
        """This machine's name, as it stands in the ledger."""
        return os.uname().nodename  # what socket.gethostname gives, without that import

    @cached_property
    def book(self) -> "Book":
        """The pen of this process; ids that waited in the spool are appended first."""
        from cli.clock import SystemClock
        from cli.failures import SECRET_VARIABLES
        from ledger.flows.book import Book
        from ledger.flows.spool import merge

        secrets = [os.environ.get(name, "").strip() for name in SECRET_VARIABLES]
        book = Book(self.register, SystemClock(self.random_token()), self.actor, secrets=secrets)
        waiting = merge(self.spool_folder, book)
        if waiting:
            from cli.render import note

            for path in waiting:
                note(f"{path} could not be appended: it may name a box that bills; `rentroll doctor` says what to do")
        return book

    @property
    def spool_folder(self) -> str:
        """Where ids wait that the ledger would not take."""
        return f"{self.state_dir}/spool"

    @cached_property
    def interrupts(self) -> "SignalInterrupts":
        """The terminal's stop signals, taken over at first use."""
        from cli.interrupts import SignalInterrupts

        interrupts = SignalInterrupts()
        interrupts.install()
        return interrupts

    def api_key(self) -> str | None:
        """The API key of the environment; a blank one counts as missing."""
        return next((key for name in KEY_VARIABLES if (key := os.environ.get(name, "").strip())), None)

    def old_api_key(self) -> str | None:
        """The key that `rotate` replaces; a blank one counts as missing."""
        return os.environ.get(OLD_KEY_VARIABLE, "").strip() or None

    def provider(self, name: str | None = None, *, key: str | None = None) -> "FalClient":
        """The provider under the environment's key, or another one. Raises `CredentialsFailure` without any."""
        from providers.registry import open_provider

        url = self.settings["fal.api_url"]
        key = key or self.api_key()
        if key is None:
            from providers.absent import missing_key

            raise missing_key()
        if url.source == "repository" and not _is_default(url.value):
            raise UsageFailure(
                f"{url.origin} points the API key of the environment at {_without_password(url.value)}",
                hint="a repository's file may not do that; approve it with RENTROLL_FAL_API_URL or --api-url",
            )
        return open_provider(name, api_url=url.value, api_key=key, now=self.now)

    def services(
        self,
        tell: "Callable[[Stage], None]",
        provider_name: str | None = None,
        *,
        key_required: bool = True,
        with_provider: bool = True,
    ) -> "Services":
        """Everything that a flow works with. Without `key_required` a missing key shows only where it is needed.

        Without `with_provider` there is no client of the provider at all, for what only works on boxes.
        """
        from pathlib import Path

        from cli.clock import SystemClock
        from ledger.flows.services import Services
        from ledger.flows.spool import Spool
        from ledger.store.private_files import keep_private_file
        from providers.ssh.keys import LeaseKeys

        binding = ""
        if with_provider and (key_required or self.api_key() is not None):
            provider: Provider = (client := self.provider(provider_name))
            self._opened.append(client.close)
        else:
            from providers.absent import AbsentProvider

            provider = AbsentProvider()
        if with_provider:
            from ledger.domain.credentials import credential_binding

            binding = credential_binding(self.register.salt(), self.api_key() or "")
        keys = LeaseKeys(Path(self.keys_root))
        if self.options.verbosity:
            from cli.logs import logged

            tell = logged(tell)
        return Services(
            book=self.book,
            provider=provider,
            credential_binding=binding,
            box=self.box,
            keys=keys,
            locks=self.lease_lock,
            clock=SystemClock(self.random_token()),
            interrupts=self.interrupts,
            spool=Spool(Path(self.spool_folder), keep_private_file),
            tell=tell,
            host=self.host,
            pid=os.getpid(),
            poll_interval_s=self.poll_interval_s,
        )

    @property
    def poll_interval_s(self) -> float:
        """How long to wait between two looks at an instance."""
        from ledger.domain.units import parse_duration_ms

        return parse_duration_ms(self.settings["fal.poll_interval"].value) / 1000

    def lease_lock(self, lease_id: str) -> "LeaseLock":
        """The lock of one lease."""
        from pathlib import Path

        from ledger.store.locks import LeaseLock

        return LeaseLock(Path(self.locks_folder), lease_id, purpose=self.purpose)

    def client_lock(self, lease_id: str) -> "LeaseLock":
        """What a `run` holds for as long as the lease that it made for itself has somebody who wants it."""
        from pathlib import Path

        from ledger.store.locks import LeaseLock

        return LeaseLock(Path(self.locks_folder), lease_id, purpose=self.purpose, of_client=True)

    @property
    def locks_folder(self) -> str:
        """Where the leases' locks are: beside the ledger, so that every user of the ledger shares them."""
        return f"{self.ledger_path}.locks"

    def stop_command(self, slug: str) -> str:
        """What a person types to give a lease back."""
        return self.command_line("stop", slug)

    def command_line(self, *command: str) -> str:
        """What a person types next, with the flags that this command line needed (CFG-17)."""
        import shlex

        ledger, url = self.options.ledger, self.settings["fal.api_url"]
        words = ["rentroll", *(["--ledger", _without_password(ledger)] if ledger is not None else []), *command]
        if url.source == "flag" and command[0] in ASK_THE_PROVIDER:
            words += ["--api-url", _without_password(url.value)]
        return shlex.join(words)

    @property
    def is_terminal(self) -> bool:
        """Whether a person watches stderr."""
        return sys.stderr is not None and sys.stderr.isatty()

    def _repository_file(self) -> str | None:
        """`rentroll.toml` of the repository that we stand in: the nearest one up to the folder with `.git`."""
        try:
            folder = os.getcwd()  # noqa: PTH109 - pathlib is not needed to list
        except OSError:  # somebody has deleted it under us
            return None
        while True:
            candidate = os.path.join(folder, "rentroll.toml")  # noqa: PTH118
            if os.path.isfile(candidate):  # noqa: PTH113
                return candidate
            parent = os.path.dirname(folder)  # noqa: PTH120
            if os.path.exists(os.path.join(folder, ".git")) or parent == folder:  # noqa: PTH110, PTH118
                return None
            folder = parent

    def _user_file(self) -> str | None:
        if self.options.config is not None:
            return self.options.config
        base = os.environ.get("XDG_CONFIG_HOME", "").strip()
        if not base and sys.platform == "linux":
            base = os.path.expanduser("~/.config")  # noqa: PTH111
        if not base:
            from platformdirs import user_config_dir

            base = os.path.dirname(user_config_dir("rentroll"))  # noqa: PTH120
        candidate = f"{base}/rentroll/config.toml"
        return candidate if os.path.isfile(candidate) else None  # noqa: PTH113


def _is_default(api_url: str) -> bool:
    """Whether it is fal's own endpoint, however it is spelled: naming that sends a key nowhere new."""
    from providers.fal.endpoint import endpoint_scope

    return endpoint_scope(api_url) == endpoint_scope(config.DEFAULTS["fal.api_url"])


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}".partition("?")[0]

"""The live smoke, told top to bottom: one lease of its own from nothing to nothing, judged by ids and types.

Whatever happens from the first create on, an armed cleanup gives that one lease back. Nothing here touches or judges
what is anybody else's: others' boxes come and go (W-39).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from decimal import Decimal

from msgspec import Struct

from ledger.domain.errors import Interrupted
from ledger.domain.ports import Inventory, KeyRejected
from ledger.domain.smoke import Left, NotAsExpected, NotFit
from ledger.domain.state import Lease
from ledger.flows.acquire import CLOCK_SKEW_MAX_S, Wanted, acquire
from ledger.flows.services import Services
from ledger.flows.smoke_cleanup import PAUSE_S, Cleaned, Cleanup, in_words
from ledger.flows.stop import Stop, stop
from ledger.flows.work import Job, run

GONE_TRIES = 30
"""So many inventories, `PAUSE_S` apart, may still list a box whose lease is released (SMK-05)."""
COMMAND = ("sh", "-c", 'echo "live smoke of $RENTROLL_LEASE_ID"')
"""What runs on the box: its whole output is known beforehand, and differs from one smoke to the next."""
SHOWN_MAX = 200
"""So much of a wrong answer is shown."""


class Step(Struct, frozen=True, kw_only=True):
    """One step of the smoke: what it is, whether it went as it must, how long it took, and what it saw."""

    name: str
    ok: bool
    seconds: float
    detail: str


class Smoke(Struct, frozen=True, kw_only=True):
    """A wish for a live smoke. `wanted` is its lease; `token` this process's random name, should it have to take over.

    `on_step` is told of each step when it is over.
    """

    wanted: Wanted
    run_id: str
    token: str
    on_step: Callable[[Step], None]


class Told(Struct, frozen=True, kw_only=True):
    """What became of it. `failure` is the first thing that went wrong, `left` all that the cleanup could not end.

    `lease` is as the cleanup left it; `balance` is the account's, where the key may read it.
    """

    steps: tuple[Step, ...]
    failure: Exception | Interrupted | None
    left: tuple[Left, ...]
    lease: Lease
    balance: Decimal | None


def smoke(services: Services, wish: Smoke) -> Told:
    """Goes through a whole lease at the provider and gives what became of it, whatever that is.

    The order is that of SMK-03: look, lease, wait until ready, run, list, stop, look, nothing left.
    """
    return _Story(services, wish).told()


class _Story:
    def __init__(self, services: Services, wish: Smoke) -> None:
        self._services = services
        self._wish = wish
        self._lease_id = wish.wanted.lease_id
        self._cleanup = Cleanup(services, self._lease_id, token=wish.token)
        self._cleaned: Cleaned | None = None
        self._steps: list[Step] = []
        self._balance: Decimal | None = None
        self._ids_before: frozenset[str] = frozenset()

    def told(self) -> Told:
        """The whole story."""
        failure: Exception | Interrupted | None = None
        try:
            self._look_before()
        except (Exception, Interrupted) as unfit:  # noqa: BLE001 - a bug of ours is a result as well
            return self._so_far(unfit)
        try:
            try:
                self._lease_and_give_back()
            except (Exception, Interrupted) as first:  # noqa: BLE001 - not even a bug of ours may leave a box behind
                failure = first
            self._clean_up()
        except Interrupted as late:
            # It came in the instant before the cleanup was shielded, or was held back by it; there is no second one.
            failure = failure or late
            if self._cleaned is None:
                self._clean_up()
        return self._so_far(failure)

    def _so_far(self, failure: Exception | Interrupted | None) -> Told:
        cleaned = self._cleaned or Cleaned(lease=Lease(lease_id=self._lease_id), left=(), tries=0)
        return Told(
            steps=tuple(self._steps),
            failure=failure,
            left=cleaned.left,
            lease=cleaned.lease,
            balance=self._balance,
        )

    def _look_before(self) -> None:
        """The pre-flight: account, complete inventory, a clock that agrees, a ledger with nothing open (SMK-04)."""
        services = self._services
        with self._step("account") as said:
            self._balance = _balance(services, said)
        with self._step("inventory") as said:
            inventory = services.provider.inventory()
            _require_agreeing_clock(services)
            self._ids_before = _ids(inventory)
            said.append(f"complete; instances of others: {len(self._ids_before)}")
        with self._step("ledger") as said:
            held = [claim.slug for claim in services.book.register.claims()]
            if held:
                raise NotAsExpected("open-leases", f"the ledger has open leases: {', '.join(sorted(held))}")
            said.append("no open lease")

    def _lease_and_give_back(self) -> None:
        services = self._services
        with self._step("armed") as said:
            said.append(f"whatever happens now, lease {self._lease_id} is stopped, and no other")
        with self._step("warm-up") as said:
            lease = acquire(services, self._wish.wanted)
            said.append(f"{lease.slug} is ready: box {lease.instance_id}")
        with self._step("command") as said:
            self._require_exact_answer(said)
        with self._step("list") as said:
            self._require_listed(lease, said)
        with self._step("stop") as said:
            released = stop(services, Stop(lease_id=self._lease_id, reason="live smoke", token=self._wish.token))
            said.append(f"released as {released.outcome}")
        with self._step("gone") as said:
            self._require_gone(lease, said)
        with self._step("nothing left") as said:
            # A second box that is not ruled out yet is for the cleanup to look for.
            left = [one.told for one in self._cleanup.left_of_ours() if one.kind != "suspect"]
            if left:
                raise NotAsExpected("left", "; ".join(left))
            said.append("no open lease, no key folder")

    def _require_exact_answer(self, said: list[str]) -> None:
        """A command through the box's shell, whose whole output is known beforehand (SMK-15)."""
        expected = f"live smoke of {self._lease_id}\n"
        shown = bytearray()
        job = Job(
            run_id=self._wish.run_id,
            lease_id=self._lease_id,
            command=COMMAND,
            repository=self._wish.wanted.repository,
            stdin=None,
            on_stdout=shown.extend,
            on_stderr=lambda _chunk: None,
            plain=True,
        )
        ended = run(self._services, job, lambda _lease_id: nullcontext())
        if (ended.exit_code, ended.signal) != (0, None) or bytes(shown) != expected.encode():
            answer = bytes(shown[:SHOWN_MAX]).decode(errors="backslashreplace")
            how = f"signal {ended.signal}" if ended.exit_code is None else f"exit code {ended.exit_code}"
            raise NotAsExpected("output", f"expected the one line {expected!r} and exit code 0, not {answer!r}, {how}")
        said.append(f"exactly {expected.strip()!r}")

    def _require_listed(self, lease: Lease, said: list[str]) -> None:
        """The ledger's list is exactly this lease, and fal shows its box ready; what others have is only counted."""
        held = [claim.lease_id for claim in self._services.book.register.claims()]
        if held != [self._lease_id]:
            raise NotAsExpected("list", f"the list is {', '.join(held) or 'empty'}, not exactly {self._lease_id}")
        inventory = self._services.provider.inventory()
        status = next((box.status for box in inventory.instances if box.id == lease.instance_id), "not listed")
        if status != "ready":
            raise NotAsExpected("list", f"fal shows box {lease.instance_id} as {status}, not as ready")
        said.append(f"exactly {lease.slug}; {self._others(inventory, lease)}")

    def _require_gone(self, lease: Lease, said: list[str]) -> None:
        """A deletion may take a while to show in a listing; our own id must go, whatever others do (SMK-06)."""
        for number in range(1, GONE_TRIES + 1):
            inventory = self._services.provider.inventory()
            if lease.instance_id not in _ids(inventory):
                said.append(f"box {lease.instance_id} is not listed; {self._others(inventory, lease)}")
                return
            if number < GONE_TRIES:
                self._services.clock.sleep(PAUSE_S)
        raise NotAsExpected("gone", f"fal still lists box {lease.instance_id} after its lease was released")

    def _others(self, inventory: Inventory, lease: Lease) -> str:
        now = _ids(inventory) - {lease.instance_id or ""}
        return f"of others {len(now - self._ids_before)} came and {len(self._ids_before - now)} went"

    def _clean_up(self) -> None:
        began_s = self._services.clock.monotonic_s()
        with self._services.interrupts.shielded():
            cleaned = self._cleaned = self._cleanup.run()
            told = "; ".join(one.told for one in cleaned.left) or "nothing is left"
            self._tell("cleanup", began_s, ok=not cleaned.left, detail=f"{told}; tries: {cleaned.tries}")

    @contextmanager
    def _step(self, name: str) -> Iterator[list[str]]:
        began_s = self._services.clock.monotonic_s()
        said: list[str] = []
        try:
            yield said
        except (Exception, Interrupted) as failure:
            self._tell(name, began_s, ok=False, detail=in_words(failure))
            raise
        self._tell(name, began_s, ok=True, detail="; ".join(said))

    def _tell(self, name: str, began_s: float, *, ok: bool, detail: str) -> None:
        seconds = round(self._services.clock.monotonic_s() - began_s, 3)
        step = Step(name=name, ok=ok, seconds=seconds, detail=detail)
        self._steps.append(step)
        self._wish.on_step(step)


def _balance(services: Services, said: list[str]) -> Decimal | None:
    """The account's balance, where the key may read it: it need not."""
    try:
        account = services.provider.account()
    except KeyRejected:
        said.append("this key may not read it")
        return None
    if account.balance is None:
        said.append("it shows no balance")
        return None
    said.append(f"balance {account.balance} {account.currency}")
    return Decimal(account.balance)


def _require_agreeing_clock(services: Services) -> None:
    date = services.provider.server_date
    skew_s = abs((services.clock.now() - date).total_seconds()) if date is not None else 0.0
    if skew_s > CLOCK_SKEW_MAX_S:
        raise NotFit("clock", f"this machine's clock and fal's differ by {skew_s:.0f} s", hint="set the clock")


def _ids(inventory: Inventory) -> frozenset[str]:
    return frozenset(instance.id for instance in inventory.instances)

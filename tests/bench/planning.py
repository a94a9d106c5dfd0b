"""What it takes to plan a recovery, with ten open leases: after a long past against after a short one, in one process.

`planning.py SMALL LARGE ROUNDS` prints the ratios of the times as JSON, one for each round; the application's own
Python runs it, on two ledgers of `history.py`. A plan is what a pass does before it touches the first lease: it reads
the open leases, the suspects, what was released lately, streams and inventories of what is in doubt, and judges.
"""

import gc
import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

# Last, so that what is measured is the installed program and not the checkout.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from ledger.domain.instance import Instance
from ledger.domain.plan import Around
from ledger.domain.ports import Inventory
from ledger.flows.book import Book
from ledger.flows.recover import NOT_BEGUN, Pass, recover
from ledger.flows.services import Services
from ledger.store.sqlite import open_sqlite
from tests.bench.history import BINDING, NOW, SCOPE, STAGES
from tests.bench.make_ledger import ACTOR

PLANS = 100
STRANGERS = 5
"""Boxes in the account that no lease is bound to: of each it is asked whether it could be one's own."""


class Account:
    """A provider that shows the same account at once: none of its time is part of a plan."""

    scope = SCOPE

    def inventory(self) -> Inventory:
        boxes = [
            Instance(id=f"i-stranger-{number}", instance_type="gpu_1x_h100_sxm5", region="us-west", status="ready")
            for number in range(STRANGERS)
        ]
        return Inventory(instances=tuple(boxes), begun_at=NOW)


class Standing:
    """A clock that stands still: what is due is the same in each plan."""

    def now(self) -> datetime:
        return NOW


class Unstopped:
    """No signal comes."""

    def shielded(self) -> Any:
        return nullcontext()


def planner(path: Path) -> Callable[[], None]:
    """One plan for the ledger at `path`, over a connection that is open, as in a watch."""
    clock: Any = Standing()
    unused: Any = None
    provider: Any = Account()
    register = open_sqlite(path, create=True, random_bytes=unused, now=unused)
    services = Services(
        book=Book(register, clock, ACTOR),
        provider=provider,
        credential_binding=BINDING,
        box=unused,
        keys=unused,
        locks=unused,
        clock=clock,
        interrupts=Unstopped(),  # type: ignore[arg-type]
        spool=unused,
        tell=unused,
        host="workshop",
        pid=1,
        poll_interval_s=1.0,
    )
    # It ends before it begins with the first lease, and is not spread over threads.
    wish = Pass(around=lambda _: Around(now=NOW), token="", side_by_side=1, is_ending=lambda: True)

    def plan() -> None:
        due = [done.action.action for done in recover(services, wish) if done.result == NOT_BEGUN]
        if sorted(due) != ["cancel"] * 2 + ["delete"] * 2 + ["roll-back"] * 2 + ["settle"] * 2:
            raise RuntimeError(f"a plan for {len(STAGES)} leases: {due}")

    return plan


def seconds(plan: Callable[[], None]) -> float:
    """How long one plan takes."""
    started = perf_counter()
    plan()
    return perf_counter() - started


def ratios(small: Path, large: Path, rounds: int) -> list[float]:
    """The long past's time as a multiple of the short one's.

    Within a round both take turns after each plan, and the medians are compared: a plan takes little more than a
    millisecond, and what else the machine does would weigh more than any difference.
    """
    short, long = planner(small), planner(large)
    short(), long()  # the first one records its inventory
    gc.freeze()
    found = []
    for _ in range(rounds + 1):
        turns = [(seconds(short), seconds(long)) for _ in range(PLANS)]
        shorts, longs = zip(*turns, strict=True)
        found.append(median(longs) / median(shorts))
    return found[1:]  # the first one warms the caches


if __name__ == "__main__":
    sys.stdout.write(json.dumps(ratios(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))) + "\n")

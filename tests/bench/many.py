"""Many leases at once, for `crowds.py`; the application's own Python runs it, with `RENTROLL_STATE_DIR` where told.

`many.py serve FOLDER` serves an emulator whose boxes never boot and are gone as soon as they are deleted, until its
stdin ends; its first line is the environment of a client. `many.py lease COUNT` makes so many leases with a box each.
`many.py recover ONE MANY ROUNDS` prints the ratios of the times of whole passes as JSON.
"""

import gc
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from msgspec.structs import replace

# Last, so that what is measured is the installed program and not the checkout.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from cli.app import App, GlobalOptions
from cli.around import around_of
from ledger.domain import events as e
from ledger.domain.state import Lease
from ledger.flows.recover import Pass, recover
from providers.emulator.machines import Settings
from providers.emulator.serve import ACCOUNT, Emulator
from tests.bench.make_ledger import created
from tests.bench.served import control
from tests.bench.timing import ratios

BOOT_S = 86_400.0
NEW = {"account": ACCOUNT, "ready": False}


def serve(folder: str) -> None:
    """An emulator in a process of its own. A box that does not boot needs no SSH server."""
    started_at = datetime.now(UTC)  # noqa: TID251 - the boxes are to be as old as their leases
    settings = Settings(boot_s=BOOT_S, delete_s=0.0)
    with Emulator(Path(folder), started_at=started_at, settings=settings) as emulator:
        sys.stdout.write(json.dumps({"environment": emulator.environment()}) + "\n")
        sys.stdout.flush()
        sys.stdin.read()


def new_app() -> App:
    return App(GlobalOptions(ledger=None, config=None, verbosity=0, log_format="console", color=False))


def lease(app: App, count: int) -> None:
    """Leases whose acquirer died right after it had bound the id of the box, with their boxes and their keys."""
    services = app.services(lambda _: None)
    now = app.now()
    boxes = [control(os.environ, "POST", "instances", NEW)["id"] for _ in range(count)]
    with app.register.transaction() as transaction:
        for number, box in enumerate(boxes):
            name = app.new_lease_id()
            requested, sent, bound = created(name, number, now)[:3]
            facts: list[e.LeaseEvent] = [
                replace(
                    requested,
                    scope=services.provider.scope,
                    credential_binding=services.credential_binding,
                    public_key=services.keys.make(name),
                ),
                replace(sent, credential_binding=services.credential_binding),
                replace(bound, instance_id=box, instance=None),
            ]
            transaction.append(Lease(lease_id=name), facts, at=now, actor=app.actor)


def pass_s(count: int) -> float:
    """How long one pass takes that gives so many boxes back, on a new ledger and new connections."""
    with TemporaryDirectory(dir=os.environ["RENTROLL_STATE_DIR"]) as folder:
        os.environ["RENTROLL_STATE_DIR"], above = folder, os.environ["RENTROLL_STATE_DIR"]
        app = new_app()
        try:
            lease(app, count)
            wish = Pass(around=around_of(app, expires=False), token=app.random_token())
            services = app.services(lambda _: None)
            started = perf_counter()
            dones = recover(services, wish)
            elapsed_s = perf_counter() - started
        finally:
            app.close()
            os.environ["RENTROLL_STATE_DIR"] = above
    if [done.result for done in dones] != ["rolled-back"] * count:
        raise RuntimeError(f"{count} leases: {[str(done.error or done.result) for done in dones]}")
    return elapsed_s


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    elif sys.argv[1] == "lease":
        made = new_app()
        lease(made, int(sys.argv[2]))
        made.close()
    else:
        few, many, rounds = map(int, sys.argv[2:])
        gc.freeze()
        found = ratios(lambda: pass_s(many), lambda: pass_s(few), rounds=rounds)
        sys.stdout.write(json.dumps([found.figures, found.case_s]) + "\n")

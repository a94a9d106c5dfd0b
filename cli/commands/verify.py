"""`rentroll verify`: the hash chain, and the claims against a replay of the log."""

from typing import TYPE_CHECKING

import click

from cli.app import App
from cli.options import as_json
from cli.render import emit, say

if TYPE_CHECKING:
    from ledger.domain.rows import Verification


@click.command(name="verify")
@as_json
@click.pass_obj
def command(app: App, as_json: bool) -> int:
    """Check the hash chain and the claims against the log."""
    from ledger.domain.errors import IntegrityFailure

    found = _verify(app)
    if as_json:
        problems = [problem._asdict() for problem in found.problems]
        emit(
            "verify",
            {"ok": not problems, "events": found.events, "head_hash": found.head_hash, "problems": problems},
        )
    else:
        for problem in found.problems:
            say(f"position {problem.position}: {problem.kind}: {problem.message}")
        say(f"{found.events} events, head {found.head_hash[:16]}…: {'ok' if not found.problems else 'DOES NOT VERIFY'}")
    return IntegrityFailure.exit_code if found.problems else 0


def _verify(app: App) -> "Verification":
    from ledger.domain.rows import GENESIS, Verification
    from ledger.store.sqlite_read import open_sqlite_reader

    reader = open_sqlite_reader(app.ledger_path)
    if reader is None:
        return Verification(0, GENESIS, ())
    with reader:
        return reader.verify()

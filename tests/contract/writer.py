"""A process that appends to a ledger: `python -m tests.contract.writer LEDGER LEASE COUNT [FILE-SIZE-LIMIT]`.

It opens (or makes) the ledger, says `ready`, waits for a line, and then says the new position after each commit.
"""

import os
import resource
import sys

from ledger.domain.errors import RentrollError
from ledger.domain.state import Lease
from ledger.store.sqlite import open_sqlite
from tests.contract.facts import ACTOR, NOW, requested, sent


def main(path: str, lease_id: str, count: str, file_size_limit: str = "") -> None:
    register = open_sqlite(path, create=True, random_bytes=os.urandom, now=lambda: NOW)
    say("ready")
    sys.stdin.readline()
    if file_size_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(file_size_limit), int(file_size_limit)))
    lease = Lease(lease_id=lease_id)
    try:
        for number in range(int(count)):
            with register.transaction() as transaction:
                fact = sent(number) if number else requested(lease_id)
                lease = transaction.append(lease, [fact], at=NOW, actor=ACTOR)
                position = transaction.head().position
            say(str(position))
    except RentrollError as error:
        say(f"{type(error).__name__}: {error.message}")
    register.close()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""An emulator in a process of its own, as a program's environment names it, and its control API."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.request import Request, urlopen


@contextmanager
def emulator(serve: Sequence[str], environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Served by a command whose first line is JSON; gives the environment that points a client at it."""
    pipe = subprocess.PIPE
    with subprocess.Popen(serve, env=environment, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:
        try:
            if process.stdout is None:
                raise RuntimeError("the emulator has no output")
            variables: dict[str, str] = json.loads(process.stdout.readline())["environment"]
            yield variables
        finally:
            process.terminate()


def control(environment: Mapping[str, str], method: str, path: str, body: Any = None) -> Any:
    """One request to the control API of the emulator that an environment names; gives what it answers."""
    base = environment["RENTROLL_FAL_API_URL"].removesuffix("/v1")
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(f"{base}/_emulator/{path}", data=data, method=method)) as answer:
        return json.loads(answer.read() or "null")


def pages(environment: Mapping[str, str]) -> int:
    """How many requests one walk over the inventory takes: fal's pages, with its own page size."""
    walked, cursor = 0, ""
    while True:
        url = f"{environment['RENTROLL_FAL_API_URL']}/compute/instances{cursor}"
        header = {"Authorization": f"Key {environment['RENTROLL_FAL_KEY']}"}
        with urlopen(Request(url, headers=header)) as answer:
            page = json.load(answer)
        walked += 1
        if not page["has_more"]:
            return walked
        cursor = f"?cursor={page['next_cursor']}"

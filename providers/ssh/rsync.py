"""Files by the local rsync and the box's, over the lease's own SSH, of each only what has changed.

The options are those of rsync(1); `--files-from` names the files. The quick check is off: it takes whole seconds for
equal, and what is to be sent is known. Folders are none of its business: the agent has made them. Nor is what an rsync
that was killed leaves: the box's one writes into a folder beside the workspace, which the agent empties. Where it is
the client that was killed, both rsyncs live on; a file says so to whoever takes the lock next, who ends the box's one.
It is made before the token is looked at: either the next holder sees it, or the script sees the next holder's token.
"""

import contextlib
import os
import re
import shlex
import subprocess
import threading
from collections.abc import Sequence
from typing import IO, NamedTuple

from ledger.domain.ports import PlaceFailure, Progress

FAILED = "rsync"
"""The stage of the failures here: our own transfer can do the same."""
OLDEST_PROTOCOL = 31
"""rsync 3.1 (2013), which sends times to the nanosecond. macOS has others of that name, which do not."""
_OPTIONS = (
    "--links", "--perms", "--times", "--omit-link-times", "--no-implied-dirs", "--ignore-times",
    "--from0", "--files-from=-", "--info=progress2", "--no-human-readable",
)  # fmt: skip
_PARTLY = (0, 23, 24)
"""All is there, or what was not there here any more is missing: the comparison afterwards finds what is not right."""
_PROTOCOL = re.compile(rb"protocol version (\d+)")
_PROGRESS = re.compile(rb"^\s*(\d+)\s.*\(xfr#(\d+)")
_SAID_BYTES = 4096


class Remote(NamedTuple):
    """The other side: the ssh command line up to the host, the host, and where the agent works.

    `workspace` and `state` are quoted for sh; `token` is the fencing token under which the workspace is held.
    """

    ssh: Sequence[str]
    host: str
    workspace: str
    state: str
    token: int


def send(remote: Remote, root: bytes, paths: Sequence[bytes], progress: Progress) -> None:
    """Sends these files and links of the local folder `root`.

    Raises PlaceFailure (stage `rsync`) where rsync cannot: some may have arrived. What an interrupt raises ends the
    local rsync first.
    """
    _require_rsync()
    process = subprocess.Popen(
        _command(remote, root),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C"},
    )
    said: list[bytes] = []
    feeder = threading.Thread(target=_feed, args=(process.stdin, paths), name="rsync-names", daemon=True)
    listener = threading.Thread(target=_listen, args=(process.stderr, said), name="rsync-words", daemon=True)
    with process:
        try:
            feeder.start()
            listener.start()
            _follow(process.stdout, progress)
            code = process.wait()
        except BaseException:
            process.terminate()
            raise
        finally:
            feeder.join()
            listener.join()
    if code not in _PARTLY:
        raise PlaceFailure(f"rsync failed ({code}{_why(said)})", stage=FAILED)


def _command(remote: Remote, root: bytes) -> list[str | bytes]:
    script = (
        f'cd {remote.state} && : > rsync && test "$(cat token)" = {remote.token:020d} && state=$PWD'
        f' && cd {remote.workspace} && shift && exec rsync --server --temp-dir="$state/incoming" "$@"'
    )
    return [
        "rsync",
        *_OPTIONS,
        f"--rsync-path=sh -c {shlex.quote(script)} rsync",
        f"--rsh={_for_rsh(remote.ssh)}",
        root + b"/",
        f"{remote.host}:.",
    ]


def _for_rsh(words: Sequence[str]) -> str:
    """Words for --rsh, which knows quotes and no backslash; a quote is doubled inside quotes of its own kind."""
    return " ".join("'" + word.replace("'", "''") + "'" for word in words)


def _require_rsync() -> None:
    try:
        version = subprocess.run(["rsync", "--version"], capture_output=True, check=False).stdout
    except OSError as error:
        raise PlaceFailure(f"the rsync of this machine cannot be run: {error.strerror}", stage=FAILED) from None
    found = _PROTOCOL.search(version)
    if found is None or int(found[1]) < OLDEST_PROTOCOL:
        raise PlaceFailure("the rsync of this machine is older than 3.1", stage=FAILED)


def _feed(stdin: IO[bytes] | None, paths: Sequence[bytes]) -> None:
    with contextlib.suppress(OSError), stdin or contextlib.nullcontext() as pipe:
        if pipe is not None:
            pipe.write(b"\0".join(paths) + b"\0")


def _listen(stderr: IO[bytes] | None, said: list[bytes]) -> None:
    for line in stderr or ():
        said.append(line)
        del said[:-20]


def _follow(stdout: IO[bytes] | None, progress: Progress) -> None:
    """Reads rsync's progress lines, each of which overwrites the one before it."""
    descriptor = stdout.fileno() if stdout is not None else -1
    while chunk := os.read(descriptor, _SAID_BYTES):
        found = _PROGRESS.search(chunk.rpartition(b"\r")[2])
        if found:
            progress(int(found[2]), int(found[1]))


def _why(said: list[bytes]) -> str:
    words = b" ".join(b"".join(said).split())[-_SAID_BYTES:].decode("utf-8", "replace")
    return f": {words}" if words else ""

"""How a command is started so that it can be signalled later: its shell says its process id before anything else.

sshd gives each command without a terminal a session, and so a process group, of its own: the shell's process id is
the id of the group. The shell reports it as the first thing on stderr and goes on as the command; the report is
taken out again on this side. No file is left on the box, nothing is looked up later, and neither stdin nor stdout
nor the arguments are touched.
"""

import re
import shlex

_REPORT = "rentroll-process:"
_REPORTED = re.compile(rb"rentroll-process:([0-9]{1,10})\n")
_NOISE_LIMIT_BYTES = 65_536


def wrapped(line: str) -> str:
    """What is sent to the box so that its `sh` runs `line`, whichever login shell receives it."""
    return f"exec sh -c {shlex.quote(f'echo {_REPORT}$$ >&2; {line}')}"


def kill_line(process_group: int, signal_name: str) -> str:
    """The command that sends a signal (`INT`) to a command's whole process group.

    A server that gives its commands no group of their own still gets the command's shell signalled.
    """
    script = (
        f"kill -s {signal_name} -- -{process_group} 2>/dev/null || kill -s {signal_name} {process_group} 2>/dev/null"
    )
    return f"exec sh -c {shlex.quote(script)}"


class ReportFilter:
    """Takes the report out of a command's stderr. `process_group` is known once it has passed.

    What a login shell's start-up prints before the report is passed on. A server that runs something else than
    what it was sent never reports: after 64 KiB without a report everything is passed on as it comes.
    """

    def __init__(self) -> None:
        self.process_group: int | None = None
        self._held: bytes | None = b""

    def feed(self, chunk: bytes) -> bytes:
        """Takes the next chunk of stderr and gives what of it belongs to the command."""
        if self._held is None:
            return chunk
        self._held += chunk
        found = _REPORTED.search(self._held)
        if found is not None:
            self.process_group = int(found[1])
            passed = self._held[: found.start()] + self._held[found.end() :]
            self._held = None
            return passed
        return self.rest() if len(self._held) > _NOISE_LIMIT_BYTES else b""

    def rest(self) -> bytes:
        """Gives what was held back, once nothing more can complete a report."""
        passed, self._held = self._held or b"", None
        return passed

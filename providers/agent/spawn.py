"""Starting a job: its command, its environment, its own session, its pipes or its terminal.

The job is the leader of a session of its own, so that no end of the channel reaches it, and its whole group can be
signalled. Its environment is the login's own, as it was before Python, with what the client gave.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C half of signal, which imports enum: 5 ms
import errno
import os
import sys

TYPE_CHECKING = False  # as typing's own; importing that would cost the agent's start several milliseconds
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

PIPE_BYTES = 1_048_576
"""How much a pipe to or from a job holds, where the system lets it."""
_F_SETPIPE_SZ = 1031  # Linux; named in fcntl since Python 3.10
_SH = "/bin/sh"
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
_NOT_FOUND = 'printf "rentroll: %s: %s\\n" "$1" "$2" >&2; exit "$3"'
_IGNORED = ("SIGPIPE", "SIGXFSZ", "SIGHUP", "SIGINT")  # by Python or by us; ignoring is inherited through exec


class Process:
    """A started job: its process id, which is its group's too, and our ends of its streams.

    `stdin` is None where it was given none. With a terminal `stdin` and `outputs[0]` are both its master.
    """

    def __init__(self, pid: int, stdin: int | None, outputs: list[int], *, terminal: bool) -> None:
        self.pid = pid
        self.stdin = stdin
        self.outputs = outputs
        self.terminal = terminal


def command_of(message: Mapping[str, Any], script: str | None) -> list[str]:
    """The command that a run asks for: `script` with arguments, a line for the login's shell, or argv.

    Raises ValueError where it asks for none.
    """
    arguments = [str(each) for each in message.get("argv") or []]
    if script is not None:
        return [script, *arguments]
    line = message.get("shell")
    if line is not None:
        shell = os.environ.get("SHELL") or _SH
        return [shell if os.access(shell, os.X_OK) else _SH, "-c", str(line)]
    if not arguments:
        raise ValueError("a run without a command")
    return arguments


def environment(given: Mapping[str, str], folder: str) -> dict[bytes, bytes]:
    """The login's environment with what the client gave, for a job in `folder`.

    It is read as the system has it: Python adds a locale to its own copy.
    """
    variables = {}
    with open("/proc/self/environ", "rb", buffering=0) as file:
        for line in file.readall().split(b"\0"):
            name, equals, value = line.partition(b"=")
            if equals and name:
                variables[name] = value
    variables[b"PWD"] = os.fsencode(folder)
    variables.pop(b"OLDPWD", None)
    variables.update((os.fsencode(name), os.fsencode(value)) for name, value in given.items())
    return variables


def start(command: list[str], env: dict[bytes, bytes], *, stdin: bool, tty: Mapping[str, Any] | None) -> Process:
    """Starts a command in the current folder. One that cannot be run is a job that says so and ends with 127 or 126."""
    if tty is not None:
        return _on_terminal(command, env, tty)
    stdout, their_stdout = _pipe()
    stderr, their_stderr = _pipe()
    ours: int | None = None
    if stdin:
        theirs, ours = _pipe()
    else:
        theirs = os.open(os.devnull, os.O_RDONLY)
    actions = [
        (os.POSIX_SPAWN_DUP2, given, number) for number, given in enumerate((theirs, their_stdout, their_stderr))
    ]
    try:
        pid = _spawn(command, env, actions)
    except BaseException:
        for each in (stdout, stderr, ours):
            if each is not None:
                os.close(each)
        raise
    finally:
        for each in (theirs, their_stdout, their_stderr):
            os.close(each)
    return _ready(Process(pid, ours, [stdout, stderr], terminal=False))


def resize(descriptor: int, rows: int, columns: int) -> None:
    """Tells a terminal its size; its foreground job gets SIGWINCH."""
    from fcntl import ioctl
    from termios import TIOCSWINSZ

    size = [rows, columns, 0, 0]
    ioctl(descriptor, TIOCSWINSZ, b"".join(max(0, min(each, 65_535)).to_bytes(2, sys.byteorder) for each in size))


def signal_number(name: str) -> int:
    """The number of a signal, as `INT`. Raises ValueError for no signal."""
    number = getattr(_signal, f"SIG{name}", None)
    if not isinstance(number, int) or name.startswith("_"):
        raise ValueError(f"no signal {name!r}")
    return number


def signal_name(number: int) -> str:
    """The name of a signal, as `INT`; one without a name is its number."""
    for name in dir(_signal):
        if name.startswith("SIG") and not name.startswith("SIG_") and getattr(_signal, name) == number:
            return name[3:]
    return str(number)


def _on_terminal(command: list[str], env: dict[bytes, bytes], tty: Mapping[str, Any]) -> Process:
    master, slave = os.openpty()
    try:
        resize(slave, int(tty["rows"]), int(tty["cols"]))
        env[b"TERM"] = os.fsencode(str(tty["term"]))
        # The first terminal that the leader of a new session opens becomes the one that controls it.
        terminal = (os.POSIX_SPAWN_OPEN, 0, os.ttyname(slave), os.O_RDWR, 0)
        copies = [(os.POSIX_SPAWN_DUP2, 0, number) for number in (1, 2)]
        pid = _spawn(command, env, [terminal, *copies])
    except BaseException:
        os.close(master)
        raise
    finally:
        os.close(slave)
    return _ready(Process(pid, master, [master], terminal=True))


def _spawn(command: list[str], env: dict[bytes, bytes], actions: Sequence[Any]) -> int:
    name, why, code = command[0], "command not found", "127"
    for path in _candidates(name, env):
        if not os.path.exists(path):
            continue
        try:
            return _exec(path, command, env, actions)
        except OSError as error:
            if error.errno == errno.ENOEXEC:  # a script that names no interpreter is one for sh
                return _exec(_SH, [_SH, path, *command[1:]], env, actions)
            if error.errno == errno.EACCES:
                why, code = "permission denied", "126"
            elif error.errno != errno.ENOENT:  # the interpreter that a script names is not there
                raise
    return _exec(_SH, [_SH, "-c", _NOT_FOUND, _SH, name, why, code], env, actions)


def _exec(path: str, command: list[str], env: dict[bytes, bytes], actions: Sequence[Any]) -> int:
    ignored = [getattr(_signal, name) for name in _IGNORED]
    return os.posix_spawn(path, command, env, file_actions=actions, setsid=True, setsigdef=ignored, setsigmask=[])


def _candidates(name: str, env: dict[bytes, bytes]) -> list[str]:
    if "/" in name:
        return [name]
    path = os.fsdecode(env.get(b"PATH") or _DEFAULT_PATH)
    return [os.path.join(folder or ".", name) for folder in path.split(":")] if name else []


def _pipe() -> tuple[int, int]:
    reading, writing = os.pipe()
    enlarge(reading)
    return reading, writing


def enlarge(pipe: int) -> None:
    """Gives a pipe room for large writes. What is no pipe, or may not grow, stays as it is."""
    from fcntl import fcntl

    try:
        fcntl(pipe, _F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:
        pass


def _ready(process: Process) -> Process:
    for descriptor in (process.stdin, *process.outputs):
        if descriptor is not None:
            os.set_blocking(descriptor, False)
    return process

"""Running a command of an emulated box as a real local process: pumping, signals, terminals.

Not a sandbox: a command runs with the rights of whoever runs the emulator. It only gets an environment of its own.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import termios
from pathlib import Path

import asyncssh

from providers.emulator.ends import Sink, Source

_CHUNK_BYTES = 64 * 1024
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/homebrew/bin"
_END_OF_TRANSMISSION = b"\x04"

# A session leader without a terminal gets the first one that it opens as its controlling terminal.
_ON_TERMINAL = 'exec <"$0" >"$0" 2>&1 && exec "$@"'


def environment(home: Path, user: str) -> dict[str, str]:
    """All that a command sees of the outside: nothing of the emulator's own environment."""
    return {
        "PATH": _PATH,
        "HOME": str(home),
        "USER": user,
        "LOGNAME": user,
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
        "TMPDIR": str(home.parent / "tmp"),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_DATA_HOME": str(home / ".local/share"),
        "XDG_STATE_HOME": str(home / ".local/state"),
    }


class Process:
    """A running command with the local ends of its pipes, or of its terminal."""

    def __init__(
        self, child: asyncio.subprocess.Process, stdin: Sink, sources: list[Source], terminal: int | None = None
    ) -> None:
        self._child = child
        self._stdin = stdin
        self._sources = sources
        self._terminal = terminal

    @property
    def leader(self) -> int | None:
        """The id of the command's process and session, until it has been reaped."""
        return self._child.pid if self._child.returncode is None else None

    async def serve(self, session: asyncssh.SSHServerProcess[bytes]) -> None:
        """Carries data both ways until the command has ended and all its output is out, then reports how it ended.

        As with sshd, a command on pipes outlives its client, without anybody to read it; one on a terminal is
        hung up.
        """
        ended = asyncio.create_task(self._drain(session))
        feeding = asyncio.create_task(self._feed(session))
        gone = asyncio.create_task(session.channel.wait_closed())
        try:
            await asyncio.wait({ended, gone}, return_when=asyncio.FIRST_COMPLETED)
            _report(session, self._child.returncode)
        finally:
            for task in (ended, feeding, gone):
                task.cancel()
            await asyncio.gather(ended, feeding, gone, return_exceptions=True)
            self._close()
        await self._child.wait()

    def send_signal(self, name: str) -> None:
        """Delivers an SSH signal (`TERM`) to the command's process group; unknown names do nothing."""
        number = getattr(signal, f"SIG{name}", None)
        if isinstance(number, signal.Signals) and self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)

    def resize(self, columns: int, rows: int) -> None:
        """Sets the size of the terminal, where there is one."""
        if self._terminal is not None:
            _set_size(self._terminal, columns, rows)

    async def _drain(self, session: asyncssh.SSHServerProcess[bytes]) -> None:
        sinks = (session.stdout, session.stderr)
        await asyncio.gather(*(_pump(*pair) for pair in zip(self._sources, sinks, strict=False)))
        await self._child.wait()

    async def _feed(self, session: asyncssh.SSHServerProcess[bytes]) -> None:
        with contextlib.suppress(OSError, asyncssh.Error):
            while data := await session.stdin.read(_CHUNK_BYTES):
                await self._stdin.write(data)
        if self._terminal is None:
            self._stdin.end()
        else:
            await self._stdin.write(_END_OF_TRANSMISSION)

    def _close(self) -> None:
        self._terminal = None
        self._stdin.abort()
        for source in self._sources:
            source.close()


async def start(session: asyncssh.SSHServerProcess[bytes], home: Path, user: str) -> Process:
    """Starts what the session asks for: its command, or a shell; on a terminal of its own where it wants one.

    Raises `OSError` where no process can be started.
    """
    command = ["/bin/sh", "-c", session.command] if session.command is not None else ["/bin/sh"]
    variables = environment(home, user)
    if session.term_type is None:
        return await _start_on_pipes(command, home, variables)
    if session.command is None:
        command.append("-i")
    return await _start_on_terminal(command, home, {**variables, "TERM": session.term_type}, session.term_size)


async def _start_on_pipes(command: list[str], home: Path, variables: dict[str, str]) -> Process:
    (stdin, stdin_w), (stdout_r, stdout), (stderr_r, stderr) = os.pipe(), os.pipe(), os.pipe()
    child = await _spawn(command, home, variables, theirs=(stdin, stdout, stderr), ours=(stdin_w, stdout_r, stderr_r))
    return Process(child, await Sink.open(stdin_w), [await Source.open(stdout_r), await Source.open(stderr_r)])


async def _start_on_terminal(
    command: list[str], home: Path, variables: dict[str, str], size: tuple[int, int, int, int]
) -> Process:
    master, slave = os.openpty()
    _set_size(master, size[0], size[1])
    on_terminal = ["/bin/sh", "-c", _ON_TERMINAL, os.ttyname(slave), *command]
    child = await _spawn(on_terminal, home, variables, theirs=(slave, slave, slave), ours=(master,))
    return Process(child, await Sink.open(os.dup(master)), [await Source.open(master)], terminal=master)


async def _spawn(
    command: list[str],
    home: Path,
    variables: dict[str, str],
    *,
    theirs: tuple[int, int, int],
    ours: tuple[int, ...],
) -> asyncio.subprocess.Process:
    """Starts a session of its own on `theirs` and closes them here; closes `ours` too where that fails."""
    stdin, stdout, stderr = theirs
    try:
        return await asyncio.create_subprocess_exec(
            *command, stdin=stdin, stdout=stdout, stderr=stderr, cwd=home, env=variables, start_new_session=True
        )
    except BaseException:
        for descriptor in ours:
            os.close(descriptor)
        raise
    finally:
        for descriptor in set(theirs):
            os.close(descriptor)


async def _pump(source: Source, sink: asyncssh.SSHWriter[bytes]) -> None:
    with contextlib.suppress(OSError, asyncssh.Error):
        while data := await source.read():
            sink.write(data)
            await sink.drain()


def _report(session: asyncssh.SSHServerProcess[bytes], returncode: int | None) -> None:
    if returncode is None or session.channel.is_closing():
        return
    if returncode >= 0:
        session.exit(returncode)
    else:
        session.exit_with_signal(signal.Signals(-returncode).name.removeprefix("SIG"))


def _set_size(terminal: int, columns: int, rows: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

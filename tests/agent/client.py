"""The agent as a real process on pipes, with the machine's own Python, and the least of a client to talk to it."""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from providers.agent import frames, jsontext

START = Path(__file__).parents[2] / "providers" / "agent" / "start.py"
PYTHON = shutil.which("python3", path="/usr/bin") or sys.executable
HOLDER = {"run": "r1", "host": "laptop", "pid": 7, "purpose": "run"}
_LIMIT_S = 30.0


def until(holds: Callable[[], object]) -> None:
    """Waits until something holds, and fails where it never does."""
    end_s = time.monotonic() + _LIMIT_S
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.005)


class Channel:
    """One channel to an agent. `stdout` and `stderr` are what has come of the job's, by its offset.

    `frames` are all frames that carried output; `told` the JSON objects that came beside what was waited for.
    """

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [PYTHON, "-IS", START, folder / "work", folder / "state"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
            start_new_session=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.to, self.out = self.process.stdin.fileno(), self.process.stdout.fileno()
        self.stdout, self.stderr = bytearray(), bytearray()
        self.frames: list[tuple[bytes, int, int]] = []
        self.told: list[dict[str, Any]] = []
        self._reader = frames.Reader(after_magic=True)
        self._came: list[tuple[bytes, bytes]] = []

    def write(self, kind: bytes, payload: bytes = b"") -> None:
        data = memoryview(frames.pack(kind, payload))
        while data:
            data = data[os.write(self.to, data) :]

    def say(self, **message: Any) -> None:
        self.write(frames.JSON, jsontext.encode(message))

    def receive(self) -> tuple[bytes, bytes] | None:
        """The next frame; None at the channel's end."""
        while not self._came:
            assert select.select([self.out], [], [], _LIMIT_S)[0], "the agent says nothing"
            chunk = os.read(self.out, 1_048_576)
            if not chunk:
                return None
            self._came.extend(self._reader.feed(chunk))
        return self._came.pop(0)

    def hear(self, *words: str) -> dict[str, Any]:
        """The next JSON object that is one of `words`; output that comes before it is kept."""
        while True:
            frame = self.receive()
            assert frame is not None, "the channel has ended"
            kind, payload = frame
            if kind != frames.JSON:
                self._keep(kind, payload)
                continue
            message = jsontext.decode(payload)
            if message["is"] in words:
                return message
            assert message["is"] != "failed", message
            self.told.append(message)

    def ask(self, *words: str, **message: Any) -> dict[str, Any]:
        self.say(**message)
        return self.hear(*words)

    def lock(self, wait_ms: int = 20_000) -> int:
        token: int = self.ask("locked", op="lock", holder=HOLDER, wait_ms=wait_ms)["token"]
        return token

    def run(self, *argv: str, run_id: str = "r1", stdin: bool = False, **more: Any) -> int:
        """Starts a job under the lock and gives its process id."""
        self.lock()
        message: dict[str, Any] = {
            "run_id": run_id,
            "argv": list(argv) or None,
            "shell": None,
            "script": None,
            "env": {},
            "tty": None,
        }
        pid: int = self.ask("started", op="run", **{**message, "stdin": stdin, **more})["pid"]
        return pid

    def attach(self, run_id: str = "r1", *, gives: bool = False, stdout: int | None = 0, stderr: int | None = 0) -> Any:
        return self.ask("attached", op="attach", run_id=run_id, stdout=stdout, stderr=stderr, input=gives)

    def end(self) -> tuple[int | None, str | None]:
        """How the job ended: its code and its signal."""
        ended = self.hear("ended")
        return ended["exit_code"], ended["signal"]

    def until_output(self, text: bytes) -> None:
        """Reads until stdout holds the text."""
        while text not in self.stdout:
            frame = self.receive()
            assert frame is not None
            if frame[0] == frames.JSON:
                self.told.append(jsontext.decode(frame[1]))
            else:
                self._keep(*frame)

    def tear(self) -> None:
        """Ends the connection on both sides, as the death of a client or of a network does."""
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()

    def over(self) -> int:
        """Ends the channel and gives the agent's exit code."""
        self.tear()
        return self.process.wait(_LIMIT_S)

    def _keep(self, kind: bytes, payload: bytes) -> None:
        kept = self.stdout if kind == frames.STDOUT else self.stderr
        offset, data = frames.output(payload)
        self.frames.append((kind, offset, len(data)))
        assert offset <= len(kept) or not kept
        if not kept:
            kept.extend(bytes(offset))
        kept[offset : offset + len(data)] = data


class Place:
    """A box's folders, and all the channels to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work, self.state = folder / "work", folder / "state"
        self.run_folder = self.state / "runs" / "r1"
        self.env = {"PATH": os.environ["PATH"], "HOME": str(folder), "LOGIN": "as it was"}
        self.channels: list[Channel] = []

    def channel(self) -> Channel:
        self.channels.append(Channel(self.folder, self.env))
        return self.channels[-1]

    def finish(self) -> None:
        for channel in self.channels:
            channel.tear()
            with contextlib.suppress(ProcessLookupError):
                channel.process.kill()
            channel.process.wait()
        for pid in jobs_of(self.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def place(folder: Path) -> Iterator[Place]:
    """A box whose folders are below `folder`. Whatever was started on it is ended with it."""
    box = Place(folder)
    try:
        yield box
    finally:
        box.finish()


def jobs_of(folder: Path) -> list[int]:
    """The processes that jobs on this box have left, told by what each job's environment names."""
    mark, found = f"HOME={folder}".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False

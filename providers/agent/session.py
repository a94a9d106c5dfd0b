"""What the ops of one channel share: where they work, the frames in and out, and the lock that may be held."""

from __future__ import annotations

import errno
import os

from providers.agent import jsontext
from providers.agent.frames import HEADER_BYTES, JSON, Reader, header

TYPE_CHECKING = False  # as typing's own; importing that would cost the agent's start several milliseconds
if TYPE_CHECKING:
    from typing import Any

READ_BYTES = 1_048_576
PENDING = "pending"
"""The file in STATE that is there from before the first change of a sync until its end."""
_STAGES = {
    errno.ENOSPC: "disk-full",
    errno.EDQUOT: "disk-full",
    errno.EACCES: "permission",
    errno.EPERM: "permission",
    errno.EROFS: "permission",
    errno.ENOTDIR: "not-a-folder",
    errno.EISDIR: "not-a-folder",
}


class Failed(Exception):
    """An op could not be done. `stage` is what the client sorts it by, `path` what it happened to."""

    def __init__(self, stage: str, message: str, path: bytes | str | None = None) -> None:
        super().__init__(message)
        self.stage = stage
        self.message = message
        self.path = path


class Gone(Exception):
    """The channel has ended."""


def failed_by(error: OSError) -> Failed:
    """The failure that an error of the system stands for."""
    stage = _STAGES.get(error.errno or 0, "io")
    return Failed(stage, error.strerror or str(error), error.filename)


class Session:
    """One channel. `workspace` and `state` are absolute; both are made when first needed.

    `token` is the fencing token while this process holds the workspace's lock, else None. `intact` is the manifest of
    what was put, as long as a survey on this channel has found just that and nothing has been put since.
    """

    def __init__(self, workspace: str, state: str, *, fd_in: int = 0, fd_out: int = 1) -> None:
        self.workspace = workspace
        self.state = state
        self.token: int | None = None
        self.intact: bytes | None = None
        self.fd_in = fd_in
        self.fd_out = fd_out
        self.reader = Reader()
        self._lock: int | None = None
        self._waiting: list[tuple[bytes, bytes]] = []

    def read(self) -> tuple[bytes, bytes]:
        """The next frame (kind, payload). Raises Gone at the channel's end, ValueError where it is no frame."""
        while not self._waiting:
            self.take_in()
        return self._waiting.pop(0)

    def take_in(self) -> None:
        """Reads once and keeps what came for `read`. Raises Gone at the channel's end, ValueError for no frame."""
        try:
            chunk = os.read(self.fd_in, READ_BYTES)
        except OSError:
            chunk = b""
        if not chunk:
            raise Gone
        self._waiting.extend(self.reader.feed(chunk))

    def unread(self, frames: list[tuple[bytes, bytes]]) -> None:
        """Gives back frames that belong to what comes next."""
        self._waiting[:0] = frames

    def pending(self) -> list[tuple[bytes, bytes]]:
        """Takes out the frames that have arrived and that nobody has read."""
        frames, self._waiting = self._waiting, []
        return frames

    def let_go(self) -> None:
        """Closes the channel from this side, and leaves nothing of it open; this process may go on."""
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in {self.fd_in, self.fd_out, 2}:
            os.dup2(nowhere, descriptor, inheritable=descriptor <= 2)  # noqa: PLR2004 - stderr
        os.close(nowhere)

    def expect(self, kind: bytes) -> bytes:
        """The payload of the next frame, which must be of that kind. Raises Gone, Failed (`protocol`)."""
        got, payload = self.read()
        if got != kind:
            raise Failed("protocol", f"a frame {kind!r} was due and {got!r} came")
        return payload

    def write(self, kind: bytes, payload: bytes | bytearray | memoryview = b"") -> None:
        """Sends one frame. Raises Gone where nobody reads any more."""
        head = header(kind, len(payload))
        view = memoryview(payload)
        try:
            at = os.writev(self.fd_out, [head, view]) - HEADER_BYTES
            while at < 0:
                at += os.write(self.fd_out, head[at:])
            while at < len(view):
                at += os.write(self.fd_out, view[at:])
        except OSError:
            raise Gone from None

    def send_file(self, descriptor: int, start: int, count: int) -> None:
        """Sends frames as they are in a file. Raises Gone where nobody reads any more."""
        end = start + count
        try:
            while start < end:
                start += os.write(self.fd_out, os.pread(descriptor, min(READ_BYTES, end - start), start))
        except OSError:
            raise Gone from None

    def send(self, message: dict[str, Any]) -> None:
        """Sends one JSON object. Raises Gone where nobody reads any more."""
        self.write(JSON, jsontext.encode(message))

    def fail(self, failure: Failed) -> None:
        """Tells the client of a failed op. Raises Gone where nobody reads any more."""
        path = failure.path
        self.send(
            {
                "is": "failed",
                "stage": failure.stage,
                "message": failure.message,
                "path": os.fsdecode(path) if path is not None else None,
            }
        )

    def take_lock(self, descriptor: int, token: int) -> None:
        """This process holds the workspace's lock, through `descriptor`, from now on."""
        self._lock, self.token = descriptor, token

    def free_lock(self) -> None:
        """Lets the next client in."""
        if self._lock is not None:
            os.close(self._lock)
        self._lock = self.token = None

    def fenced(self) -> int:
        """The fencing token. Raises Failed (`protocol`) where the lock is not held."""
        if self.token is None:
            raise Failed("protocol", "this needs the workspace's lock")
        return self.token

    def take_state(self) -> str:
        """Makes the state folder (0700), if it is missing, and gives it."""
        return take_folder(self.state)


def take_folder(path: str) -> str:
    """Makes a folder that only we may look into, with its parents, if it is missing, and gives it."""
    try:
        os.mkdir(path, 0o700)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.mkdir(path, 0o700)
    except FileExistsError:
        if os.stat(path).st_mode & 0o077:
            os.chmod(path, 0o700)
    return path

"""Feeds a local descriptor into a job on a box, in a thread; after a torn connection from where the box got to.

The agent says how much the job has taken, and no more than a window beyond that is sent: what else is said over the
channel never waits behind input that nobody reads. Until it is taken it is kept here.
"""

import contextlib
import os
import select
import threading
from collections.abc import Callable

from ledger.domain.errors import UsageFailure
from providers.agent import frames

_CHUNK_BYTES = 65_536


class Feeder:
    """Copies the descriptor `source` to its end. `fail` is told what reading met.

    `send` is to send the frame that `due` gives, if any, and to say whether it was one; what it sends, `go_on` and
    `torn` may never be at the same time. The end of the input is sent only after all of it, and never for an input that
    could not be read.
    """

    def __init__(self, source: int, send: Callable[[], bool], fail: Callable[[BaseException], None]) -> None:
        self._source = source
        self._send = send
        self._fail = fail
        self._changing = threading.Lock()
        self._held = bytearray()
        self._taken = 0
        self._next = 0
        self._at_end = False
        self._end_sent = False
        self._is_torn = False
        self._stopped = False
        self._woken, self._waking = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._waking, False)
        self._thread = threading.Thread(target=self._run, name="box-input", daemon=True)

    def __del__(self) -> None:
        os.close(self._woken)
        os.close(self._waking)

    def start(self) -> None:
        """Begins the copy."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the copy at the next moment; from any thread."""
        self._stopped = True
        self._wake()

    def taken(self, count: int, *, closed: bool) -> None:
        """The job has taken so many bytes in all; where it is `closed` it takes no more."""
        with self._changing:
            self._forget(count)
            self._stopped = self._stopped or closed
        self._wake()

    def go_on(self, received: int, taken: int, *, ended: bool) -> None:
        """There is a new connection, and the box had received so many bytes over the ones before."""
        with self._changing:
            self._forget(taken)
            self._next = received
            self._end_sent = False
            self._is_torn = False
            self._stopped = self._stopped or ended
        self._wake()

    def due(self) -> bytes | None:
        """The next frame to send on the connection that there is, None where there is none now."""
        with self._changing:
            if self._is_torn:
                return None
            begin = self._next - self._taken
            if begin < len(self._held):
                piece = bytes(self._held[begin : begin + _CHUNK_BYTES])
                self._next += len(piece)
                return frames.pack(frames.STDIN, piece)
            if self._at_end and not self._end_sent:
                self._end_sent = True
                return frames.pack(frames.STDIN_END)
        return None

    def torn(self) -> None:
        """The frame did not get away; `go_on` says where to begin again."""
        self._is_torn = True

    def _forget(self, count: int) -> None:
        gone = min(count - self._taken, len(self._held))
        if gone < 0:
            return
        del self._held[:gone]
        self._taken = count
        self._next = max(self._next, count)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._waking, b"\0")

    def _run(self) -> None:
        while not self._stopped:
            if not self._send():
                self._listen()

    def _listen(self) -> None:
        """Waits for input, where there is room for some, or for news."""
        # poll, not select or epoll: it takes high descriptors, regular files and terminals alike.
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        if not self._at_end and len(self._held) + _CHUNK_BYTES <= frames.STDIN_WINDOW_BYTES:
            poll.register(self._source, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll()}
        if self._woken in ready:
            os.read(self._woken, _CHUNK_BYTES)
        elif self._source in ready:
            self._read()

    def _read(self) -> None:
        try:
            chunk = os.read(self._source, _CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._stopped = True
            self._fail(
                UsageFailure(
                    f"The input for the command could not be read: {error.strerror or error}.",
                    hint="The command may still be running on the box, with an incomplete input.",
                )
            )
            return
        with self._changing:
            self._held += chunk
            self._at_end = not chunk

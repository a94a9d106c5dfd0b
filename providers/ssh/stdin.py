"""Feeds a local file descriptor into a remote command, in a thread, so that neither end waits for the other."""

import os
import select
import socket
import threading
from typing import Any

from providers.ssh.faults import BROKEN

_CHUNK_BYTES = 65_536


class StdinFeeder:
    """Copies the descriptor `source` into `channel` until its end, then sends the end.

    The copy obeys the channel's window. It stops when the command is over, also while the source has nothing to
    say. `error` is what reading met, if reading failed; the channel is closed then, because the command must not
    take a broken input for a complete one.
    """

    def __init__(self, channel: Any, source: int) -> None:
        self.error: OSError | None = None
        self._channel = channel
        self._source = source
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="ssh-stdin", daemon=True)

    def start(self) -> None:
        """Begins the copy."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the copy at the next moment; may be called again, and from any thread."""
        self._stop.close()

    def join(self, timeout_s: float) -> None:
        """Waits until the thread has ended; the channel has to be closed by then."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        with self._stopped:
            try:
                self._copy()
            except BROKEN:
                # The channel or the connection ended first; the session says why.
                return

    def _copy(self) -> None:
        # poll, not select or epoll: it takes high descriptors, regular files and terminals alike.
        poller = select.poll()
        poller.register(self._source, select.POLLIN)
        poller.register(self._stopped, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poller.poll()}
            if self._stopped.fileno() in ready:
                return
            try:
                chunk = os.read(self._source, _CHUNK_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                self.error = error
                self._channel.close()
                return
            if not chunk:
                self._channel.shutdown_write()
                return
            self._channel.sendall(chunk)

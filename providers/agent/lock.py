"""One workspace, one client at a time: an flock that the process holds, and a fencing token that grows with each hold.

The lock is free again when its holder's process is dead, however it died. A job's supervisor is that process, so the
lock stays with a job whose client is gone. The token tells a later holder's work from an earlier one's. An rsync is
no process of ours and holds nothing: whoever takes the lock ends those that an earlier holder has left.
"""

from __future__ import annotations

import os
import select
from fcntl import LOCK_EX, LOCK_NB, flock
from time import monotonic

from providers.agent import jsontext
from providers.agent.session import Failed

TYPE_CHECKING = False  # as typing's own; importing that would cost the agent's start several milliseconds
if TYPE_CHECKING:
    from typing import Any

    from providers.agent.session import Session

RSYNC = "rsync"
"""The file in STATE that an rsync makes before it looks at the token: since then one may be there."""
_LOOK_AGAIN_MS = 25
_TEXT_BYTES = 65_536


def lock(session: Session, message: dict[str, Any]) -> None:
    """Takes the lock for this channel and answers `locked` with the token, or `busy` after `wait_ms`.

    Where it has to wait, `waiting` names the holder once. A channel that ends gives up its place.
    """
    holder, end_s = message["holder"], monotonic() + message["wait_ms"] / 1000
    if not isinstance(holder, dict):
        raise TypeError("a holder is an object")
    if session.token is None:
        descriptor = os.open(os.path.join(session.take_state(), "lock"), os.O_RDWR | os.O_CREAT, 0o600)
        if not _wait(session, descriptor, end_s):
            session.send({"is": "busy", "holder": _holder(descriptor)})
            os.close(descriptor)
            return
        try:
            session.take_lock(descriptor, _next_token(session.state))
        except BaseException:
            os.close(descriptor)
            raise
        _rewrite(descriptor, holder)
        _end_rsyncs(session)
    session.send({"is": "locked", "token": session.token})


def _end_rsyncs(session: Session) -> None:
    """Ends what an earlier holder's rsync left. The new token is durable: one that begins only now is refused."""
    flag = os.path.join(session.state, RSYNC)
    if os.path.exists(flag):
        from providers.agent.left import end_rsyncs

        if end_rsyncs(session.workspace, session.state):
            os.unlink(flag)


def _wait(session: Session, descriptor: int, end_s: float) -> bool:
    told = False
    while not _take(descriptor):
        if monotonic() >= end_s:
            return False
        if not told:
            session.send({"is": "waiting", "holder": _holder(descriptor)})
            told = True
        _stay(session, min(_LOOK_AGAIN_MS, 1 + int((end_s - monotonic()) * 1000)))
    return True


def _take(descriptor: int) -> bool:
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stay(session: Session, timeout_ms: int) -> None:
    """Waits a moment, and notices a channel that ends meanwhile."""
    poll = select.poll()
    poll.register(session.fd_in, select.POLLIN)
    if poll.poll(timeout_ms):
        session.take_in()


def _holder(descriptor: int) -> dict[str, Any]:
    """Who holds the lock; empty in the moment before the holder has said it."""
    try:
        return jsontext.decode(os.pread(descriptor, _TEXT_BYTES, 0))
    except ValueError:
        return {}


def _rewrite(descriptor: int, holder: dict[str, Any]) -> None:
    """Says who holds the lock. A disk that is full costs a waiter the name, never us the lock."""
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, jsontext.encode(holder), 0)
    except OSError:
        pass


def _next_token(state: str) -> int:
    """The next fencing token, durable before it is used.

    Written in place over a number of the same length, so that a full disk does not stop a workspace that had a holder.
    """
    descriptor = os.open(os.path.join(state, "token"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        text = os.pread(descriptor, 32, 0).strip()
        if text and not text.isdigit():
            raise Failed("io", "the fencing token cannot be read", os.path.join(state, "token"))
        token = int(text or b"0") + 1
        os.pwrite(descriptor, b"%020d\n" % token, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return token

"""Asks a server what it would let in, and never signs: a key is offered as RFC 4252, section 7, lets a client ask.

paramiko's own authentication signs at once, so this takes its place on a transport.
"""

import contextlib
from collections.abc import Callable, Iterator
from enum import Enum
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from ledger.domain.errors import SshFailure
from providers.ssh.faults import BROKEN, reason
from providers.ssh.handshake import Server, loss
from providers.ssh.library import paramiko
from providers.ssh.publickeys import PublicKey

common = paramiko.common
_REPLIES = (
    common.MSG_SERVICE_ACCEPT,
    common.MSG_USERAUTH_SUCCESS,
    common.MSG_USERAUTH_FAILURE,
    common.MSG_USERAUTH_PK_OK,
)


class Answer(Enum):
    """What a server said to an offer."""

    REFUSED = "no"
    WANTED = "this key would do, with its signature"
    LET_IN = "yes, as you are"


class Offers:
    """Makes offers for one user on one connection, one after the other.

    `left_s` says how many seconds the connection still has. Everything raises SshFailure (stage `authentication`)
    where the server does not answer, or not as RFC 4252 says; a failure that is half a success is no refusal.
    """

    def __init__(self, server: Server, user: str, *, left_s: Callable[[], float]) -> None:
        self._server = server
        self._user = user
        self._left_s = left_s
        self._handler = _Replies(server.transport)
        server.transport.auth_handler = self._handler
        service = _fields("ssh-userauth")
        with self._named():
            if self._exchange(common.cMSG_SERVICE_REQUEST + service) != (
                common.MSG_SERVICE_ACCEPT,
                service,
            ):
                raise _OutOfOrder

    def none(self) -> Answer:
        """Asks to be let in with nothing at all."""
        with self._named():
            return self._offer("none")

    def key(self, key: PublicKey) -> Answer:
        """Asks whether this key would do, as anybody may who knows its public half."""
        with self._named():
            named = _fields(self._handler.algorithm(key), key.blob)
            return self._offer("publickey", _fields(False) + named, wanted=named)

    def _offer(self, method: str, rest: bytes = b"", wanted: bytes | None = None) -> Answer:
        offer = common.cMSG_USERAUTH_REQUEST + _fields(self._user, "ssh-connection", method) + rest
        kind, body = self._exchange(offer)
        if kind == common.MSG_USERAUTH_SUCCESS:
            return Answer.LET_IN
        if kind == common.MSG_USERAUTH_PK_OK and body == wanted:
            return Answer.WANTED
        if kind == common.MSG_USERAUTH_FAILURE and body == _fields(paramiko.Message(body).get_binary(), False):
            return Answer.REFUSED
        raise _OutOfOrder

    def _exchange(self, message: bytes) -> tuple[int, bytes]:
        transport = self._server.transport
        # One that ended before it knew the handler has told nobody.
        if not transport.is_active():
            raise loss(transport)
        transport._send_message(paramiko.Message(message))  # noqa: SLF001  paramiko has no public way to say what it does not
        try:
            reply = self._handler.replies.get(timeout=max(0.0, self._left_s()))
        except Empty:
            raise TimeoutError from None
        if reply is None:
            raise loss(transport)
        return reply

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except BROKEN as error:
            raise SshFailure(
                f"{self._server.where}: no answer to an offer for {self._user}: {reason(error)}.",
                stage="authentication",
            ) from error


class _Replies(paramiko.AuthHandler):  # type: ignore[misc]
    """Keeps each reply, its number and all that comes after, and None for the end of the connection."""

    def __init__(self, transport: Any) -> None:
        super().__init__(transport)
        self.replies: SimpleQueue[tuple[int, bytes] | None] = SimpleQueue()

    @property
    def _handler_table(self) -> dict[int, Callable[[Any], None]]:
        return {
            **{kind: partial(self._keep, kind) for kind in _REPLIES},
            common.MSG_USERAUTH_BANNER: lambda _message: None,
        }

    def abort(self) -> None:
        self.replies.put(None)

    def algorithm(self, key: PublicKey) -> str:
        """The name of the signatures that such a key makes; an RSA key has several (RFC 8332)."""
        return str(self._finalize_pubkey_algorithm(key.kind))

    def _keep(self, kind: int, message: Any) -> None:
        self.replies.put((kind, message.asbytes()))


def _fields(*values: str | bytes | bool) -> bytes:
    message = paramiko.Message()
    for value in values:
        if isinstance(value, bool):
            message.add_boolean(value)
        else:
            message.add_string(value)
    return bytes(message.asbytes())


class _OutOfOrder(paramiko.SSHException):  # type: ignore[misc]
    """The server said what RFC 4252 does not let it say there."""

    def __init__(self) -> None:
        super().__init__("it broke the protocol of authentication")

"""Between a supervisor and the processes of other channels: a socket in the run's folder.

A process that attaches hands over its own descriptors (SCM_RIGHTS), so that what its client sees comes from the
supervisor itself, and waits for one word: `done`, when its client has everything and the channel is its own again, or
`gone`. A process that stops the run is answered how the run ended.
"""

from __future__ import annotations

import os
import sys
from _socket import AF_UNIX, CMSG_SPACE, MSG_CMSG_CLOEXEC, SCM_RIGHTS, SOCK_SEQPACKET, SOL_SOCKET, socket

from providers.agent import jsontext
from providers.agent.folder import SOCKET

TYPE_CHECKING = False  # as typing's own; importing that would cost the agent's start several milliseconds
if TYPE_CHECKING:
    from typing import Any

DONE, GONE = b"done", b"gone"
_MESSAGE_BYTES = 65_536
_PATIENCE_S = 1.0
_DESCRIPTOR_BYTES = 4


class Links:
    """The supervisor's side. `listener` is the socket in the folder."""

    def __init__(self, listener: socket) -> None:
        self._listener = listener
        self._stoppers: list[socket] = []

    def fileno(self) -> int:
        """What is readable when somebody comes."""
        return self._listener.fileno()

    def arrived(self) -> tuple[dict[str, Any], socket, list[int]] | None:
        """Whoever has come: what is asked, where to answer, and the descriptors. None where it went away again."""
        # `_accept` is all there is without the module socket; it gives a descriptor that no child inherits.
        descriptor, _ = self._listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001
        link = socket(fileno=descriptor)
        link.settimeout(_PATIENCE_S)
        try:
            text, extra, _, _ = link.recvmsg(_MESSAGE_BYTES, CMSG_SPACE(2 * _DESCRIPTOR_BYTES), MSG_CMSG_CLOEXEC)
            descriptors = [each for level, kind, data in extra for each in _numbers(level, kind, data)]
            return jsontext.decode(text), link, descriptors
        except (OSError, ValueError):
            link.close()
            return None

    def stopper(self, link: socket) -> None:
        """Whoever waits there is told how the run ended, once it has."""
        self._stoppers.append(link)

    def tell(self, ended: dict[str, Any]) -> bool:
        """Tells those who stopped the run how it ended; whether there was any."""
        told = [_said(link, jsontext.encode(ended)) for link in self._stoppers]
        self._stoppers = []
        return any(told)


def release(link: socket, descriptors: set[int], word: bytes) -> None:
    """Gives a channel back to its own process: closes its descriptors here and says the word."""
    for descriptor in descriptors:
        os.close(descriptor)
    _said(link, word)


def reach(path: str) -> socket | None:
    """A connection to the supervisor of the run in `path`; None where none listens any more."""
    here = os.open(".", os.O_RDONLY)
    link = socket(AF_UNIX, SOCK_SEQPACKET)
    try:
        os.chdir(path)
        link.connect(SOCKET)
    except OSError:
        link.close()
        return None
    finally:
        os.fchdir(here)
        os.close(here)
    return link


def ask(link: socket, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> bytes:
    """Sends a message, with descriptors to hand over, and waits for the answer; empty where the supervisor is gone."""
    packed = b"".join(each.to_bytes(_DESCRIPTOR_BYTES, sys.byteorder) for each in descriptors)
    try:
        link.sendmsg([jsontext.encode(message)], [(SOL_SOCKET, SCM_RIGHTS, packed)] if packed else [])
        return link.recv(_MESSAGE_BYTES)
    except OSError:
        return b""
    finally:
        link.close()


def _said(link: socket, word: bytes) -> bool:
    try:
        link.send(word)
    except OSError:
        return False
    finally:
        link.close()
    return True


def _numbers(level: int, kind: int, data: bytes) -> list[int]:
    if (level, kind) != (SOL_SOCKET, SCM_RIGHTS):
        return []
    cut = range(0, len(data) - len(data) % _DESCRIPTOR_BYTES, _DESCRIPTOR_BYTES)
    return [int.from_bytes(data[at : at + _DESCRIPTOR_BYTES], sys.byteorder) for at in cut]

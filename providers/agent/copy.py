"""Copies files to and from the box: the ops `get` and `put-file` of `rentroll cp` and `run --download`.

The client says `{"op": "get", "paths": […]}` and receives, or `{"op": "put-file", "path": P, "into": BOOL}` and sends;
paths are as they were typed, relative ones are below the workspace. From then on both ways are alike. The sender tells
what there is (`M`… and `listed`: each source's name, kind and identity; what could not be read). The receiver makes
folders and links, tells what it has of which file with a digest (`have`…, `send`), and is sent each file in the order
of the manifest: `F` (its number, the offset from which it is sent, its record as it is now), `D`…, and `sent`, `again`
(it changed: another `F` follows) or `unsent` (why). `end` is the last; a put is answered by `received`.

Whichever side fails says `failed`. A file that was cut goes on in a later copy where both digests agree.
"""

from __future__ import annotations

import os

from providers.agent import jsontext
from providers.agent.copy_plan import CopyFailure, Wire, expanded, name_of, source_path
from providers.agent.copy_receive import Receiver
from providers.agent.copy_send import Sender
from providers.agent.frames import JSON
from providers.agent.session import Failed, Gone, Session

TYPE_CHECKING = False  # as typing's own
if TYPE_CHECKING:
    from typing import Any


def get(session: Session, message: dict[str, Any]) -> None:
    """Sends what is at the paths."""
    given = [os.fsencode(path) for path in message["paths"]]
    workspace = os.fsencode(session.workspace)
    try:
        Sender(_wire(session), [source_path(path, workspace) for path in given], list(map(name_of, given))).run()
    except CopyFailure as failure:
        raise Failed(failure.stage, failure.message, failure.path) from None


def put_file(session: Session, message: dict[str, Any]) -> None:
    """Receives what the client sends. After a failure what is still on its way is thrown away."""
    path = os.fsencode(message["path"])
    workspace = os.fsencode(session.workspace)
    if not os.path.isabs(path) and not path.startswith(b"~"):
        os.makedirs(workspace, exist_ok=True)
    wire = _wire(session)
    receiver = Receiver(wire, expanded(path, workspace), into=message["into"])
    try:
        receiver.run()
    except CopyFailure as failure:
        session.fail(Failed(failure.stage, failure.message, failure.path))
        _drain(session)
        return
    wire.say("received", failures=[failure.told() for failure in receiver.failures], **receiver.counts())
    wire.flush()


def _drain(session: Session) -> None:
    while True:
        kind, payload = session.read()
        if kind == JSON and jsontext.decode(payload).get("is") == "end":
            return


def _wire(session: Session) -> Wire:
    def write(data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(session.fd_out, left) :]
        except OSError:
            raise Gone from None

    return Wire(write, session.read)

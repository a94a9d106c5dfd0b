"""The agent: it says hello and then does one op after the other, until the channel ends.

An op is a JSON frame `{"op": NAME, ...}`. Its handler is a function `(session, message) -> None` in a module of this
package that is imported when the op is first asked for; the table below says which. `session`
(`providers.agent.session.Session`) has

- `workspace`, `state`: absolute paths (str); `take_state()` makes the state folder;
- `token`, and `fenced()`, which gives it and refuses where the lock is not held;
- `read() -> (kind, payload)`, `expect(kind) -> payload`, `write(kind, payload)`, `send({...})`.

A handler returns when its op is done. It raises `Failed(stage, message, path)`; an OSError becomes one by its number
(`disk-full`, `permission`, `not-a-folder`, else `io`); a ValueError, TypeError or KeyError is what a message that lacks
something leads to, and becomes one of stage `protocol`. `Gone` (the channel has ended) goes through. After a failure
the next op is awaited, and frames that are no JSON are skipped until it comes.

A job's channel. `run` and `attach` are followed by `O`, `E` and `J` frames in the order of the log, up to `ended` (or
`lost`); then the channel is free for the next op, and the lock is free too: who goes on takes it again.
- `attach` is the last that a client sends until `attached` has come. Its frames may begin before the offsets that were
  asked for, and may leave some out that the box has dropped: the offset in each frame says where its bytes belong.
- `attached` has `stdin`: `received` bytes up to which a client goes on to send, `taken` of these by the job, `ended`.
- `I` frames come from at most one client, the last that began with input. It may be `STDIN_WINDOW_BYTES` ahead of what
  `{"is": "input", "taken": BYTES, "closed": bool}` has said was taken; after `closed` nothing is wanted any more.
  What was sent and not received when a connection tore is for the client to send again.
- The end of the channel, like `detach`, ends nothing but the following; `Z` alone ends a job's stdin.
- A supervisor that is killed ends the channel without a word; a new `attach` says `lost` after the log that there is.
"""

from __future__ import annotations

import os

from providers.agent import jsontext
from providers.agent.frames import JSON, MAGIC, VERSION
from providers.agent.session import Failed, Gone, Session, failed_by

TYPE_CHECKING = False  # as typing's own; importing that would cost the agent's start several milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_OPS = {
    "lock": "lock.lock",
    "run": "job.run",
    "signal": "job.late",
    "resize": "job.late",
    "detach": "job.late",
    "attach": "attach.attach",
    "stop": "attach.stop",
    "runs": "runs.runs",
    "survey": "tree.survey",
    "listing": "tree.listing",
    "look": "tree.look",
    "begin": "receive.begin",
    "put": "receive.put",
    "commit": "receive.commit",
    "get": "copy.get",
    "put-file": "copy.put_file",
}
"""The module of this package and its function, by op."""


def main(arguments: list[str]) -> int:
    """Serves one channel on stdin and stdout. Gives the process's exit code: 0, or 2 for wrong arguments."""
    if len(arguments) != 2:  # noqa: PLR2004 - two are named in the usage
        os.write(2, b"usage: start.py WORKSPACE STATE\n")
        return 2
    session = Session(_absolute(arguments[0]), _absolute(arguments[1]))
    try:
        os.write(session.fd_out, MAGIC)
        session.send({"is": "hello", "version": VERSION})
        while True:
            serve(session)
    except (Gone, BrokenPipeError):
        return 0


def serve(session: Session) -> None:
    """Does the next op. Raises Gone at the channel's end."""
    kind, payload = session.read()
    if kind != JSON:
        return
    try:
        message = jsontext.decode(payload)
        handler(message.get("op"))(session, message)
    except Failed as failure:
        session.fail(failure)
    except OSError as error:
        session.fail(failed_by(error))
    except (ValueError, TypeError, KeyError) as error:
        session.fail(Failed("protocol", f"{type(error).__name__}: {error}"))


def handler(op: Any) -> Callable[[Session, dict[str, Any]], None]:
    """The function that does an op. Raises Failed (`protocol`) where there is none of that name."""
    if not isinstance(op, str) or op not in _OPS:
        raise Failed("protocol", f"no op {op!r}")
    module, function = _OPS[op].split(".")
    found: Callable[[Session, dict[str, Any]], None] = getattr(
        __import__(f"providers.agent.{module}", fromlist=(function,)), function
    )
    return found


def _absolute(path: str) -> str:
    if path == "~" or path.startswith("~/"):
        path = (os.environ.get("HOME") or "/") + path[1:]
    return os.path.abspath(path)

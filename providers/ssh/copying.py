"""The client's end of a copy over an agent's channel (`providers.agent.copy` says what is said)."""

import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from ledger.domain.copying import Copied, CopyOrder, NotCopied, Watcher
from ledger.domain.ports import Endpoint, NoAgent, Place, PlaceFailure
from providers.agent.copy_plan import CopyFailure, Wire, heard, name_of, source_path
from providers.agent.copy_receive import Receiver
from providers.agent.copy_send import Sender

Frame = tuple[bytes, bytes]
_JOIN_S = 5.0
_RESUMED = "what was copied stays, and the same command goes on from there"
_HINTS = {
    "disk-full": "nothing of the file that did not fit was left; make room, then the same command goes on",
    "permission": _RESUMED,
    "changed": "copy it when nothing writes to it any more",
    "not-a-folder": "name a folder that is there, or a new name in one",
    "missing": "relative paths on the box are in the lease's work folder, `~/x` is in the login's home",
}


class Talk(Protocol):
    """An agent's channel after its hello. Everything raises SshFailure (stage `session`) where it is lost."""

    def send(self, message: dict[str, Any]) -> None: ...
    def write(self, data: bytes) -> None: ...
    def receive(self) -> Frame: ...
    def close(self) -> None: ...


class AgentCopier:
    """The port `ledger.domain.copying.Copier`. `talk` opens a channel to the agent of a place.

    `private` is a folder of this machine of which nothing is ever copied to a box.
    """

    def __init__(self, talk: Callable[[Endpoint, Place], Talk], *, private: Path) -> None:
        self._talk = talk
        self._private = os.path.realpath(os.fsencode(private))

    def copy(self, endpoint: Endpoint, place: Place, order: CopyOrder, watcher: Watcher) -> Copied:
        """Copies over one channel. Raises PlaceFailure (stage `tools` where the box has no python3), SshFailure."""
        try:
            talk = self._talk(endpoint, place)
        except NoAgent as none:
            raise PlaceFailure(none.message, stage=none.stage, hint=none.hint) from None
        try:
            return _put(talk, order, watcher, self._private) if order.to_box else _get(talk, order, watcher)
        except CopyFailure as failure:
            raise _placed(failure) from None
        except (ValueError, LookupError) as nonsense:
            raise PlaceFailure(
                f"the box answered what no agent of ours says: {nonsense}", stage="protocol"
            ) from nonsense
        finally:
            talk.close()


def _get(talk: Talk, order: CopyOrder, watcher: Watcher) -> Copied:
    talk.send({"op": "get", "paths": [os.fsdecode(path) for path in order.sources]})
    target = os.path.join(os.getcwdb(), order.target)  # noqa: PTH109, PTH118 - a name need not be text
    receiver = Receiver(Wire(talk.write, talk.receive), target, into=order.into, watcher=watcher)
    receiver.run()
    return _copied(receiver.counts(), receiver.failures)


def _put(talk: Talk, order: CopyOrder, watcher: Watcher, private: bytes) -> Copied:
    talk.send({"op": "put-file", "path": os.fsdecode(order.target), "into": order.into})
    here = os.getcwdb()  # noqa: PTH109
    paths = [source_path(path, here) for path in order.sources]
    answers = _Answers(talk)
    try:
        wire = Wire(answers.write, answers.receive)
        Sender(wire, paths, [name_of(path) for path in order.sources], watcher, private=private).run()
        told = wire.hear("received")
    finally:
        talk.close()
        answers.join()
    failures = [CopyFailure(each["stage"], each["message"], os.fsencode(each["path"])) for each in told["failures"]]
    return _copied({name: told[name] for name in ("files", "folders", "links", "kept_bytes")}, failures)


class _Answers:
    """Listens while we send, so that the box's failure stops a copy that would go on for hours."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._came: queue.SimpleQueue[Frame | BaseException] = queue.SimpleQueue()
        self._failed: CopyFailure | None = None
        self._thread = threading.Thread(target=self._listen, name="copy-answers", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Waits for the end of listening, once the channel is closed."""
        self._thread.join(_JOIN_S)

    def write(self, data: bytes) -> None:
        """Sends, unless the box has failed meanwhile: then raises its CopyFailure."""
        if self._failed is not None:
            raise self._failed
        self._talk.write(data)

    def receive(self) -> Frame:
        """The next frame."""
        came = self._came.get()
        if isinstance(came, BaseException):
            raise came
        return came

    def _listen(self) -> None:
        try:
            while True:
                kind, payload = self._talk.receive()
                try:
                    heard(kind, payload, "have", "send", "received")
                except CopyFailure as failure:
                    self._failed = failure
                self._came.put((kind, payload))
        except Exception as error:  # noqa: BLE001 - raised to whoever waits
            self._came.put(error)


def _copied(counts: dict[str, int], failures: list[CopyFailure]) -> Copied:
    return Copied(failures=tuple(map(_not_copied, failures)), **counts)


def _not_copied(failure: CopyFailure) -> NotCopied:
    return NotCopied(stage=failure.stage, message=failure.message, path=failure.path, on_box=not failure.is_ours)


def _placed(failure: CopyFailure) -> PlaceFailure:
    message = str(_not_copied(failure)) if failure.path else failure.message
    return PlaceFailure(message, stage=failure.stage, path=failure.path, hint=_HINTS.get(failure.stage, _RESUMED))

"""A channel to the agent on a box: what is said over it, as JSON and frames, and what its end means."""

import contextlib
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Any, Self

from ledger.domain.errors import SshFailure
from ledger.domain.ports import NoAgent, NoAnswer, Place
from providers.agent import frames, jsontext
from providers.ssh.channel import Channel, ChannelLost, Opener
from providers.ssh.install import NO_PYTHON, NOT_INSTALLED, install_line, start_line

HELLO_S = 60.0
"""How long the box may take from an open session to the agent's first word: it may be busy, and it may be far."""
ANSWER_S = 60.0
"""How long it may take to answer what is soon done, all of the answer included."""
SILENCE_S = 900.0
"""For so long the box may say nothing and take nothing while files travel: it may be reading a large one through."""
ASK_S = 15.0
"""After so long without a word what carries the channel on this machine is asked whether it is there still."""
RECONNECT_S = 600.0
"""For so long the connection of a job that is followed is opened again and again, once it is lost."""
_END_S = 5.0
_HINT = "Install python3 (3.8 or newer) on the box, or use another image."
_SILENT = "The box is there and does not answer: its disk may hang, or it may be out of memory."


class Refusal(SshFailure):
    """The box answered that it could not do it. `stage` is its own word for why (`disk-full`, `permission`…)."""


class AgentSession:
    """A channel after the agent's hello. Everything raises SshFailure (stage `session`) where it is lost.

    Whoever waits for an answer in vain gets `NoAnswer`, and the channel is closed.
    """

    def __init__(self, channel: Channel) -> None:
        self.where = channel.where
        self._channel = channel
        self._buffer = bytearray(2 * (frames.PAYLOAD_LIMIT_BYTES + frames.HEADER_BYTES))
        self._view = memoryview(self._buffer)
        self._from = self._to = 0
        self._life_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def send(self, message: dict[str, Any]) -> None:
        """Sends one JSON object."""
        self.write(frames.pack(frames.JSON, jsontext.encode(message)))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Sends what is framed already."""
        try:
            self._channel.write(data, SILENCE_S)
        except ChannelLost:
            raise self._channel.failure() from None
        except TimeoutError:
            raise self._unanswered(f"took nothing for {SILENCE_S:g} s") from None
        self._life_s = monotonic()

    def receive(self) -> tuple[bytes, bytes]:
        """The next frame: its kind and its payload. Raises NoAnswer after a silence in which nothing is sent either."""
        self._life_s = monotonic()
        try:
            kind, payload = self.receive_view(lambda: self._life_s + SILENCE_S)
        except TimeoutError:
            raise self._unanswered(f"was silent for {SILENCE_S:g} s") from None
        return kind, bytes(payload)

    def receive_view(self, end_s: Callable[[], float] | None = None) -> tuple[bytes, memoryview]:
        """As `receive`, without a limit of its own; the payload is good only until the next call.

        `end_s` says until when (`time.monotonic`) it may take. Raises TimeoutError then.
        """
        while True:
            held = self._to - self._from
            if held >= frames.HEADER_BYTES:
                begin = self._from + frames.HEADER_BYTES
                size = int.from_bytes(self._view[self._from + 1 : begin], "big")
                if size > frames.PAYLOAD_LIMIT_BYTES:
                    raise self._nonsense()
                if held >= frames.HEADER_BYTES + size:
                    kind = self._buffer[self._from : self._from + 1]
                    self._from = begin + size
                    return bytes(kind), self._view[begin : self._from]
            if not self._take_in(end_s):
                raise self._channel.failure()

    def hear(self, *expected: str, timeout_s: float) -> dict[str, Any]:
        """The next frame, which has to be a JSON object whose `is` is one of these, or `failed`.

        Raises Refusal for `failed`, NoAnswer where it is not there as a whole within `timeout_s` seconds.
        """
        over_s = monotonic() + timeout_s
        try:
            kind, payload = self.receive_view(lambda: over_s)
        except TimeoutError:
            raise self._unanswered(f"did not answer within {timeout_s:g} s") from None
        if kind != frames.JSON:
            raise self._nonsense()
        told = jsontext.decode(bytes(payload))
        if told.get("is") == "failed":
            raise self.refusal(told)
        if told.get("is") not in expected:
            raise self._nonsense()
        return told

    def refusal(self, told: dict[str, Any]) -> Refusal:
        """What the box could not do, as our failure."""
        path = f"{told['path']}: " if told.get("path") else ""
        return Refusal(f"{self.where}: the box failed: {path}{told['message']}.", stage=str(told["stage"]))

    def close(self) -> None:
        """Ends the channel; may be called again, and from any thread."""
        self._channel.close()

    def begin(self) -> int | None:
        """Reads up to the agent's hello. Gives the line's exit code where it ended before, None where all is well."""
        end_s = monotonic() + HELLO_S
        while True:
            try:
                found = self._buffer.find(frames.MAGIC, self._from, self._to)
                if found >= 0:
                    self._from = found + len(frames.MAGIC)
                    self.hear("hello", timeout_s=max(0.0, end_s - monotonic()))
                    return None
                # What a login shell prints. It is of no use, and never as much as would fill the buffer twice.
                self._from = max(self._from, self._to - len(frames.MAGIC) + 1)
                if not self._take_in(lambda: end_s):
                    break
            except (TimeoutError, NoAnswer):
                raise NoAnswer(
                    f"{self.where}: the box did not begin to work within {HELLO_S:g} s.", stage="session"
                ) from None
        code = self._channel.exit_code(_END_S)
        if code is None:
            raise self._channel.failure()
        return code

    def _take_in(self, end_s: Callable[[], float] | None) -> bool:
        if len(self._buffer) - self._to < frames.PAYLOAD_LIMIT_BYTES // 4:
            left = self._to - self._from
            self._buffer[:left] = self._buffer[self._from : self._to]
            self._from, self._to = 0, left
        count = self._read(end_s)
        self._to += count
        return count > 0

    def _read(self, end_s: Callable[[], float] | None) -> int:
        while True:
            left_s = ASK_S if end_s is None else min(ASK_S, end_s() - monotonic())
            try:
                count = self._channel.read_into(self._view[self._to :], max(0.0, left_s))
            except TimeoutError:
                if end_s is not None and monotonic() >= end_s():
                    raise
                if not self._channel.is_alive():
                    return 0
            else:
                self._life_s = monotonic()
                return count

    def _unanswered(self, what: str) -> NoAnswer:
        self.close()
        return NoAnswer(f"{self.where}: the box {what}.", stage="session", hint=_SILENT)

    def _nonsense(self) -> SshFailure:
        return SshFailure(f"{self.where}: the box answered what no agent of ours says.", stage="session")


def open_session(opener: Opener, place: Place, *, first: Callable[[AgentSession], None] | None = None) -> AgentSession:
    """A channel to the agent, which is installed if it is missing. `first` may say something at once, unanswered.

    Raises SshFailure naming the stage, NoAgent where the box has no python3.
    """
    session, code = _started(opener, place, first)
    if code == NOT_INSTALLED:
        code = _install(opener, place)
        if code == 0:
            session, code = _started(opener, place, first)
    if code == NO_PYTHON:
        raise NoAgent(f"{session.where}: the box has no python3 of version 3.8 or newer.", stage="tools", hint=_HINT)
    if code is not None:
        raise SshFailure(f"{session.where}: the box cannot run the agent (exit code {code}).", stage="tools")
    return session


def _started(
    opener: Opener, place: Place, first: Callable[[AgentSession], None] | None
) -> tuple[AgentSession, int | None]:
    session = AgentSession(opener(start_line(place)))
    try:
        if first is not None:
            with contextlib.suppress(SshFailure):  # it says why below
                first(session)
        code = session.begin()
    except BaseException:
        session.close()
        raise
    if code is not None:
        session.close()
    return session, code


def _install(opener: Opener, place: Place) -> int:
    """Gives 0, or the exit code that says why it cannot be. Raises SshFailure where the box fails at it."""
    line, files = install_line(place)
    channel = opener(line)
    try:
        with contextlib.suppress(ChannelLost):  # it says why below
            channel.write(files, HELLO_S)
        said = memoryview(bytearray(65_536))
        while channel.read_into(said, HELLO_S):
            pass
        code = channel.exit_code(_END_S)
        last = channel.words().strip().rpartition("\n")[2]
    except TimeoutError:
        raise SshFailure(f"{channel.where}: the box did not take the agent in time.", stage="tools") from None
    finally:
        channel.close()
    if code is None:
        raise channel.failure()
    if code not in (0, NO_PYTHON):
        raise SshFailure(
            f"{channel.where}: the box did not take the agent: {last or f'exit code {code}'}.", stage="tools"
        )
    return code

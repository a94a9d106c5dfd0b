"""The supervisor of one job: a loop that moves its outputs into the log and to every client, and its input in.

A client that is behind slows the job down; one that is gone does not. One that takes nothing while others do is taken
for gone: its connection may be dead without the box knowing. The end of a connection is never the job's end.
The job has ended when its leader has, and its outputs are closed. Where something that it left behind holds them open,
it has ended once they were silent for a second: what comes later is not waited for. A stop goes on until the whole
group is gone or KILL was sent, and what has left the group then has a second, whatever it still says.
"""

from __future__ import annotations

import os
import select
from time import monotonic

from providers.agent import jsontext, links
from providers.agent.follower import Follower, Lost
from providers.agent.frames import JSON, STDIN, STDIN_END
from providers.agent.leader import Leader
from providers.agent.spawn import PIPE_BYTES, resize
from providers.agent.stdin import Stdin

TYPE_CHECKING = False  # as typing's own; importing that would cost the agent's start several milliseconds
if TYPE_CHECKING:
    from typing import Any

    from providers.agent.folder import Run
    from providers.agent.log import Log
    from providers.agent.spawn import Process

QUIET_S = 1.0
"""How long outputs that the ended leader has left open are listened to without anything coming."""
_CHUNK_BYTES = 262_144
_BEHIND_BYTES = 2_097_152
_AGAIN_S = 1.0
_STUCK_S = 3.0


class Supervisor:
    """Supervises `process`, which has started. `woken` is readable when a child has ended."""

    def __init__(self, run: Run, process: Process, log: Log, woken: int) -> None:
        self.followers: list[Follower] = []
        self.left_over: list[tuple[bytes, bytes]] = []
        self.ended: dict[str, Any] | None = None
        self._run = run
        self._process = process
        self._log = log
        self._woken = woken
        self._leader = Leader(process.pid)
        self._stdin = Stdin(process.stdin, terminal=process.terminal)
        self._giver: Follower | None = None
        self._links = links.Links(run.listener)
        self._outputs = dict(enumerate(process.outputs))
        self._heard_s = 0.0
        self._durable = self._told = False
        self._again_s = 0.0
        self._buffer = memoryview(bytearray(_CHUNK_BYTES))

    def add(self, follower: Follower, *, gives: bool) -> None:
        """A client that follows from now on; where it gives input, it alone does."""
        self.followers.append(follower)
        if gives:
            self._giver = follower
            self._stdin.told()
        if self.ended is not None:
            follower.finish(self.ended)

    def turn(self) -> None:
        """Waits until there is something to do, and does it."""
        ready = self._wait()
        self._read_outputs(ready)
        for follower in list(self.followers):
            if ready.get(follower.fd_out, 0) & (select.POLLERR | select.POLLNVAL):
                self._gone(follower)
            elif follower.fd_in in ready:
                self.hear(follower)
        if self._links.fileno() in ready:
            self._meet()  # last: a descriptor that comes may have the number of one that went
        if self._woken in ready:
            os.read(self._woken, _CHUNK_BYTES)
        self._keep_time()
        self.flush()

    def hear(self, follower: Follower, frames: list[tuple[bytes, bytes]] | None = None) -> None:
        """Does what a client has sent: these frames, or what comes from it."""
        try:
            for kind, payload in follower.read() if frames is None else frames:
                if follower.finished:
                    self.left_over.append((kind, payload))
                else:
                    self._obey(follower, kind, payload)
        except Lost:
            self._leave(follower, links.GONE)

    def flush(self) -> None:
        """Sends and writes what can be without waiting."""
        self._stdin.flush()
        if self._giver is not None and self.ended is None:
            news = self._stdin.news()
            if news is not None:
                self._giver.answer(news)
        for follower in list(self.followers):
            try:
                follower.flush(self._log)
            except Lost:
                self._gone(follower)
            else:
                self._told = self._told or follower.finished
                if follower.finished and follower.link is not None:
                    self._leave(follower, links.DONE)
        self._log.trim(min([follower.at for follower in self.followers], default=self._log.end))

    def over(self) -> bool:
        """Whether the job has ended and every client has everything; a code that no disk takes waits for a client."""
        if self.left_over:
            return True
        done = self.ended is not None and all(follower.finished for follower in self.followers)
        return done and (self._durable or self._told)

    def close(self) -> None:
        """Lets go of all. What a client of another channel lacks it finds in the log."""
        for follower in list(self.followers):
            if follower.link is not None:
                self._leave(follower, links.GONE)
        self._log.close()
        self._run.close()

    def _wait(self) -> dict[int, int]:
        wanted = {self._woken: select.POLLIN, self._links.fileno(): select.POLLIN}
        if any(self._log.end - follower.at > _BEHIND_BYTES for follower in self.followers):
            self._heard_s = monotonic()  # the job may have more to say
        else:
            wanted.update((descriptor, select.POLLIN) for descriptor in self._outputs.values())
        if self._stdin.waits and self._stdin.descriptor is not None:
            wanted[self._stdin.descriptor] = wanted.get(self._stdin.descriptor, 0) | select.POLLOUT
        for follower in self.followers:
            wanted[follower.fd_in] = select.POLLIN
            wanted[follower.fd_out] = wanted.get(follower.fd_out, 0) | (select.POLLOUT if follower.blocked else 0)
        poll = select.poll()
        for descriptor, events in wanted.items():
            poll.register(descriptor, events)
        dates_s = [self._leader.next_s(), self._quiet_s(), self._retry_s(), *map(self._stuck_s, self.followers)]
        next_s = min([each for each in dates_s if each is not None], default=None)
        timeout_ms = None if next_s is None else max(0, int((next_s - monotonic()) * 1000) + 1)
        return dict(poll.poll(timeout_ms))

    def _read_outputs(self, ready: dict[int, int]) -> None:
        for stream, descriptor in list(self._outputs.items()):
            if ready.get(descriptor, 0) & ~select.POLLOUT:
                self._read_output(stream)

    def _read_output(self, stream: int) -> int:
        """Reads once; gives how many bytes there were. At its end the output is closed."""
        try:
            count = os.readv(self._outputs[stream], [self._buffer])
        except BlockingIOError:
            return 0
        except OSError:  # a terminal that nobody holds open any more
            count = 0
        if count:
            self._heard_s = monotonic()
            self._log.append(stream, self._buffer[:count])
        else:
            self._close_output(stream)
        return count

    def _close_output(self, stream: int) -> None:
        descriptor = self._outputs.pop(stream)
        if self._process.terminal:
            self._stdin.close()
        os.close(descriptor)

    def _meet(self) -> None:
        """Somebody has come over the socket: to attach, or to stop the run."""
        arrived = self._links.arrived()
        if arrived is None:
            return
        message, link, descriptors = arrived
        if message.get("op") == "stop":
            self._links.stopper(link)
            self._leader.stop(float(message["grace_ms"]) / 1000)
            if self.ended is not None:
                self._links.tell(self.ended)
        elif len(descriptors) == 2:  # noqa: PLR2004 - where it reads, where it writes
            self._join(message, Follower(*descriptors, link=link))

    def _join(self, message: dict[str, Any], follower: Follower) -> None:
        offsets = [message.get("stdout"), message.get("stderr")]
        missing = self._log.dropped(offsets)
        follower.begin_at(self._log.find(offsets))
        follower.answer(
            {
                "is": "attached",
                "pid": self._process.pid,
                "dropped": {"stdout": missing[0], "stderr": missing[1]},
                "stdin": {"received": self._stdin.received, "taken": self._stdin.taken, "ended": self._stdin.ended},
            }
        )
        self.add(follower, gives=bool(message.get("input")))

    def _gone(self, follower: Follower) -> None:
        """Nobody reads what is sent there any more. What it had sent before still counts."""
        while follower in self.followers:
            frames = follower.read_left()
            self.hear(follower, frames)
            if not frames:
                self._leave(follower, links.GONE)

    def _leave(self, follower: Follower, word: bytes) -> None:
        if follower not in self.followers:
            return
        self.followers.remove(follower)
        if self._giver is follower:
            self._giver = None
        if follower.link is not None:
            links.release(follower.link, {follower.fd_in, follower.fd_out}, word)

    def _obey(self, follower: Follower, kind: bytes, payload: bytes) -> None:
        """Does what one frame of a client says. Raises Lost for a `detach`."""
        if kind == JSON:
            try:
                self._control(jsontext.decode(payload))
            except (ValueError, KeyError, TypeError) as error:
                follower.answer({"is": "failed", "stage": "protocol", "message": str(error), "path": None})
        elif follower is self._giver and kind == STDIN:
            self._stdin.give(payload)
        elif follower is self._giver and kind == STDIN_END:
            self._stdin.end()

    def _control(self, message: dict[str, Any]) -> None:
        op = message.get("op")
        if op == "signal":
            self._leader.send(message["name"])
        elif op == "resize":
            if self._process.terminal and self._outputs:
                resize(self._outputs[0], int(message["rows"]), int(message["cols"]))
        elif op == "stop":
            self._leader.stop(float(message["grace_ms"]) / 1000)
        elif op == "detach":
            raise Lost
        else:
            raise ValueError(f"no op {op!r} while a job runs")

    def _quiet_s(self) -> float | None:
        """When outputs that are still open are given up."""
        if self._leader.ended_s is None or self.ended is not None or self._leader.is_stopping:
            return None
        if self._leader.stopped_s is not None:  # what still speaks has left the group, and may do so for ever
            return max(self._leader.ended_s, self._leader.stopped_s) + QUIET_S
        return max(self._leader.ended_s, self._heard_s) + QUIET_S

    def _stuck_s(self, follower: Follower) -> float | None:
        """When a client that takes nothing is given up, if there are others."""
        return follower.moved_s + _STUCK_S if follower.blocked and len(self.followers) > 1 else None

    def _retry_s(self) -> float | None:
        return self._again_s if self.ended is not None and not self._durable else None

    def _keep_time(self) -> None:
        self._leader.keep_time()
        for follower in list(self.followers):
            stuck_s = self._stuck_s(follower)
            if stuck_s is not None and monotonic() >= stuck_s:
                self._gone(follower)
        if self.ended is None and self._leader.look() and not self._leader.is_stopping:
            quiet_s = self._quiet_s()
            if not self._outputs or (quiet_s is not None and monotonic() >= quiet_s):
                self._end()
        elif self.ended is not None and not self._durable and monotonic() >= self._again_s:
            self._durable = self._run.say_ended(self.ended)
            self._again_s = monotonic() + _AGAIN_S

    def _end(self) -> None:
        """The job is over: the trailer is written, then everybody is told."""
        for stream in list(self._outputs):
            left = PIPE_BYTES  # by a client that is behind; and no more, as somebody may go on filling it
            while left > 0 and (count := self._read_output(stream)):
                left -= count
            if stream in self._outputs:
                self._close_output(stream)
        self._stdin.close()
        self._leader.reap()
        ended = {
            "is": "ended",
            "exit_code": self._leader.exit_code,
            "signal": self._leader.signal,
            "stdout": self._log.offsets[0],
            "stderr": self._log.offsets[1],
            "duration_ms": self._leader.duration_ms,
            "log_complete": self._log.complete,
        }
        self._durable = self._run.say_ended(ended)
        self._again_s = monotonic() + _AGAIN_S
        self.ended = ended
        for follower in self.followers:
            follower.finish(ended)
        self._told = self._links.tell(ended)

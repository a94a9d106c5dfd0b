"""What a box that is there and does not answer makes of each question: a failure with its reason, within a limit."""

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger.domain.errors import SshFailure
from ledger.domain.ports import NoAnswer, UnknownRun
from providers.agent import frames, jsontext
from providers.ssh import agent_session
from providers.ssh.agent_session import AgentSession
from providers.ssh.box import NotStopped
from providers.ssh.running import RunningJob
from tests.providers.site import HOLDER, WAIT_S, Seen, Site, shell, site_of
from tests.providers.sshd import needs_sshd

SOON_S = 0.2
HELLO = frames.MAGIC + frames.pack(frames.JSON, jsontext.encode({"is": "hello", "version": frames.VERSION}))
LOCKED = frames.pack(frames.JSON, jsontext.encode({"is": "locked", "token": 1}))

TAKES_NOTHING = "import select; poll = select.poll(); poll.register(0, 0); poll.poll()"


class SilentSite:
    """A box whose agent stops answering when told to; `site` is where it is."""

    def __init__(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site = site
        self._monkeypatch = monkeypatch
        site.run(shell("run_a", "true"))

    def falls_silent(self, *, after: bytes = HELLO, times: int = 1000, takes: bool = True) -> None:
        """From now on the agent says these bytes and nothing more, so many times; then it is itself again.

        Until its channel ends it takes what is sent, or nothing of it.
        """
        self._says(after, times, then="exec cat >/dev/null" if takes else f"exec python3 -c '{TAKES_NOTHING}'")

    def hangs_up(self, *, times: int) -> None:
        """So many times the agent greets and ends with the first thing that it is asked; then it is itself again."""
        self._says(HELLO, times, then="head -c 1 >/dev/null")

    def _says(self, after: bytes, times: int, *, then: str) -> None:
        folder = self.site.home
        (folder / "said").write_bytes(after)
        (folder / "times").write_text("x" * times)
        silent = folder / "silent"
        silent.write_text(
            "#!/bin/sh\n"
            f'[ -s {folder}/times ] || exec /usr/bin/env python3 "$@"\n'
            f't=$(cat {folder}/times); printf %s "${{t#x}}" >{folder}/times\n'
            f"cat {folder}/said; {then}\n"
        )
        silent.chmod(0o700)
        self._monkeypatch.setattr("providers.ssh.install._PYTHON", f"p={silent}")

    def limit(self, name: str) -> None:
        self._monkeypatch.setattr(f"providers.ssh.{name}", SOON_S)


@pytest.fixture(params=["system", "library"])
def silent(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentSite]:
    if request.param == "system" and shutil.which("ssh") is None:
        pytest.skip("needs ssh")
    with site_of(tmp_path / "site", use_library=request.param == "library") as site:
        yield SilentSite(site, monkeypatch)


def attached(site: Site) -> RunningJob:
    return site.box.attach(site.endpoint, site.place, "run_a", on_stdout=Seen().out, on_stderr=Seen().err)


def test_a_box_that_hangs_up_on_who_attaches_as_a_run_ends_is_asked_once_more(silent: SilentSite) -> None:
    silent.hangs_up(times=1)
    running = attached(silent.site)
    assert running.wait(WAIT_S).exit_code == 0
    running.detach()


def test_a_box_that_hangs_up_again_is_a_connection_that_was_lost(silent: SilentSite) -> None:
    silent.hangs_up(times=2)
    with pytest.raises(SshFailure, match="the connection was lost"):
        attached(silent.site)
    attached(silent.site).detach()


def copied(site: Site) -> object:
    with site.box.talk(site.endpoint, site.place) as talk:
        return talk.receive()


@needs_sshd
@pytest.mark.parametrize(
    ("limit", "ask", "words"),
    [
        ("box.RUNS_S", lambda site: site.box.runs(site.endpoint, site.place), "did not answer within 0.2 s"),
        ("running.ANSWER_S", attached, "did not answer within 0.2 s"),
        (
            "locking.ANSWER_S",
            lambda site: site.box.open(site.endpoint, site.place, HOLDER, wait_s=WAIT_S),
            "did not answer within 0.2 s",
        ),
        ("agent_session.SILENCE_S", copied, "was silent for 0.2 s"),
    ],
    ids=["runs", "attach", "lock", "files"],
)
def test_a_box_that_takes_a_question_and_is_silent_is_given_up(
    silent: SilentSite, limit: str, ask: Callable[[Site], object], words: str
) -> None:
    silent.falls_silent()
    silent.limit(limit)
    with pytest.raises(NoAnswer, match=words) as caught:
        ask(silent.site)
    assert (caught.value.stage, caught.value.exit_code) == ("session", 7)


@needs_sshd
def test_a_box_that_takes_nothing_of_what_is_sent_is_given_up(silent: SilentSite) -> None:
    silent.falls_silent(takes=False)
    silent.limit("agent_session.SILENCE_S")
    site = silent.site
    with site.box.talk(site.endpoint, site.place) as talk, pytest.raises(NoAnswer, match=r"took nothing for 0\.2 s"):
        talk.write(bytes(64 << 20))


@needs_sshd
def test_a_stop_whose_end_is_not_told_says_what_may_be_left(silent: SilentSite) -> None:
    """It has three times the grace for its signals, and then some."""
    silent.falls_silent()
    silent.limit("box.STOPPED_S")
    with pytest.raises(
        NotStopped, match=r"stop run_a and did not say within 0\.5 s that it has ended; .* may still run"
    ):
        silent.site.box.stop_run(silent.site.endpoint, silent.site.place, "run_a", grace_s=0.1)


@needs_sshd
def test_a_box_that_is_silent_when_a_job_should_begin_may_begin_it_later_whatever_it_says(silent: SilentSite) -> None:
    """It is asked again, and what it was told before may still be on its way: not `UnknownRun`, which is an end."""
    silent.falls_silent(after=HELLO + LOCKED, times=1)
    silent.limit("workspace.STARTED_S")
    seen, site = Seen(), silent.site
    with site.box.open(site.endpoint, site.place, HOLDER, wait_s=WAIT_S) as workspace:
        running = workspace.start(shell("run_b", "true"), seen.out, seen.err, told=seen.told.append)
    with pytest.raises(SshFailure, match=r"does not know the run run_b\. .* may begin it yet") as caught:
        running.wait(WAIT_S)
    assert not isinstance(caught.value, UnknownRun)
    assert [told.endswith("trying to connect again") for told in seen.told] == [True]


@needs_sshd
def test_a_workspace_that_is_left_while_a_job_should_begin_is_not_connected_to_again(silent: SilentSite) -> None:
    """As by a stop signal: nobody follows the job then."""
    silent.falls_silent(after=HELLO + LOCKED)
    seen, site = Seen(), silent.site
    failures: list[str] = []

    def start() -> None:
        try:
            workspace.start(shell("run_b", "true"), seen.out, seen.err, told=seen.told.append)
        except SshFailure as failure:
            failures.append(failure.stage)

    with site.box.open(site.endpoint, site.place, HOLDER, wait_s=WAIT_S) as workspace:
        thread = threading.Thread(target=start)
        thread.start()
    thread.join(WAIT_S)
    assert (failures, seen.told) == (["session"], [])


class VirtualChannel:
    """A channel in virtual time: each read is one of `reads`, which come `gap_s` seconds apart."""

    where = "box:22"

    def __init__(self, reads: list[bytes], gap_s: float) -> None:
        self.now_s = 1000.0
        self.is_closed = False
        self.on_wait: Callable[[], None] = lambda: None
        self._reads = reads
        self._gap_s = gap_s
        self._due_s = self.now_s + gap_s

    def read_into(self, buffer: memoryview, timeout_s: float | None = None) -> int:
        assert timeout_s is not None
        if not self._reads or self.now_s + timeout_s < self._due_s:
            self.now_s += timeout_s
            self.on_wait()
            raise TimeoutError
        self.now_s, self._due_s = self._due_s, self._due_s + self._gap_s
        chunk = self._reads.pop(0)
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def write(self, data: bytes | bytearray | memoryview, timeout_s: float) -> None:
        """All of it is taken."""

    def exit_code(self, _timeout_s: float) -> int | None:
        return None

    def words(self) -> str:
        return ""

    def failure(self) -> SshFailure:
        return SshFailure("lost", stage="session")

    def is_alive(self) -> bool:
        return True

    def close(self) -> None:
        self.is_closed = True


def at(channel: VirtualChannel, monkeypatch: pytest.MonkeyPatch) -> AgentSession:
    monkeypatch.setattr(agent_session, "monotonic", lambda: channel.now_s)
    return AgentSession(channel)


@pytest.mark.parametrize(("gap_s", "is_heard"), [(1.0, True), (2.0, False)])
def test_the_limit_of_an_answer_covers_all_of_it(monkeypatch: pytest.MonkeyPatch, gap_s: float, is_heard: bool) -> None:
    """One that comes byte by byte has no more time than another."""
    answer = frames.pack(frames.JSON, jsontext.encode({"is": "runs", "runs": []}))
    limit_s = 1.5 * len(answer)
    channel = VirtualChannel([answer[n : n + 1] for n in range(len(answer))], gap_s)
    session = at(channel, monkeypatch)
    if is_heard:
        assert session.hear("runs", timeout_s=limit_s) == {"is": "runs", "runs": []}
    else:
        with pytest.raises(NoAnswer):
            session.hear("runs", timeout_s=limit_s)
        assert channel.now_s == pytest.approx(1000.0 + limit_s)
    assert channel.is_closed is not is_heard


def test_a_box_that_takes_what_is_sent_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a large copy to it, of which the first word comes at its end."""
    channel = VirtualChannel([frames.pack(frames.JSON, b"{}")], 10 * agent_session.SILENCE_S)
    session = at(channel, monkeypatch)
    channel.on_wait = lambda: session.write(b"more")
    assert session.receive() == (frames.JSON, b"{}")


def test_a_box_that_neither_says_nor_takes_anything_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = VirtualChannel([], 0.0)
    session = at(channel, monkeypatch)
    with pytest.raises(NoAnswer, match="was silent for 900 s"):
        session.receive()
    assert (channel.now_s, channel.is_closed) == (1000.0 + agent_session.SILENCE_S, True)


def test_a_job_that_says_nothing_for_a_day_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = VirtualChannel([frames.pack(frames.JSON, b"{}")], 86_400.0)
    kind, payload = at(channel, monkeypatch).receive_view()
    assert (kind, bytes(payload), channel.now_s) == (frames.JSON, b"{}", 1000.0 + 86_400.0)

"""Jobs on a real box through the agent, over the system's ssh and over the library: each way does the same."""

import hashlib
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from ledger.domain.errors import SshFailure, UsageFailure
from ledger.domain.ports import Box, Holder, JobSpec, NoAgent, RemoteRun, Tty, UnknownRun, WorkspaceBusy
from providers.ssh.agent_session import Refusal
from providers.ssh.hostkeys import HostKeyChanged
from providers.ssh.install import folder_name
from tests.providers.site import HOLDER, WAIT_S, Seen, Site, ended, fed, shell, site_of
from tests.providers.sshd import keygen, needs_sshd

pytestmark = [needs_sshd, pytest.mark.skipif(shutil.which("ssh") is None, reason="needs ssh")]
MANY = 24 * 1024 * 1024


@pytest.fixture(params=["system", "library"])
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    with site_of(tmp_path / "site", use_library=request.param == "library") as site:
        yield site


def test_a_jobs_outputs_and_code_arrive_apart_and_as_they_are(site: Site) -> None:
    """Its folder is the workspace, which is made; invalid UTF-8 and zero bytes pass."""
    box: Box = site.box
    assert box is site.box
    assert site.run(shell("run_a", r"pwd; printf '\377\0'; printf 'no\n' >&2; exit 7")) == (
        ended(7, len(str(site.workspace)) + 3, 3),
        f"{site.workspace}\n".encode() + b"\xff\0",
        b"no\n",
    )


def test_arguments_a_script_and_variables_arrive_as_they_are(site: Site) -> None:
    argv = ("printf", "%s|", "a b", "", "it's", "two\nlines", "$HOME", "\udcff")
    assert site.run(JobSpec(run_id="run_a", argv=argv))[1] == b"a b||it's|two\nlines|$HOME|\xff|"
    script = b"#!/bin/sh\nprintf '%s' \"$NAMED\"\n"
    job = JobSpec(run_id="run_b", script=script, env={"NAMED": "a 'b'\n$c"})
    assert site.run(job) == (ended(0, 8), b"a 'b'\n$c", b"")


def test_a_job_with_a_terminal_has_its_size(site: Site) -> None:
    job = JobSpec(run_id="run_a", argv=("stty", "size"), tty=Tty(rows=33, columns=77, term="xterm"))
    assert site.run(job)[1] == b"33 77\r\n"


def test_the_agent_is_installed_once(site: Site) -> None:
    site.run(shell("run_a", "true"))
    installed = site.folder / ".rentroll" / folder_name()
    before = installed.stat().st_ino
    site.run(shell("run_b", "true"))
    assert [path.name for path in installed.parent.iterdir() if path.name.startswith("agent-")] == [folder_name()]
    assert installed.stat().st_ino == before
    assert list((installed / "providers" / "agent").glob("__pycache__/frames.*.pyc"))


def test_the_work_root_may_be_in_the_logins_home(site: Site) -> None:
    site.place = replace(site.place, root="~/a b")
    ended_, stdout, _ = site.run(shell("run_a", "pwd"))
    assert (ended_.exit_code, stdout) == (0, f"{site.home}/a b/{site.place.lease_id}\n".encode())


def test_what_a_login_shell_prints_is_no_part_of_the_output(site: Site) -> None:
    (site.home / ".bashrc").write_text("head -c 300000 /dev/zero; echo noise; echo more >&2\n")
    assert site.run(JobSpec(run_id="run_a", argv=("echo", "out"))) == (ended(0, 4), b"out\n", b"")


def test_input_and_its_end_arrive(site: Site) -> None:
    """More than any buffer on the way holds, and of a job that reads it late."""
    data = os.urandom(3_000_000)
    with fed(data) as stdin:
        ended_, stdout, _ = site.run(shell("run_a", "sleep 0.2; sha256sum", stdin=stdin))
    assert (ended_.exit_code, stdout[:64].decode()) == (0, hashlib.sha256(data).hexdigest())


def test_a_job_that_reads_no_input_ends_all_the_same(site: Site) -> None:
    with fed(bytes(5_000_000)) as stdin:
        assert site.run(shell("run_a", "echo done", stdin=stdin)) == (ended(0, 5), b"done\n", b"")


def test_input_that_cannot_be_read_is_no_end_of_input(site: Site, tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    with site.box.open(site.endpoint, site.place, HOLDER, wait_s=WAIT_S) as workspace:
        running = workspace.start(shell("run_a", "cat", stdin=folder), Seen().out, Seen().err)
    with pytest.raises(UsageFailure, match="could not be read: Is a directory"):
        running.wait(WAIT_S)
    os.close(folder)
    running.signal("TERM")
    assert replace(running.wait(WAIT_S), duration_ms=0) == ended(None, signal="TERM")


def test_a_signal_reaches_the_job_also_while_it_takes_no_input(site: Site) -> None:
    seen = Seen()
    with fed(bytes(5_000_000)) as stdin:
        with site.box.open(site.endpoint, site.place, HOLDER, wait_s=WAIT_S) as workspace:
            job = shell("run_a", "trap 'echo last; exit 5' INT; echo first; while :; do sleep 0.02; done", stdin=stdin)
            running = workspace.start(job, seen.out, seen.err)
        assert seen.first.wait(WAIT_S)
        running.signal("INT")
        assert replace(running.wait(WAIT_S), duration_ms=0) == ended(5, 11)
    assert bytes(seen.stdout) == b"first\nlast\n"


def test_what_is_no_signal_is_refused(site: Site) -> None:
    with site.box.open(site.endpoint, site.place, HOLDER, wait_s=WAIT_S) as workspace:
        running = workspace.start(shell("run_a", "true"), Seen().out, Seen().err)
    with pytest.raises(ValueError, match="'STOP' is not a signal"):
        running.signal("STOP")
    running.wait(WAIT_S)


def test_a_job_that_is_left_goes_on_and_can_be_followed_from_anywhere(site: Site) -> None:
    seen = Seen()
    go_on = site.folder / "go-on"
    with site.box.open(site.endpoint, site.place, HOLDER, wait_s=WAIT_S) as workspace:
        line = f"echo before; while [ ! -e {go_on} ]; do sleep 0.02; done; echo after"
        left = workspace.start(shell("run_a", line), seen.out, seen.err)
    assert seen.first.wait(WAIT_S)
    left.detach()
    again = Seen()
    running = site.box.attach(
        site.endpoint, site.place, "run_a", from_stdout=3, on_stdout=again.out, on_stderr=again.err
    )
    with pytest.raises(TimeoutError):
        running.wait(0)
    assert again.first.wait(WAIT_S)
    go_on.touch()
    assert replace(running.wait(WAIT_S), duration_ms=0) == ended(0, 13)
    assert (bytes(seen.stdout), bytes(again.stdout), running.dropped) == (b"before\n", b"ore\nafter\n", (0, 0))


def test_a_run_that_has_ended_is_told_with_its_log(site: Site) -> None:
    site.run(shell("run_a", "echo out; echo err >&2; exit 3"))
    seen = Seen()
    running = site.box.attach(site.endpoint, site.place, "run_a", on_stdout=seen.out, on_stderr=seen.err)
    assert replace(running.wait(WAIT_S), duration_ms=0) == ended(3, 4, 4)
    assert (bytes(seen.stdout), bytes(seen.stderr)) == (b"out\n", b"err\n")


def test_what_was_seen_of_one_stream_comes_not_again_with_the_other(site: Site) -> None:
    """The box's log has both in the order in which they came, and is sent from the first that is missing."""
    site.run(shell("run_a", "echo err >&2; sleep 0.1; echo out; sleep 0.1; echo two; sleep 0.1; echo err >&2"))
    seen = Seen()
    running = site.box.attach(site.endpoint, site.place, "run_a", from_stdout=8, on_stdout=seen.out, on_stderr=seen.err)
    assert replace(running.wait(WAIT_S), duration_ms=0) == ended(0, 8, 8)
    assert (bytes(seen.stdout), bytes(seen.stderr), running.dropped) == (b"", b"err\nerr\n", (0, 0))


def test_what_the_box_has_dropped_of_a_run_is_told_before_its_outputs_begin_there(site: Site) -> None:
    """Its log is bounded: the oldest segment goes."""
    ended_, whole, _ = site.run(shell("run_a", "seq 1 3000000; sleep 0.1; echo err >&2"))
    log = site.folder / ".rentroll" / site.place.lease_id / "runs" / "run_a"
    min(log.glob("log.*")).unlink()
    seen = Seen()
    running = site.box.attach(site.endpoint, site.place, "run_a", on_stdout=seen.out, on_stderr=seen.err)
    lost = running.dropped[0]
    assert (running.dropped, 0 < lost < len(whole), bytes(seen.stdout)) == ((lost, 0), True, b"")
    assert replace(running.wait(WAIT_S), duration_ms=0) == ended_
    assert (bytes(seen.stdout), bytes(seen.stderr), running.dropped) == (whole[lost:], b"err\n", (lost, 0))


def test_a_run_that_the_box_does_not_know_is_named(site: Site) -> None:
    with pytest.raises(UnknownRun, match="does not know the run run_x"):
        site.box.attach(site.endpoint, site.place, "run_x", on_stdout=Seen().out, on_stderr=Seen().err)
    with pytest.raises(UnknownRun, match="does not know the run run_x"):
        site.box.stop_run(site.endpoint, site.place, "run_x", grace_s=1)


def test_the_box_tells_its_runs_and_stops_one(site: Site) -> None:
    site.run(shell("run_a", "exit 3"))
    seen = Seen()
    with site.box.open(site.endpoint, site.place, HOLDER, wait_s=WAIT_S) as workspace:
        running = workspace.start(shell("run_b", "echo up; exec sleep 1000"), seen.out, seen.err)
    assert seen.first.wait(WAIT_S)
    first, second = site.box.runs(site.endpoint, site.place)
    assert first.ended is not None
    assert replace(first, pid=0, started_at=0.0, ended=replace(first.ended, duration_ms=0)) == RemoteRun(
        run_id="run_a", pid=0, running=False, ended=ended(3), started_at=0.0
    )
    assert (second.run_id, second.running, second.ended) == ("run_b", True, None)
    stopped = site.box.stop_run(site.endpoint, site.place, "run_b", grace_s=WAIT_S)
    assert replace(stopped, duration_ms=0) == ended(None, 3, signal="INT")
    assert running.wait(WAIT_S) == stopped


def test_a_second_client_is_told_who_works_there_and_has_a_limit(site: Site) -> None:
    told: list[Holder] = []
    other = replace(HOLDER, run_id="run_2", pid=2)
    with site.box.open(site.endpoint, site.place, HOLDER, wait_s=WAIT_S) as first:
        with pytest.raises(WorkspaceBusy, match=r"in use \(run of process 1 on here, run_1\)") as caught:
            site.box.open(site.endpoint, site.place, other, wait_s=0.2, waiting=told.append)
        token = first.token
    assert (told, caught.value.holder, caught.value.exit_code) == ([HOLDER], HOLDER, 11)
    with site.box.open(site.endpoint, site.place, other, wait_s=WAIT_S) as second:
        assert second.token == token + 1


def test_a_second_client_gets_the_workspace_when_the_first_has_done(site: Site) -> None:
    with site.box.open(site.endpoint, site.place, HOLDER, wait_s=WAIT_S) as first:

        def leave(_holder: Holder) -> None:
            first.__exit__(None, None, None)

        with site.box.open(site.endpoint, site.place, HOLDER, wait_s=WAIT_S, waiting=leave) as second:
            assert second.token == first.token + 1


def test_a_run_whose_name_is_taken_is_refused(site: Site) -> None:
    site.run(shell("run_a", "true"))
    with (
        site.box.open(site.endpoint, site.place, HOLDER, wait_s=WAIT_S) as workspace,
        pytest.raises(Refusal, match="the run run_a is there already") as caught,
    ):
        workspace.start(shell("run_a", "true"), Seen().out, Seen().err)
    assert caught.value.stage == "protocol"


@pytest.mark.parametrize("line", ["head -c {} /dev/urandom | tee {}", "seq 1 3000000 | head -c {} | tee {}"])
def test_no_byte_is_lost_or_doubled_when_the_connection_is_cut_again_and_again(site: Site, line: str) -> None:
    cuts = [MANY // 8, MANY // 3, MANY // 2]

    def cut() -> None:
        if cuts and len(seen.stdout) >= cuts[0]:
            cuts.pop(0)
            site.server.cut()

    seen = Seen(cut)
    whole = site.home / "whole"
    with site.box.open(site.endpoint, site.place, HOLDER, wait_s=WAIT_S) as workspace:
        running = workspace.start(
            shell("run_a", line.format(MANY, whole) + "; exit 9"), seen.out, seen.err, told=seen.told.append
        )
    ended_ = running.wait(WAIT_S)
    expected = whole.read_bytes()
    assert (ended_.exit_code, ended_.stdout_bytes, len(seen.stdout)) == (9, len(expected), len(expected))
    assert seen.stdout == expected
    assert [told.endswith("trying to connect again") for told in seen.told if told != "connected again"] == [True] * 3


def test_input_goes_on_where_the_box_got_to_when_the_connection_is_cut(site: Site) -> None:
    data = os.urandom(6_000_000)
    seen = Seen(lambda: site.server.cut() if len(seen.stdout) == 4 else None)
    line = "head -c 1000000 >a; echo cut; sleep 0.2; cat >b; cat a b | sha256sum"
    with fed(data) as stdin:
        with site.box.open(site.endpoint, site.place, HOLDER, wait_s=WAIT_S) as workspace:
            running = workspace.start(shell("run_a", line, stdin=stdin), seen.out, seen.err, told=seen.told.append)
        assert running.wait(WAIT_S).exit_code == 0
    assert seen.stdout.decode() == f"cut\n{hashlib.sha256(data).hexdigest()}  -\n"
    assert len(seen.told) == 2


def test_a_job_that_ends_while_there_is_no_connection_still_gives_its_code(site: Site) -> None:
    """And a signal that is sent meanwhile arrives when there is one again."""
    seen = Seen()
    refused = threading.Event()

    def refuse(_number: int) -> None:
        if not refused.is_set():
            refused.set()
            raise ConnectionError

    with site.box.open(site.endpoint, site.place, HOLDER, wait_s=WAIT_S) as workspace:
        line = "trap 'exit 5' USR1; echo up; while :; do sleep 0.02; done"
        running = workspace.start(shell("run_a", line), seen.out, seen.err, told=seen.told.append)
    assert seen.first.wait(WAIT_S)
    site.server.before_each = refuse
    site.server.cut()
    assert refused.wait(WAIT_S)
    running.signal("USR1")
    assert running.wait(WAIT_S).exit_code == 5


def test_a_box_that_does_not_come_back_is_given_up_with_its_reason(site: Site) -> None:
    site.box = type(site.box)(site.server.keys, use_library=site.box._use_library, reconnect_s=0.3)

    def refuse(_number: int) -> None:
        raise ConnectionError

    seen = Seen()
    with site.box.open(site.endpoint, site.place, HOLDER, wait_s=WAIT_S) as workspace:
        running = workspace.start(shell("run_a", "echo up; exec sleep 1000"), seen.out, seen.err)
    assert seen.first.wait(WAIT_S)
    site.server.before_each = refuse
    site.server.cut()
    with pytest.raises(SshFailure, match=r"could not be opened again within 0\.3 s") as caught:
        running.wait(WAIT_S)
    assert caught.value.stage == "session"
    site.server.before_each = lambda _number: None
    site.box.stop_run(site.endpoint, site.place, "run_a", grace_s=0)


def test_another_box_at_the_address_is_never_told_of_the_job(site: Site, tmp_path: Path) -> None:
    seen = Seen()
    with site.box.open(site.endpoint, site.place, HOLDER, wait_s=WAIT_S) as workspace:
        running = workspace.start(shell("run_a", "echo up; exec sleep 1000"), seen.out, seen.err)
    assert seen.first.wait(WAIT_S)
    key = (site.server.folder / "host_key").read_bytes()
    (site.server.folder / "host_key").unlink()
    keygen(site.server.folder / "host_key")
    site.server.cut()
    with pytest.raises(HostKeyChanged, match="host key") as caught:
        running.wait(WAIT_S)
    assert caught.value.stage == "host-key"
    (site.server.folder / "host_key").write_bytes(key)
    site.box.stop_run(site.endpoint, site.place, "run_a", grace_s=0)


def test_what_a_sink_raises_comes_out_and_the_job_can_be_waited_for(site: Site) -> None:
    def refuse(_chunk: bytes) -> None:
        raise BrokenPipeError("nobody reads")

    with site.box.open(site.endpoint, site.place, HOLDER, wait_s=WAIT_S) as workspace:
        running = workspace.start(shell("run_a", "seq 1 100000; exec sleep 1000"), refuse, refuse)
    with pytest.raises(BrokenPipeError, match="nobody reads"):
        running.wait(WAIT_S)
    running.signal("HUP")
    assert running.wait(WAIT_S).signal == "HUP"


def test_a_signal_handlers_exception_comes_out_at_once_and_the_wait_is_taken_up_again(site: Site) -> None:
    class Pressed(Exception):
        pass

    def press(*_: object) -> None:
        raise Pressed

    seen = Seen(lambda: os.kill(os.getpid(), signal.SIGUSR1))
    before = signal.signal(signal.SIGUSR1, press)
    try:
        with site.box.open(site.endpoint, site.place, HOLDER, wait_s=WAIT_S) as workspace:
            line = "trap 'echo last; exit 0' INT; sleep 0.3; echo first; while :; do sleep 0.02; done"
            running = workspace.start(shell("run_a", line), seen.out, seen.err)
        with pytest.raises(Pressed):
            running.wait(WAIT_S)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        running.signal("INT")
        assert running.wait(WAIT_S).exit_code == 0
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert bytes(seen.stdout) == b"first\nlast\n"


def test_a_wait_has_a_limit(site: Site) -> None:
    with site.box.open(site.endpoint, site.place, HOLDER, wait_s=WAIT_S) as workspace:
        running = workspace.start(shell("run_a", "exec sleep 1000"), Seen().out, Seen().err)
    with pytest.raises(TimeoutError):
        running.wait(0.05)
    running.signal("KILL")
    assert running.wait(WAIT_S).signal == "KILL"


def test_a_box_without_python_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.ssh.install._PYTHON", "p=/none; [ -x $p ] || p=$(command -v none) || exit 96")
    with pytest.raises(NoAgent, match=r"has no python3 of version 3\.8") as caught:
        site.run(shell("run_a", "true"))
    assert (caught.value.stage, caught.value.exit_code) == ("tools", 7)


def test_a_work_root_that_cannot_be_made_is_named(site: Site) -> None:
    site.folder.write_text("in the way")
    with pytest.raises(SshFailure, match=r"the box did not take the agent: .*Not a directory") as caught:
        site.run(shell("run_a", "true"))
    assert caught.value.stage == "tools"

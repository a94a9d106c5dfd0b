"""Running a command on a ready box, on the record; the last resort for an id; and the pen's own rules."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pytest

from ledger.domain.errors import Conflict, Interrupted, SshFailure, UsageFailure
from ledger.domain.ports import RemoteCommand, RemoteExit
from ledger.domain.refusals import Refused
from ledger.domain.state import Lease
from ledger.flows.work import Job, endpoint_of, must_release, run, work_dir
from providers.ssh.box import SshBox
from tests.flows.world import ACQUIRED, HOST_KEY, LEASE, MINUTE_MS, Program, World

RUN = "run_" + "2" * 26


@contextmanager
def no_signs_of_life(_lease_id: str) -> Iterator[None]:
    yield


class Heard:
    """What came out of a job."""

    def __init__(self) -> None:
        self.stdout = b""
        self.stderr = b""

    def out(self, chunk: bytes) -> None:
        self.stdout += chunk

    def err(self, chunk: bytes) -> None:
        self.stderr += chunk


def job(lease: Lease, heard: Heard, *command: str) -> Job:
    return Job(
        run_id=RUN,
        lease_id=lease.lease_id,
        command=command,
        repository=None,
        stdin=None,
        on_stdout=heard.out,
        on_stderr=heard.err,
    )


@pytest.mark.holds("TCH-06")
def test_a_run_is_on_record_with_what_it_was_and_how_it_ended(world: World, program: Program) -> None:
    """Run-started before the command, run-finished with its code, its length and its bytes."""
    seen: list[str] = []

    def ends(command: RemoteCommand) -> RemoteExit:
        seen.append(world.types()[-1])
        command.on_stdout(b"four")
        command.on_stderr(b"!!")
        world.clock.sleep(12.5)
        return RemoteExit(exit_code=7)

    program.memory_box.ends = ends
    heard = Heard()

    remote = run(program.services, job(program.acquire(), heard, "make", "test"), no_signs_of_life)

    assert (remote.exit_code, heard.stdout, heard.stderr, seen) == (7, b"four", b"!!", ["run-started"])
    assert world.types() == [*ACQUIRED, "run-started", "run-finished"]
    started, finished = world.payloads("run-started")[0], world.payloads("run-finished")[0]
    assert (started["command"], started["work_dir"]) == (["make", "test"], f"~/rentroll/{LEASE}")
    assert finished == {
        "run_id": RUN,
        "exit_code": 7,
        "signal": None,
        "duration_ms": 12_500,
        "stdout_bytes": 4,
        "stderr_bytes": 2,
        "detached": False,
        "phases": {"ssh": 0, "command": 12_500},
        "failure": None,
    }


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (SshFailure("the connection was lost", stage="session"), "the connection was lost"),
        (Interrupted(2), "interrupted by signal 2"),
    ],
)
def test_a_run_that_is_broken_off_ends_as_not_known(
    world: World, program: Program, failure: BaseException, told: str
) -> None:
    """A lost connection or a signal is passed on; the record says that the end is not known."""

    def ends(command: RemoteCommand) -> RemoteExit:
        raise failure

    program.memory_box.ends = ends
    lease = program.acquire()

    with pytest.raises(type(failure)):
        run(program.services, job(lease, Heard(), "true"), no_signs_of_life)

    finished = world.payloads("run-finished")[0]
    assert (finished["exit_code"], finished["signal"], finished["failure"]) == (None, None, told)
    assert world.lease().open_runs == ()


def test_an_end_that_cannot_be_recorded_is_told_and_keeps_the_commands_code(world: World, program: Program) -> None:
    """The command is over whatever the ledger says."""
    program.memory_box.ends = lambda command: RemoteExit(exit_code=7)
    lease = program.acquire()
    program.boundaries.fail("append run-finished", UsageFailure("the ledger cannot be written: disk full"))

    ended = run(program.services, job(lease, Heard(), "false"), no_signs_of_life)

    assert (ended.exit_code, ended.signal) == (7, None)
    assert (program.told[-1].name, program.told[-1].detail) == (
        "run not recorded",
        "the ledger cannot be written: disk full",
    )
    assert world.lease().open_runs == (RUN,)


def test_a_run_id_is_used_once(world: World, program: Program) -> None:
    """An effect belongs to the process whose own append announced it."""
    lease = program.acquire()
    run(program.services, job(lease, Heard(), "true"), no_signs_of_life)

    with pytest.raises(Conflict):
        run(program.services, job(lease, Heard(), "true"), no_signs_of_life)

    assert world.types()[4:] == ["run-started", "run-finished"]


def test_nothing_runs_on_a_box_that_is_not_ready(world: World, program: Program) -> None:
    """A kept, failed acquire is looked at by hand, not worked on: exit 4."""
    program.memory_box.always = SshFailure("the box does not listen", stage="tcp")
    with pytest.raises(SshFailure):
        program.acquire(timeout_ms=MINUTE_MS, keep=world.keep(hours=1))

    with pytest.raises(Refused) as refused:
        run(program.services, job(world.lease(), Heard(), "true"), no_signs_of_life)

    assert (refused.value.name, refused.value.exit_code) == ("not-ready", 4)


@pytest.mark.holds("SSH-01", "SSH-03", "PEER-46")
def test_the_recorded_endpoint_is_used_whatever_the_settings_say_now(world: World) -> None:
    """The pinned host key too."""
    world.program(ssh_port=2222).acquire(ssh_user="ubuntu")

    endpoint = endpoint_of(world.lease())

    assert (endpoint.host, endpoint.port, endpoint.user, endpoint.host_key) == (
        world.boxes()[0].ip,
        2222,
        "ubuntu",
        HOST_KEY,
    )


@pytest.mark.parametrize("work_root", ["~/rent roll's", "{tmp}/absolute $HOME", "{tmp}/plain/"])
def test_a_job_runs_in_its_own_folder_with_its_variables(world: World, tmp_path: Path, work_root: str) -> None:
    """Contract, meanings: the folder is made; `~/` is the login's home; nothing of it is read by the shell."""
    root = work_root.format(tmp=tmp_path)
    program = world.program()
    lease = program.acquire(work_root=root)
    lines: list[str] = []

    def ends(command: RemoteCommand) -> RemoteExit:
        lines.append(command.line)
        return RemoteExit(exit_code=0)

    program.memory_box.ends = ends
    words = ("sh", "-c", 'pwd; echo "$RENTROLL_RUN_ID $RENTROLL_INSTANCE_ID"')
    run(program.services, job(lease, Heard(), *words), no_signs_of_life)

    ran = subprocess.run(
        ["/bin/sh", "-c", *lines], env={"HOME": str(tmp_path / "home")}, capture_output=True, text=True, check=True
    )

    folder = root.rstrip("/").replace("~", str(tmp_path / "home"))
    assert ran.stdout == f"{folder}/{LEASE}\n{RUN} {lease.instance_id}\n"
    assert f"/{LEASE}" in work_dir(lease)


@pytest.mark.holds("CRE-01")
def test_a_whole_lease_over_real_ssh(tmp_path: Path) -> None:
    """The purpose of it all: real HTTP, real keys, real SSH, both streams, the remote code, and given back."""
    heard = Heard()
    with World(tmp_path, sockets=True) as world:
        program = world.program(box=SshBox(world.keys))
        line = ("sh", "-c", "echo out; echo err >&2; exit 7")

        lease = program.acquire(ssh_port=world.ssh_port)
        remote = run(program.services, job(lease, heard, *line), no_signs_of_life)
        released = program.stop()

        assert (remote.exit_code, heard.stdout, heard.stderr) == (7, b"out\n", b"err\n")
        assert (released.outcome, world.boxes(), world.key_folders()) == ("completed", [], [])


@pytest.mark.holds("REL-14", "PEER-29")
def test_must_release_decides_over_every_policy() -> None:
    """A run gives back what it leased, unless it is kept; an explicit policy overrides."""
    by_default = {
        (is_ours, keep, keep_on_failure, failed): must_release(
            policy=None, is_ours=is_ours, keep=keep, keep_on_failure=keep_on_failure, failed=failed
        )
        for is_ours, keep, keep_on_failure, failed in product((True, False), repeat=4)
    }
    assert {case for case, released in by_default.items() if released} == {
        (True, False, False, False),
        (True, False, False, True),
        (True, False, True, False),
    }
    explicit = {
        (policy, failed): must_release(policy=policy, is_ours=False, keep=True, keep_on_failure=True, failed=failed)
        for policy, failed in product(("success", "failure", "always", "never"), (True, False))
    }
    assert {case for case, released in explicit.items() if released} == {
        ("success", False),
        ("failure", True),
        ("always", True),
        ("always", False),
    }

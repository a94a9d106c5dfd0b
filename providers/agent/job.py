"""The op `run`: this process starts the job and is its supervisor, until the job has ended and everybody knows.

The channel is one of the clients, and its end is theirs alone: the job goes on without it, and the lock with the job:
it is free once that has ended, also while a client still takes what came before.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C half of signal, which imports enum: 5 ms
import os
from binascii import a2b_base64

from providers.agent.folder import Run, remove, remove_old
from providers.agent.follower import Follower
from providers.agent.log import Log
from providers.agent.session import PENDING, Gone
from providers.agent.spawn import command_of, environment, start
from providers.agent.supervise import Supervisor

TYPE_CHECKING = False  # as typing's own; importing that would cost the agent's start several milliseconds
if TYPE_CHECKING:
    from typing import Any

    from providers.agent.session import Session
    from providers.agent.spawn import Process


def run(session: Session, message: dict[str, Any]) -> None:
    """Runs a job to its end. Raises Gone where the channel ended before it, Failed where it cannot be started."""
    token = session.fenced()
    run = Run(session.state, message["run_id"])
    if os.path.exists(os.path.join(session.state, PENDING)):
        from providers.agent.tree import settle_torn

        settle_torn(session)
    woken, waking = _wake_for_children()
    try:
        process = _started(session.workspace, run, message, token)
        _supervised(session, Supervisor(run, process, Log(run.path), woken), process)
    finally:
        _signal.set_wakeup_fd(-1)
        os.close(woken)
        os.close(waking)


def late(session: Session, message: dict[str, Any]) -> None:
    """A `signal`, `resize` or `detach` that crossed with the job's end: there is nothing more to do."""


def _started(workspace: str, run: Run, message: dict[str, Any], token: int) -> Process:
    try:
        script = message.get("script")
        command = command_of(message, None if script is None else run.script(a2b_base64(script)))
        os.makedirs(workspace, exist_ok=True)
        fixed = {"RENTROLL_FENCE": str(token), "RENTROLL_RUN_ID": message["run_id"]}
        env = environment({**message["env"], **fixed}, workspace)
        os.chdir(workspace)
        process = start(command, env, stdin=bool(message["stdin"]), tty=message["tty"])
        os.chdir(run.path)  # nothing of ours keeps the workspace from being removed
    except BaseException:
        run.close()
        remove(run.path)
        raise
    run.say_pid(process.pid)
    return process


def _supervised(session: Session, supervisor: Supervisor, process: Process) -> None:
    own = Follower(session.fd_in, session.fd_out, reader=session.reader)
    own.answer({"is": "started", "pid": process.pid})
    supervisor.add(own, gives=process.stdin is not None)
    supervisor.hear(own, session.pending())
    supervisor.flush()
    here = True
    while not supervisor.over():
        supervisor.turn()
        if here and own not in supervisor.followers:
            here = False
            session.let_go()
        if supervisor.ended is not None:
            session.free_lock()
    supervisor.close()
    _make_room(session.state)
    if not here:
        raise Gone
    session.unread(supervisor.left_over)
    for descriptor in (session.fd_in, session.fd_out):
        os.set_blocking(descriptor, True)


def _make_room(state: str) -> None:
    """Removes the oldest runs; one that cannot be removed is met again by the next run."""
    try:
        remove_old(state)
    except OSError:
        pass


def _wake_for_children() -> tuple[int, int]:
    """A pipe that becomes readable when a child ends. What a terminal or a connection may send us ends nothing."""
    woken, waking = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(waking, False)
    _signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    _signal.signal(_signal.SIGCHLD, _awake)
    for number in (_signal.SIGHUP, _signal.SIGINT):
        _signal.signal(number, _signal.SIG_IGN)
    return woken, waking


def _awake(number: int, frame: object) -> None:
    """The wake-up alone is what the signal is wanted for."""

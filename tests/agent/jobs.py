"""What the tests ask of a job's processes."""

import os
import time
from pathlib import Path

from tests.agent.client import Channel, Place, alive


def gate(box: Place) -> Path:
    """A named pipe: a job that opens it for reading waits there until somebody writes."""
    path = box.folder / "gate"
    os.mkfifo(path)
    return path


def stalled(pid: int) -> bool:
    """Whether the processes of a job's group write nothing any more: the pipe to the supervisor is full."""
    before = written(pid)
    time.sleep(0.1)
    return before > 0 and written(pid) == before


def written(pid: int) -> int:
    """How much the job's newest process has written."""
    told = Path(f"/proc/{children(pid)[0]}/io").read_text()
    return int(told.partition("wchar: ")[2].split()[0])


def ended(pid: int) -> bool:
    """Whether a process is no more, or a zombie."""
    return not alive(pid)


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()] or [pid]


def told_runs(channel: Channel) -> list[tuple[str, bool, bool]]:
    """Of each run that the box tells of its id, whether it runs, and whether it is lost."""
    return [(each["run_id"], each["running"], each["lost"]) for each in channel.ask("runs", op="runs")["runs"]]

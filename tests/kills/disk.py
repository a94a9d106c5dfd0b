"""Disks that are full: a small one of its own where we may mount, else a limit on what a program may write."""

import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from subprocess import Popen
from typing import Protocol

from tests.cli.running import PROGRAM

NOTHING = (0, resource.RLIM_INFINITY)
LIMITED = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, {NOTHING})
from cli.main import main
sys.exit(main())
"""
BLOCK = bytes(4096)


class Disk(Protocol):
    """Where the state folder is."""

    def full_from_the_start(self) -> Sequence[str]:
        """Fills it, and gives the program that is to meet it so."""
        ...

    def fill(self, process: "Popen[bytes]") -> None:
        """Fills it under a program that runs."""
        ...

    def free(self) -> None:
        """Makes room for the next program."""
        ...


class SmallDisk:
    """A file system in memory, which a file of ours can fill to its last byte."""

    def __init__(self, folder: Path) -> None:
        self._filler = folder / "filler"

    def full_from_the_start(self) -> Sequence[str]:
        self._fill()
        return PROGRAM

    def fill(self, process: "Popen[bytes]") -> None:
        self._fill()

    def free(self) -> None:
        self._filler.unlink()

    def _fill(self) -> None:
        with self._filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(BLOCK):
                pass


class Limit:
    """A program that may write nothing more to any file (RLIMIT_FSIZE), as on a full disk."""

    def full_from_the_start(self) -> Sequence[str]:
        return sys.executable, "-P", "-c", LIMITED

    def fill(self, process: "Popen[bytes]") -> None:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, NOTHING)

    def free(self) -> None:
        pass


def may_mount() -> bool:
    """Whether this user may mount a file system."""
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A file system in memory at `folder`."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder in which nothing can be written, by a mount of its own where permissions hold nobody."""
    if os.geteuid() == 0:
        subprocess.run(["mount", "--bind", "-o", "ro", str(folder), str(folder)], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        return
    folder.chmod(0o500)
    try:
        yield
    finally:
        folder.chmod(0o700)

"""Copies to and from stock OpenSSH servers, over the system's ssh and over paramiko, with connections that tear."""

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ledger.domain.copying import Copied, CopyOrder
from ledger.domain.errors import SshFailure
from ledger.domain.ports import Boot, Place, PlaceFailure
from ledger.flows.copy import copy, download
from providers.agent.copy_plan import PARTIAL
from providers.ssh.box import SshBox
from providers.ssh.control import end_masters
from providers.ssh.copying import AgentCopier
from tests.agent.copying import Seen, tree
from tests.providers.sshd import LEASE, Sshd, needs_sshd, serving

pytestmark = [needs_sshd, pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh on this machine")]
BIG = os.urandom(16_000_000)
"""Enough for two cuts: a window of 2 MiB and what the sockets hold may still arrive after each of them."""


class Patient:
    """A clock on which waiting takes no time and is remembered."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic_s(self) -> float:
        return 0.0

    def boot(self) -> Boot:
        return Boot(boot_id="b", uptime_ms=0)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class Cutting(Seen):
    """Cuts every connection of a server once so many bytes have passed, each time."""

    def __init__(self, server: Sshd, *, at: list[int]) -> None:
        super().__init__()
        self._server = server
        self._at = at

    def moved(self, size: int) -> None:
        super().moved(size)
        if self._at and self.sent > self._at[0]:
            self._at.pop(0)
            self._server.cut()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with serving(tmp_path / "sshd") as server:
        yield server
        end_masters(server.keys.root, LEASE)


class Copying:
    """One server and a way to reach it."""

    def __init__(self, server: Sshd, *, use_library: bool) -> None:
        self.server = server
        self.endpoint = server.endpoint()
        self.place = Place(root=str(server.folder / "root"), lease_id=LEASE)
        self.work = server.folder / "root" / LEASE
        self.work.mkdir(parents=True)
        self.copier = AgentCopier(SshBox(server.keys, use_library=use_library).talk, private=server.keys.root)
        self.clock = Patient()
        self.seen = Seen()

    def copy(self, source: str, target: str, *, to_box: bool) -> Copied:
        order = CopyOrder(to_box=to_box, sources=(source.encode(),), target=target.encode())
        return copy(self.copier, self.endpoint, self.place, order, self.clock, self.seen)


@pytest.fixture(params=["system", "library"])
def copying(request: pytest.FixtureRequest, server: Sshd) -> Copying:
    return Copying(server, use_library=request.param == "library")


@pytest.mark.parametrize("to_box", [True, False])
def test_a_copy_whose_connection_tears_twice_goes_on_by_itself(copying: Copying, to_box: bool) -> None:
    source, target = (Path(), copying.work) if to_box else (copying.work, Path())
    (source / "f").write_bytes(BIG)
    copying.seen = seen = Cutting(copying.server, at=[1_000_000, 8_000_000])
    done = copying.copy("f", "copied", to_box=to_box)
    assert (target / "copied").read_bytes() == BIG
    assert (done.files, done.failures, done.bytes) == (1, (), seen.sent)
    assert len(BIG) <= seen.sent < 2 * len(BIG)
    assert (len(seen.lines), copying.clock.slept) == (2, [0.5, 0.5])
    assert [path for path in target.rglob("*") if PARTIAL.fullmatch(os.fsencode(path.name))] == []


def test_a_copy_gives_up_where_the_box_stays_away_and_the_next_one_goes_on(copying: Copying) -> None:
    (copying.work / "f").write_bytes(BIG)
    copying.seen = Cutting(copying.server, at=[4_000_000])

    def refuse(number: int) -> None:
        if copying.seen.sent > 4_000_000:
            raise ConnectionError

    copying.server.before_each = refuse
    with pytest.raises(SshFailure):
        copying.copy("f", "copied", to_box=False)
    first = copying.seen.sent
    copying.server.before_each = lambda _number: None
    copying.seen = Seen()
    done = copying.copy("f", "copied", to_box=False)
    assert Path("copied").read_bytes() == BIG
    assert done == Copied(files=1, bytes=len(BIG) - first, kept_bytes=first)


def test_a_tree_with_any_names_arrives_both_ways(copying: Copying) -> None:
    for name in (b"a b", b"two\nlines", b"\xff", b"-n", b"~"):
        Path("d").mkdir(exist_ok=True)
        Path(os.fsdecode(b"d/" + name)).write_bytes(name)
    copying.copy("d", "there", to_box=True)
    copying.copy("there", "back", to_box=False)
    assert tree(Path("d")) == tree(copying.work / "there") == tree(Path("back"))


def test_a_download_gets_its_own_name_here_or_the_one_that_is_given(copying: Copying) -> None:
    (copying.work / "out").mkdir()
    (copying.work / "out" / "model").write_text("weights")
    for remote, local in ((b"out/model", None), (b"out", None), (b"out/model", b"named")):
        download(
            copying.copier,
            copying.place,
            remote,
            local,
            endpoint=copying.endpoint,
            clock=copying.clock,
            watcher=copying.seen,
        )
    assert sorted(tree(Path())) == [b"model", b"named", b"out", b"out/model"]
    with pytest.raises(PlaceFailure, match="no such file or directory") as failed:
        download(
            copying.copier,
            copying.place,
            b"none",
            None,
            endpoint=copying.endpoint,
            clock=copying.clock,
            watcher=copying.seen,
        )
    assert failed.value.stage == "missing"

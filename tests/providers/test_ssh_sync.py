"""A tree copied over real SSH: the system's and the library's, by rsync and by our own transfer, whole and cut."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger.domain.errors import SshFailure
from ledger.domain.ports import Endpoint, Holder, Place, Workspace
from ledger.domain.syncing import SyncDone
from ledger.flows.going_on import filled
from ledger.flows.sync import Wish, copy
from providers.ssh.box import SshBox
from providers.ssh.control import end_masters
from providers.ssh.hostkeys import pin
from tests.agent.workspaces import contents, listing, no_progress, whole
from tests.flows.clock import VirtualClock
from tests.flows.world import STARTED_AT
from tests.providers.site import until
from tests.providers.sshd import LEASE, Sshd, needs_sshd, serving

pytestmark = needs_sshd
CLOCK = VirtualClock(STARTED_AT)
HOLDER = Holder(run_id=None, host="here", pid=1, purpose="sync")
MANY = 120


class Synced:
    """A local folder and syncs of it to a box behind a real server."""

    def __init__(self, folder: Path, sshd: Sshd, *, use_library: bool) -> None:
        self.root = folder / "here"
        self.there = folder / "work" / LEASE
        self.told: list[str] = []
        self.root.mkdir()
        self._place = Place(root=str(folder / "work"), lease_id=LEASE)
        self._box = SshBox(sshd.keys, use_library=use_library)
        self._endpoint: Endpoint = sshd.endpoint(host_key=sshd.host_key)

    def open(self) -> Workspace:
        return self._box.open(self._endpoint, self._place, HOLDER, wait_s=20)

    def sync(self, *, may_rsync: bool, progress: Callable[[int, int], None] = no_progress) -> SyncDone:
        with self.open() as workspace:
            return self.put(workspace, may_rsync=may_rsync, progress=progress)

    def put(self, workspace: Workspace, *, may_rsync: bool, progress: Callable[[int, int], None]) -> SyncDone:
        wish = Wish(lease_id=LEASE, scan=lambda: whole(self.root), may_rsync=may_rsync, progress=progress)
        return copy(CLOCK, wish, workspace, self.told.append)

    def arrived(self) -> int:
        """How many of the files of the root itself are in place on the box."""
        return len([path for path in self.there.iterdir() if path.name.startswith("f")])


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with serving(tmp_path / "sshd") as server:
        pin(server.keys.root / LEASE / "known_hosts", "127.0.0.1", server.port, server.host_key)
        yield server
        end_masters(server.keys.root, LEASE)


@pytest.fixture(params=["the system's ssh", "the library"])
def synced(tmp_path: Path, sshd: Sshd, request: pytest.FixtureRequest) -> Synced:
    return Synced(tmp_path, sshd, use_library=request.param == "the library")


def fill(root: Path) -> None:
    for number in range(MANY):
        folder = root / f"d{number % 7}"
        folder.mkdir(exist_ok=True)
        (folder / f"f\n{number}").write_bytes(bytes([number % 256]) * number * 100)
    (root / "empty").mkdir(mode=0o700)
    (root / "link").symlink_to("d1")
    (root / "run").write_bytes(b"#!")
    (root / "run").chmod(0o750)


@pytest.fixture(params=["our own transfer", "rsync"])
def may_rsync(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """With rsync everything goes by it here, as otherwise a large file does that has changed."""
    if request.param == "rsync":
        if shutil.which("rsync") is None:
            pytest.skip("rsync is not installed")
        monkeypatch.setattr("ledger.flows.sync.is_for_rsync", lambda entry, older: True)
    return bool(request.param == "rsync")


def test_a_tree_arrives_over_ssh_as_it_is_and_then_nothing_is_sent(synced: Synced, may_rsync: bool) -> None:
    fill(synced.root)

    first = synced.sync(may_rsync=may_rsync)
    second = synced.sync(may_rsync=may_rsync)

    assert (first.files, first.sent_files, second.changed_nothing) == (MANY + 2, MANY + 2, True)
    assert listing(synced.there) == listing(synced.root)
    assert contents(synced.there) == contents(synced.root)
    assert synced.told == []


def test_a_sync_whose_connection_is_cut_goes_on_over_another_one(synced: Synced, sshd: Sshd, may_rsync: bool) -> None:
    """Here one for each of the first two tries; what had arrived is in place and not sent again."""
    for number in range(MANY):
        (synced.root / f"f{number:03}").write_bytes(bytes([number % 256]) * 100_000)
    lost: list[str] = []

    def cut(files: int, sent_bytes: int) -> None:
        if files > 20 and len(lost) < 2:
            until(lambda: synced.arrived() > 2)  # of the last of them the box may not know yet that it is whole
            sshd.cut()

    with filled(
        synced.open,
        lambda workspace: synced.put(workspace, may_rsync=may_rsync, progress=cut),
        clock=CLOCK,
        lost=lost.append,
    ) as (_, done):
        assert (len(lost), done.files, done.overwritten) == (2, MANY, ())
    assert 0 < done.sent_files < MANY
    assert listing(synced.there) == listing(synced.root)


def test_a_connection_that_is_cut_in_the_middle_is_told_and_the_next_sync_goes_on(
    synced: Synced, sshd: Sshd, may_rsync: bool
) -> None:
    """What arrived before the cut is not sent again, and nothing of it is named as somebody else's."""
    for number in range(MANY):
        (synced.root / f"f{number:03}").write_bytes(bytes([number % 256]) * 100_000)

    def cut(files: int, sent_bytes: int) -> None:
        if files > 20:
            sshd.cut()

    with pytest.raises(SshFailure) as lost:
        synced.sync(may_rsync=may_rsync, progress=cut)
    with synced.open() as workspace:  # once the torn one has let go of the box: it may have put one more in place
        arrived = synced.arrived()
        done = synced.put(workspace, may_rsync=False, progress=no_progress)

    assert lost.value.exit_code == 7
    assert 0 < done.sent_files <= MANY
    assert done.sent_files + arrived in (MANY, MANY + 1)
    assert done.overwritten == ()
    assert listing(synced.there) == listing(synced.root)

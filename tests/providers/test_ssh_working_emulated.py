"""Work on the emulator's boxes, as every test of the command line does it."""

import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from ledger.domain.ports import Place
from providers.emulator.serve import Emulator
from providers.ssh.box import SshBox
from providers.ssh.control import answers, socket_path
from tests.providers.site import HOLDER, WAIT_S, Seen, ended, fed, shell
from tests.providers.sshd import LEASE
from tests.providers.test_ssh_proof_odd import EmulatedBox


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatedBox]:
    boxes = tmp_path / "boxes"
    boxes.mkdir()
    short = tempfile.mkdtemp(prefix="rr-", dir="/tmp")
    monkeypatch.setenv("XDG_RUNTIME_DIR", short)
    with Emulator(boxes, started_at=datetime(2026, 8, 21, 12, tzinfo=UTC)) as emulator:
        box = EmulatedBox(emulator, tmp_path, "own-key")
        yield box
        box.keys.destroy(LEASE)
    shutil.rmtree(short)


@pytest.mark.parametrize("use_library", [False, True], ids=["system", "library"])
def test_a_job_gets_its_input_and_gives_its_outputs_and_code(box: EmulatedBox, use_library: bool) -> None:
    if not use_library and shutil.which("ssh") is None:
        pytest.skip("needs ssh")
    work = SshBox(box.keys, use_library=use_library)
    facts = work.check(box.endpoint, ports=(box.endpoint.port,))
    endpoint = replace(box.endpoint, host_key=facts.host_key)
    for number in (1, 2):
        seen = Seen()
        with fed(b"given\n") as stdin:
            place = Place(root="~/work", lease_id=LEASE)
            with work.open(endpoint, place, HOLDER, wait_s=WAIT_S) as workspace:
                job = shell(f"run_{number}", "cat; echo err >&2; exit 3", stdin=stdin)
                running = workspace.start(job, seen.out, seen.err)
            assert replace(running.wait(WAIT_S), duration_ms=0) == ended(3, 6, 4)
        assert (bytes(seen.stdout), bytes(seen.stderr)) == (b"given\n", b"err\n")
    assert answers(socket_path(endpoint, box.keys.root) or "") is not use_library

"""The program against servers that we did not write for it: another fal and a stock OpenSSH."""

import getpass
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.endtoend.independent_fal import KEY, IndependentFal
from tests.providers.sshd import needs_sshd, serving

MAIN = "import sys; from cli.main import main; sys.exit(main())"


@pytest.fixture
def fal(tmp_path: Path) -> Iterator[IndependentFal]:
    authorized_keys = tmp_path / "authorized_keys"
    authorized_keys.touch(mode=0o600)
    with IndependentFal(authorized_keys) as server:
        yield server


@needs_sshd
def test_run_works_against_another_fal_and_a_stock_openssh_server(fal: IndependentFal, tmp_path: Path) -> None:
    """Both streams and the remote code come back, the box is given back, and the ledger tells each step."""
    with serving(tmp_path / "sshd", f"AuthorizedKeysFile {fal.authorized_keys}") as sshd:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RENTROLL_", "FAL_"))},
            "RENTROLL_STATE_DIR": str(tmp_path / "state"),
            "RENTROLL_FAL_API_URL": fal.url,
            "RENTROLL_FAL_KEY": KEY,
            "RENTROLL_FAL_SSH_PORT": str(sshd.port),
            "RENTROLL_FAL_USER": getpass.getuser(),
            "RENTROLL_FAL_WORK_ROOT": str(tmp_path / "jobs"),
            "RENTROLL_FAL_POLL_INTERVAL": "0.05",
        }

        def rentroll(*words: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-c", MAIN, *words], env=environment, check=False, capture_output=True, text=True
            )

        ran = rentroll("run", "--no-sync", "--", "sh", "-c", "echo out; echo err >&2; pwd >&2; exit 7")
        listed = json.loads(rentroll("list", "--all", "--json").stdout)["leases"]
        events = [json.loads(line) for line in rentroll("events", "--jsonl").stdout.splitlines()]
        verified = rentroll("verify")

    (lease,) = listed
    assert (ran.returncode, ran.stdout) == (7, "out\n")
    assert f"err\n{tmp_path}/jobs/{lease['lease_id']}\n" in ran.stderr
    assert [event["type"] for event in events] == [
        "create-requested",
        "create-sent",
        "instance-id-bound",
        "ready",
        "run-started",
        "run-finished",
        "delete-requested",
        "delete-accepted",
        "deletion-confirmed",
        "released",
    ]
    assert (lease["phase"], lease["outcome"], lease["instance_id"]) == ("released", "completed", "box-1")
    assert fal.instances == {}
    assert [method for method, _ in fal.calls if method != "GET"] == ["POST", "DELETE"]
    assert not (tmp_path / "state" / "keys" / lease["lease_id"]).exists()
    assert verified.returncode == 0

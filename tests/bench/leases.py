"""`rentroll warmup` against a shell script that does the same with curl and ssh, on one served emulator."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.bench.report import Result, at_most
from tests.bench.served import emulator
from tests.bench.timing import process_s, ratios

SCRIPT = Path(__file__).parent / "lease.sh"
TOOLS = ("curl", "ssh", "ssh-keygen")
BOOT_S = 1.0
POLL_S = 0.1
GOAL = at_most(3.0)
NAME = f"warmup less its boot, polls every {POLL_S:g} s"


def results(app: Path, folder: Path, environment: Mapping[str, str], rounds: int) -> Iterator[Result]:
    """Both as whole processes, less the time that the emulated box takes to boot."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        yield Result(NAME, GOAL, None, f"{', '.join(missing)} missing")
        return
    rentroll = str(app / "bin" / "rentroll")
    state = {**environment, "RENTROLL_STATE_DIR": str(folder / "leases")}
    serve = [rentroll, "emulator", "serve", "--json", "--boot", f"{BOOT_S:g}s"]
    with emulator(serve, state) as served:
        ours = {**state, **served, "RENTROLL_FAL_POLL_INTERVAL": f"{POLL_S:g}"}

        def warmup() -> float:
            elapsed_s = process_s([rentroll, "warmup"], ours)
            subprocess.run([rentroll, "stop", "--all"], env=ours, check=True, capture_output=True)
            return elapsed_s - BOOT_S

        def by_hand() -> float:
            with tempfile.TemporaryDirectory(dir=folder) as here:
                shell = {**environment, **served, "FOLDER": here, "POLL_S": f"{POLL_S:g}"}
                elapsed_s = process_s(["sh", str(SCRIPT)], shell)
                _delete(shell, Path(here, "id").read_text(encoding="ascii").strip())
            return elapsed_s - BOOT_S

        yield Result(NAME, GOAL, ratios(warmup, by_hand, rounds=rounds))


def _delete(environment: Mapping[str, str], instance_id: str) -> None:
    url = f"{environment['RENTROLL_FAL_API_URL']}/compute/instances/{instance_id}"
    header = f"Authorization: Key {environment['RENTROLL_FAL_KEY']}"
    subprocess.run(["curl", "--silent", "--fail", "-X", "DELETE", "-H", header, url], check=True, capture_output=True)

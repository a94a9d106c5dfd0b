"""Holds the emulator against fal's own OpenAPI document with schemathesis (the dependency group `conformance`).

    python tests/providers/conformance.py PATH-TO-OPENAPI.json [SCHEMATHESIS OPTIONS]

Not collected by pytest: the document is not part of the repository. Exits with schemathesis' own code.
"""

import copy
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from providers.emulator.machines import Settings
from providers.emulator.serve import Emulator

_STARTED_AT = datetime(2026, 8, 21, tzinfo=UTC)
_PATHS = ("/compute/instances", "/compute/instances/{id}", "/account/billing")


def narrowed(document: dict[str, Any]) -> dict[str, Any]:
    """The part of the document that the emulator serves, with what its prose says and its schemas do not.

    A sector is only valid with the 8x type; a cursor comes from an earlier page; a key is not blank. A list with
    a bad `limit` or `cursor` is answered 400, as the document's other calls are: it lists no such answer.
    """
    document = copy.deepcopy(document)
    document["paths"] = {path: document["paths"][path] for path in _PATHS}
    calls = document["paths"]["/compute/instances"]
    cursor = next(parameter for parameter in calls["get"]["parameters"] if parameter["name"] == "cursor")
    cursor["schema"] = {"type": "string", "enum": ["MQ==", "Mg=="]}
    calls["get"]["responses"]["400"] = calls["post"]["responses"]["400"]
    body = calls["post"]["requestBody"]["content"]["application/json"]
    body["schema"]["properties"]["ssh_key"]["pattern"] = r"\S"
    single = copy.deepcopy(body["schema"])
    single["properties"]["instance_type"]["enum"] = ["gpu_1x_h100_sxm5"]
    single["properties"]["sector"] = False
    body["schema"]["properties"]["instance_type"]["enum"] = ["gpu_8x_h100_sxm5"]
    body["schema"] = {"anyOf": [body["schema"], single]}
    return document


def main(document: Path, options: list[str]) -> int:
    """Runs every check of schemathesis over the served calls; gives its exit code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        boxes = folder / "boxes"
        boxes.mkdir()
        served = folder / "openapi.json"
        served.write_text(json.dumps(narrowed(json.loads(document.read_text()))))
        settings = Settings(
            # The calls are held against the document, not the boxes: nothing ever boots, and there is room.
            boot_s=1e6,
            addresses=tuple(f"127.1.{n // 250}.{n % 250 + 1}" for n in range(60_000)),
            # schemathesis expects a 404 at once after a delete, and sends one example key with many bodies.
            delete_s=0.0,
            idempotency_s=0.0,
        )
        with Emulator(boxes, started_at=_STARTED_AT, settings=settings) as emulator:
            command = [
                *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
                *("run", str(served), "--url", emulator.url, "--checks", "all"),
                *("--header", f"Authorization:Key {emulator.key}", *options),
            ]
            return subprocess.run(command, cwd=folder, check=False).returncode


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))

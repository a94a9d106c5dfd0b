"""One emulated box by itself."""

import asyncio
import gc
import socket
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from providers.emulator.box import Box
from providers.emulator.machines import InstanceView

READY = InstanceView(
    id="inst_1",
    account="team",
    instance_type="gpu_1x_h100_sxm5",
    public_key=None,
    created_at=datetime(2026, 8, 21, tzinfo=UTC),
    deleted_at=None,
    status="ready",
    ip="127.0.0.1",
    address_index=1,
    sector=None,
    shown=True,
    ssh_policy="own-key",
    authorized_keys=None,
)


@pytest.mark.parametrize("turns", range(7))
def test_a_connection_that_is_just_being_accepted_ends_with_the_box(tmp_path: Path, turns: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    async def stopped_meanwhile() -> bytes:
        box = Box(READY, folder=tmp_path / "box", user="ubuntu")
        await box.start(port)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            for _ in range(turns):
                await asyncio.sleep(0)
            await box.stop()
            said = b""
            with suppress(ConnectionResetError):
                while chunk := client.recv(4096):
                    said += chunk
        return said

    said = asyncio.run(stopped_meanwhile())
    gc.collect()  # what the loop left open would warn of itself, which is an error here

    assert said.partition(b"-")[0] in (b"", b"SSH")

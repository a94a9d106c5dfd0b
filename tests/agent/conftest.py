"""What the agent's tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.client import Place, place


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Place]:
    """An empty box."""
    with place(tmp_path) as empty:
        yield empty

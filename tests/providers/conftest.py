"""A server that plays fal's part, and a client of it."""

from collections.abc import Iterator

import pytest

from providers.fal.client import FalClient
from tests.providers.fal_server import FalServer, client_of, running


@pytest.fixture
def server() -> Iterator[FalServer]:
    with running() as running_server:
        yield running_server


@pytest.fixture
def client(server: FalServer) -> Iterator[FalClient]:
    with client_of(server) as made:
        yield made

"""A server that plays fal's part, and a client of it; git repositories."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from providers.fal.client import FalClient
from tests.providers.fal_server import FalServer, client_of, running
from tests.providers.gitrepo import GitRepo


@pytest.fixture
def server() -> Iterator[FalServer]:
    with running() as running_server:
        yield running_server


@pytest.fixture
def client(server: FalServer) -> Iterator[FalClient]:
    with client_of(server) as made:
        yield made


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GitRepo:
    """A git repository, apart from whatever the machine's git is set to."""
    if shutil.which("git") is None:
        pytest.skip("a repository is made with git, which is not on this machine")
    config = tmp_path / "gitconfig"
    config.write_text('[user]\n\tname = n\n\temail = n@example.com\n[protocol "file"]\n\tallow = always\n')
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return GitRepo(tmp_path / "repo")

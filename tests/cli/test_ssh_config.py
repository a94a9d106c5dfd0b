"""`ssh-config`: the blocks that plain ssh, rsync and editors read."""

import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from providers.emulator.serve import Emulator
from tests.cli.running import Rentroll

needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh on this machine")
needs_rsync = pytest.mark.skipif(shutil.which("rsync") is None, reason="there is no rsync on this machine")


def block(lease: Any, name: str) -> str:
    keys = Path(lease["ssh"]["key_path"]).parent
    return "".join(
        line + "\n"
        for line in (
            f"Host {name}",
            f"  HostName {lease['ssh']['host']}",
            f"  Port {lease['ssh']['port']}",
            "  User ubuntu",
            f'  IdentityFile "{keys}/id_ed25519"',
            "  IdentitiesOnly yes",
            "  IdentityAgent none",
            "  PreferredAuthentications publickey",
            "  PasswordAuthentication no",
            "  KbdInteractiveAuthentication no",
            f'  UserKnownHostsFile "{keys}/known_hosts"',
            "  GlobalKnownHostsFile /dev/null",
            "  StrictHostKeyChecking yes",
            "  HashKnownHosts no",
            "  UpdateHostKeys no",
            "  ConnectTimeout 15",
            "  ServerAliveInterval 30",
            "  ForwardAgent no",
        )
    )


def written(rentroll: Rentroll) -> Path:
    path = Path(rentroll("ssh-config", "--write", "--json").json["path"])
    assert path == Path(os.environ["RENTROLL_STATE_DIR"]) / "ssh_config"
    return path


def through(config: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """The system's ssh with a user's file that includes ours; a person's own settings come after it."""
    users = config.with_name("users_config")
    users.write_text(f"Include {config}\nHost *\n  StrictHostKeyChecking no\n  User nobody\n")
    line = ["ssh", "-F", str(users), *words]
    return subprocess.run(line, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=30)


def test_every_ready_lease_is_a_host_with_its_own_key_and_its_pinned_host_key(rentroll: Rentroll, box: Any) -> None:
    other = rentroll("warmup", "--slug", "other", "--json").json
    assert rentroll("ssh-config").out == f"{block(other, 'rentroll-other')}\n{block(box, 'rentroll-box')}\n"
    assert rentroll("ssh-config", "box").out == f"{block(box, 'rentroll-box')}\n"


def test_the_file_is_the_owners_alone_and_the_line_to_include_it_is_the_result(rentroll: Rentroll, box: Any) -> None:
    path = Path(os.environ["RENTROLL_STATE_DIR"]) / "ssh_config"
    ran = rentroll("ssh-config", "--write")
    assert (ran.code, ran.out) == (0, f"Include {path}\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    heading, _, blocks = path.read_text().partition("\n\n")
    assert (heading[0], blocks) == ("#", block(box, "rentroll-box"))


def test_a_box_that_was_given_back_is_gone_at_the_next_write(rentroll: Rentroll, box: Any) -> None:
    assert "Host rentroll-box" in written(rentroll).read_text()
    rentroll("stop", "box")
    assert "Host" not in written(rentroll).read_text()


def test_json_names_the_hosts_and_no_file_where_none_was_written(rentroll: Rentroll, box: Any) -> None:
    host = {
        "host": "rentroll-box",
        "lease_id": box["lease_id"],
        "slug": "box",
        "address": box["ssh"]["host"],
        "port": box["ssh"]["port"],
        "user": "ubuntu",
    }
    assert rentroll("ssh-config", "--json").json == {"schema": "rentroll.ssh-config/1", "path": None, "hosts": [host]}


def test_a_released_lease_and_a_write_for_some_leases_are_refused(rentroll: Rentroll, box: Any) -> None:
    assert rentroll("ssh-config", "box", "--write").code == 2
    rentroll("stop", "box")
    assert rentroll("ssh-config", box["lease_id"]).code == 4


@needs_ssh
def test_plain_ssh_reaches_the_box_by_its_name(rentroll: Rentroll, box: Any) -> None:
    """The user's own rules for every host neither weaken ours nor change the login."""
    done = through(written(rentroll), "rentroll-box", "id -un >/dev/null; echo reached")
    assert (done.returncode, done.stdout) == (0, "reached\n")


@needs_ssh
def test_plain_ssh_refuses_another_host_key(rentroll: Rentroll, box: Any, emulator: Emulator) -> None:
    config = written(rentroll)
    emulator.rekey(box["instance_id"])
    done = through(config, "rentroll-box", "true")
    assert (done.returncode, "HOST IDENTIFICATION HAS CHANGED" in done.stderr) == (255, True)


@needs_ssh
@needs_rsync
def test_rsync_copies_both_ways_by_the_name(rentroll: Rentroll, box: Any, tmp_path: Path) -> None:
    shell = f"ssh -F {written(rentroll)}"
    (tmp_path / "to go").write_text("cargo")
    for source, target in ((str(tmp_path / "to go"), "rentroll-box:there"), ("rentroll-box:there", f"{tmp_path}/back")):
        subprocess.run(["rsync", "-a", "-e", shell, source, target], check=True, timeout=30)
    assert (tmp_path / "back").read_text() == "cargo"

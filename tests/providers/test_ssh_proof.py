"""The key proof against the system's own sshd, and against the emulator's boxes."""

import getpass
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.domain.ports import Box, Endpoint, Probe
from providers.ssh.box import SshBox
from providers.ssh.handshake import Limits
from providers.ssh.hostkeys import fingerprint
from providers.ssh.keys import LeaseKeys, known_hosts_path, public_key_path
from providers.ssh.proof import probe
from tests.providers.sshd import LEASE, Sshd, keygen, needs_sshd, serving

OTHER = "rl_" + "z" * 20
HELD = "the lease's key is accepted and decoys are not; authorized_keys holds it"
UNREAD = "the lease's key is accepted and decoys are not; authorized_keys could not be read"
ABSENT = "the lease's key is accepted and decoys are not; its private half is not here to look inside"
NOT_HELD = "the lease's key is accepted, and authorized_keys does not hold it"
DECOY_TOO = "a decoy key is accepted too, so that it proves nothing"


class OwnBox:
    """A box behind the system's sshd, whose login has a home of its own with the lease's key in it."""

    def __init__(self, server: Sshd, home: Path) -> None:
        self.server = server
        self.public_key = public_key_path(server.keys.root, LEASE).read_text()
        self.authorized_keys = home / ".ssh" / "authorized_keys"
        self.authorized_keys.parent.mkdir(parents=True)
        self.authorized_keys.write_text(self.public_key)

    def probe(self, *, limits: Limits | None = None, endpoint: Endpoint | None = None) -> Probe:
        box: Box = SshBox(self.server.keys, limits=limits)
        return box.probe(endpoint or self.server.endpoint(), self.public_key)

    def says(self, verdict: str, why: str) -> Probe:
        detail = f"127.0.0.1:{self.server.port}: {why}."
        return Probe(verdict=verdict, host_key=self.server.host_key, detail=detail)

    def log(self) -> list[list[str]]:
        """What became of the offers of each connection, in the server's own words."""
        said: dict[str, list[str]] = {}
        for line in self.server.log().splitlines():
            found = re.match(r"(Connection from|\w+(?= publickey for)).*? 127\.0\.0\.1 port (\d+)", line)
            if found is not None:
                said.setdefault(found[2], []).append(found[1])
        return [words[1:] for words in said.values()]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnBox]:
    with serving(tmp_path / "sshd", f"SetEnv HOME={tmp_path / 'home'}\n") as server:
        yield OwnBox(server, tmp_path / "home")


@pytest.fixture
def lent(own: OwnBox) -> OwnBox:
    """The same box asked from another machine: one that has the ledger and not the private key."""
    shutil.rmtree(own.server.keys.root)
    return own


@needs_sshd
def test_a_box_that_accepts_the_key_and_holds_it_is_ours(own: OwnBox) -> None:
    assert own.probe() == own.says("accepted", HELD)


@needs_sshd
def test_the_public_key_alone_proves_it_and_nothing_is_signed(lent: OwnBox) -> None:
    """The server's own words: every key is only tested, none is attempted, and nobody is let in."""
    assert lent.probe() == lent.says("accepted", ABSENT)
    assert lent.log() == [[], ["Failed"], ["Postponed"], ["Failed", "Failed"]]
    asked = lent.server.log().count("method publickey")
    assert (lent.server.log().count("userauth_pubkey: publickey test "), asked) == (4, 4)
    assert not lent.server.keys.root.exists()


@needs_sshd
def test_the_login_comes_before_the_last_decoys(own: OwnBox) -> None:
    """A server that counts who leaves unauthenticated (PerSourcePenalties) has met it twice after an offer by then."""
    own.probe()
    assert own.log() == [[], ["Failed"], ["Postponed"], ["Accepted"], ["Failed", "Failed"]]


@needs_sshd
def test_a_box_with_another_key_refuses_ours(own: OwnBox) -> None:
    (own.server.folder / "authorized_keys").write_text(own.server.keys.make(OTHER) + "\n")
    assert own.probe() == own.says("refused", "the lease's key is refused")


@needs_sshd
def test_a_server_that_names_no_public_key_method_is_asked_all_the_same(tmp_path: Path) -> None:
    with serving(tmp_path / "sshd", "PubkeyAuthentication no\n") as server:
        own = OwnBox(server, tmp_path / "home")
        assert own.probe() == own.says("refused", "the lease's key is refused")
        assert server.log().count("method publickey") == 2


@needs_sshd
def test_a_server_that_accepts_every_key_proves_nothing(tmp_path: Path) -> None:
    every = f"AuthorizedKeysCommand /bin/echo %t %k\nAuthorizedKeysCommandUser {getpass.getuser()}\n"
    with serving(tmp_path / "sshd", every) as server:
        own = OwnBox(server, tmp_path / "home")
        assert own.probe() == own.says("unproven", DECOY_TOO)


@needs_sshd
@pytest.mark.parametrize(
    ("content", "verdict", "why"),
    [
        ('# ours\nno-pty,command="a b" {other}\nrestrict,pty {key} comment', "accepted", HELD),
        ("{other}\n", "unproven", NOT_HELD),
        ("", "unproven", NOT_HELD),
        ("#{key}\n", "unproven", NOT_HELD),
        ("{key}\n" + "#" * 1_048_576, "accepted", UNREAD),
    ],
)
def test_what_the_box_holds_counts_where_it_can_be_read(own: OwnBox, content: str, verdict: str, why: str) -> None:
    text = content.format(key=own.public_key.strip(), other=own.server.keys.make(OTHER))
    own.authorized_keys.write_text(text)
    assert own.probe() == own.says(verdict, why)


@needs_sshd
def test_a_missing_file_is_no_evidence(own: OwnBox) -> None:
    own.authorized_keys.unlink()
    assert own.probe() == own.says("accepted", UNREAD)


@needs_sshd
def test_an_unreadable_file_is_no_evidence(own: OwnBox) -> None:
    own.authorized_keys.unlink()
    own.authorized_keys.mkdir()
    assert own.probe() == own.says("accepted", UNREAD)


@needs_sshd
def test_a_file_that_never_ends_is_given_up_in_time(own: OwnBox) -> None:
    own.authorized_keys.unlink()
    os.mkfifo(own.authorized_keys)
    assert own.probe(limits=Limits(probe_s=3.0)) == own.says("accepted", UNREAD)
    os.close(os.open(own.authorized_keys, os.O_RDWR))  # its reader waits for a writer, and ends with it


@needs_sshd
def test_a_box_that_runs_something_else_is_no_evidence(tmp_path: Path) -> None:
    with serving(tmp_path / "sshd", "ForceCommand echo hello\n") as server:
        own = OwnBox(server, tmp_path / "home")
        assert own.probe() == own.says("accepted", UNREAD)


@needs_sshd
def test_a_login_that_is_refused_after_all_proves_nothing(own: OwnBox) -> None:
    def forget(number: int) -> None:
        if number == 4:
            (own.server.folder / "authorized_keys").write_text("")

    own.server.before_each = forget
    why = "the lease's key is said to be accepted, and a login with it is refused"
    assert own.probe() == own.says("unproven", why)


@needs_sshd
def test_a_login_that_only_fails_on_the_way_is_no_answer(own: OwnBox) -> None:
    def shut_out(number: int) -> None:
        if number == 4:
            raise ConnectionError

    own.server.before_each = shut_out
    assert (own.probe().verdict, own.server.log().count("Accepted publickey")) == ("no-answer", 0)


@needs_sshd
@pytest.mark.parametrize("content", [None, b"", b"no key", b"\xff\xfe\x00"])
def test_a_lost_or_broken_private_key_is_not_at_hand(own: OwnBox, content: bytes | None) -> None:
    own.server.keys.private_path(LEASE).unlink()
    if content is not None:
        own.server.keys.private_path(LEASE).write_bytes(content)
    assert own.probe() == own.says("accepted", ABSENT)


@needs_sshd
def test_another_pairs_private_key_logs_nobody_in(own: OwnBox) -> None:
    own.server.keys.destroy(LEASE)
    own.server.keys.make(LEASE)
    found = "the lease's key is accepted and decoys are not; the private key that is here is another's"
    assert (own.probe(), ["Accepted"] in own.log()) == (own.says("accepted", found), False)


@needs_sshd
@pytest.mark.parametrize("changed", [2, 3, 4, 5])
def test_another_host_key_on_any_later_connection_is_no_answer(own: OwnBox, changed: int) -> None:
    def change(number: int) -> None:
        if number == changed:
            host_key = own.server.folder / "host_key"
            host_key.unlink()
            keygen(host_key)

    own.server.before_each = change
    detail = f"127.0.0.1:{own.server.port}: two connections were shown two host keys."
    assert own.probe() == Probe(verdict="no-answer", host_key=None, detail=detail)
    assert own.server.authentication_attempts() == changed - 1


@needs_sshd
def test_a_host_key_that_is_on_record_is_required(own: OwnBox, tmp_path: Path) -> None:
    stranger = keygen(tmp_path / "stranger")
    shown = own.server.host_key
    detail = (
        f"127.0.0.1:{own.server.port}: the host key is {fingerprint(shown)}, and {fingerprint(stranger)} was recorded."
    )
    found = own.probe(endpoint=own.server.endpoint(host_key=stranger))
    assert found == Probe(verdict="no-answer", host_key=None, detail=detail)
    assert own.server.authentication_attempts() == 0
    assert own.probe(endpoint=own.server.endpoint(host_key=f"{shown} comment")) == own.says("accepted", HELD)


@needs_sshd
def test_nothing_is_pinned_and_no_pin_is_believed(own: OwnBox, tmp_path: Path) -> None:
    pins = known_hosts_path(own.server.keys.root, LEASE)
    own.probe()
    assert not pins.exists()
    stranger = f"[127.0.0.1]:{own.server.port} {keygen(tmp_path / 'stranger')}\n"
    pins.write_text(stranger)
    assert (own.probe(), pins.read_text()) == (own.says("accepted", HELD), stranger)


@needs_sshd
@pytest.mark.parametrize("tries", [1, 2])
def test_a_server_that_hangs_up_after_a_refusal_too_many_refuses_nothing(tmp_path: Path, tries: int) -> None:
    """At its limit (MaxAuthTries) sshd disconnects without a `no`: with 1 at the first decoy, with 2 at the last."""
    with serving(tmp_path / "sshd", f"MaxAuthTries {tries}\n") as server:
        own = OwnBox(server, tmp_path / "home")
        why = f"no answer to an offer for {getpass.getuser()}: the box closed the connection"
        assert own.probe() == own.says("no-answer", why)


@needs_sshd
def test_a_key_of_another_type_is_offered_too(tmp_path: Path) -> None:
    line = keygen(tmp_path / "key", kind="rsa")
    with serving(tmp_path / "sshd") as server:
        (server.folder / "authorized_keys").write_text(line)
        found = probe(server.endpoint(), line, tmp_path / "nowhere")
    assert found.verdict == "accepted"


def test_an_address_where_nobody_listens_is_no_answer(tmp_path: Path) -> None:
    keys = LeaseKeys(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = int(taken.getsockname()[1])
        endpoint = Endpoint(lease_id=LEASE, host="127.0.0.1", port=port, user="ubuntu")
        found = SshBox(keys).probe(endpoint, keys.make(LEASE))
    detail = f"127.0.0.1:{port}: no TCP connection: connection refused."
    assert found == Probe(verdict="no-answer", host_key=None, detail=detail)


def test_an_address_that_is_none_is_no_answer(tmp_path: Path) -> None:
    keys = LeaseKeys(tmp_path)
    endpoint = Endpoint(lease_id=LEASE, host="host.invalid", port=22, user="ubuntu")
    found = SshBox(keys).probe(endpoint, keys.make(LEASE))
    assert (found.verdict, found.host_key, found.detail.split(": ")[:2]) == (
        "no-answer",
        None,
        ["host.invalid:22", "no TCP connection"],
    )


def test_a_damaged_record_of_the_key_asks_nobody(tmp_path: Path) -> None:
    endpoint = Endpoint(lease_id=LEASE, host="host.invalid", port=22, user="ubuntu")
    assert probe(endpoint, "ssh-ed25519 AAAA", tmp_path) == Probe(
        verdict="no-answer", host_key=None, detail="The public key on record is none: nothing was asked."
    )

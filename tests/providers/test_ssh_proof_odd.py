"""The key proof against servers that answer oddly, and against the boxes of the emulator."""

import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ledger.domain.ports import Endpoint, Probe
from providers.emulator.machines import SshPolicy
from providers.emulator.serve import ACCOUNT, Emulator
from providers.ssh.box import SshBox
from providers.ssh.handshake import Limits
from providers.ssh.keys import LeaseKeys, known_hosts_path
from providers.ssh.proof import probe
from tests.providers.odd_sshd import FAILURE, KEX_INIT, PK_OK, SERVICE_ACCEPT, SUCCESS, USER, OddSshd, odd_server
from tests.providers.sshd import LEASE

QUICK = Limits(probe_s=2.0)


@pytest.fixture
def server() -> Iterator[OddSshd]:
    with odd_server() as running:
        yield running


@pytest.fixture
def key(tmp_path: Path) -> str:
    return LeaseKeys(tmp_path / "elsewhere").make(LEASE)


@pytest.fixture
def ask(server: OddSshd, key: str, tmp_path: Path) -> Callable[..., Probe]:
    def ask(limits: Limits | None = None) -> Probe:
        return probe(server.endpoint(), key, tmp_path / "nowhere", limits=limits)

    return ask


def said(server: OddSshd, verdict: str, why: str) -> Probe:
    return Probe(verdict=verdict, host_key=server.host_key, detail=f"{server.where}: {why}.")


AFTER = "a decoy key is accepted after the lease's key, so that it proves nothing"


@pytest.mark.parametrize(
    ("accepts", "verdict", "why"),
    [
        (lambda number, _ours: number % 2 == 1, "unproven", "a decoy key is accepted too, so that it proves nothing"),
        (lambda number, _ours: number % 2 == 0, "unproven", AFTER),
        (lambda number, _ours: number >= 2, "unproven", AFTER),
        (lambda number, ours: ours or number == 3, "unproven", AFTER),
        (lambda number, ours: ours or number == 4, "unproven", AFTER),
        (lambda _number, _ours: False, "refused", "the lease's key is refused"),
    ],
    ids=["odd offers", "even offers", "all from the second on", "the third", "the fourth", "none"],
)
def test_a_server_that_lets_others_in_as_well_proves_nothing(
    server: OddSshd, key: str, ask: Callable[..., Probe], accepts: Callable[[int, bool], bool], verdict: str, why: str
) -> None:
    server.accepts = lambda number, line: accepts(number, line == key)
    assert ask() == said(server, verdict, why)


def test_every_decoy_is_new_and_every_question_has_its_own_connection(
    server: OddSshd, key: str, ask: Callable[..., Probe]
) -> None:
    server.accepts = lambda _number, line: line == key
    assert [ask().verdict, ask().verdict] == ["accepted", "accepted"]

    shape = [[{"none": "none", key: "ours"}.get(offer, "decoy") for offer in offers] for offers in server.offers]
    assert shape == 2 * [["none"], ["decoy"], ["ours"], ["decoy", "decoy"]]
    decoys = [offer for offers in server.offers for offer in offers if offer not in ("none", key)]
    assert (len(decoys), len(set(decoys))) == (6, 6)


def to(number: int, answer: Callable[[bytes], bytes | None]) -> Callable[[bytes], bytes | None]:
    """Answers otherwise where the server would send such a message."""
    return lambda message: answer(message) if message[0] == number else message


def hang_up(_message: bytes) -> bytes:
    raise EOFError


NONSENSE = f"no answer to an offer for {USER}: it broke the protocol of authentication"
CLOSED = f"no answer to an offer for {USER}: the box closed the connection"


@pytest.mark.parametrize(
    ("mangle", "why"),
    [
        (to(FAILURE, lambda message: message[:-1] + b"\x01"), NONSENSE),
        (to(FAILURE, lambda message: message[:1]), NONSENSE),
        (to(FAILURE, lambda message: message + b"more"), NONSENSE),
        (to(FAILURE, lambda _message: bytes([PK_OK])), NONSENSE),
        (to(SERVICE_ACCEPT, lambda _message: bytes([SUCCESS])), NONSENSE),
        (to(PK_OK, lambda message: message[:-1] + b"?"), NONSENSE),
        (to(PK_OK, lambda message: message.replace(b"ed25519", b"ED25519")), NONSENSE),
        (to(FAILURE, hang_up), CLOSED),
        (to(PK_OK, hang_up), CLOSED),
        (to(SERVICE_ACCEPT, hang_up), CLOSED),
        (to(FAILURE, lambda _message: b"\x01" + bytes(11)), CLOSED),
    ],
    ids=[
        *("half a success", "cut short", "too long", "a key for none", "let in unasked", "another key"),
        *("another type", "hangs up", "hangs up on ours", "hangs up at once", "disconnects"),
    ],
)
def test_only_a_clean_failure_refuses(
    server: OddSshd, key: str, ask: Callable[..., Probe], mangle: Callable[[bytes], bytes | None], why: str
) -> None:
    server.accepts = lambda _number, line: line == key
    server.mangle = mangle
    assert ask() == said(server, "no-answer", why)


@pytest.mark.parametrize("silent", [FAILURE, PK_OK])
def test_silence_is_no_answer_and_is_waited_for_so_long_only(
    server: OddSshd, key: str, ask: Callable[..., Probe], silent: int
) -> None:
    server.accepts = lambda _number, line: line == key
    server.mangle = to(silent, lambda _message: None)
    why = f"no answer to an offer for {USER}: no answer in time"
    begun = time.monotonic()
    assert ask(QUICK) == said(server, "no-answer", why)
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("answer", "why"),
    [(hang_up, "the box closed the connection"), (lambda _message: None, "no answer in time")],
    ids=["hangs up", "silent"],
)
def test_a_login_without_an_answer_is_no_refusal(
    server: OddSshd, key: str, tmp_path: Path, answer: Callable[[bytes], bytes | None], why: str
) -> None:
    server.accepts = lambda _number, line: line == key
    server.mangle = to(SUCCESS, answer)
    begun = time.monotonic()
    found = probe(server.endpoint(), key, tmp_path / "elsewhere", limits=QUICK)
    assert found == said(server, "no-answer", f"{USER} was not let in with the lease's key: {why}")
    assert time.monotonic() - begun < 10


def test_a_server_that_lets_the_key_in_without_a_signature_proves_nothing(
    server: OddSshd, key: str, ask: Callable[..., Probe]
) -> None:
    server.accepts = lambda _number, line: line == key
    server.mangle = to(PK_OK, lambda _message: bytes([SUCCESS]))
    why = "the lease's key is let in without its signature, so that it proves nothing"
    assert ask() == said(server, "unproven", why)


def test_a_server_that_breaks_the_handshake_is_no_answer(server: OddSshd, ask: Callable[..., Probe]) -> None:
    """What breaks paramiko's parser comes out as a fault of the box like any other."""
    server.mangle = to(KEX_INIT, lambda message: message[:17] + b"\0\0\0\1\xff" + message[22:])
    why = f"{server.where}: no host key: the other side broke the protocol."
    assert ask() == Probe(verdict="no-answer", host_key=None, detail=why)


class EmulatedBox:
    """A box of the emulator, and the machine that made the lease."""

    def __init__(self, emulator: Emulator, folder: Path, policy: SshPolicy, authorized_keys: str | None = None) -> None:
        self.keys = LeaseKeys(folder / "keys")
        public_key = self.public_key = self.keys.make(LEASE)
        self.instance_id = emulator.change(
            lambda state, now: state.add_instance(
                ACCOUNT, now, public_key=public_key, ssh_policy=policy, authorized_keys=authorized_keys
            )
        )
        host = emulator.instances()[0].ip or ""
        self.endpoint = Endpoint(lease_id=LEASE, host=host, port=emulator.ssh_port, user=USER)

    def probe(self) -> tuple[str, str]:
        """The verdict and why."""
        found = SshBox(self.keys).probe(self.endpoint, self.public_key)
        where = f"{self.endpoint.host}:{self.endpoint.port}: "
        return found.verdict, found.detail.removeprefix(where)


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    boxes = tmp_path / "boxes"
    boxes.mkdir()
    with Emulator(boxes, started_at=datetime(2026, 8, 21, 12, tzinfo=UTC)) as running:
        yield running


ANYBODY = ("unproven", f"{USER} is let in without any key, so that it proves nothing.")
VERDICTS: dict[SshPolicy, tuple[str, str]] = {
    "own-key": ("accepted", "the lease's key is accepted and decoys are not; authorized_keys holds it."),
    "every-key": ("unproven", "a decoy key is accepted too, so that it proves nothing."),
    "no-key": ("refused", "the lease's key is refused."),
    "anybody": ANYBODY,
}


@pytest.mark.parametrize("policy", VERDICTS)
def test_each_kind_of_emulated_box_has_its_verdict(emulator: Emulator, tmp_path: Path, policy: SshPolicy) -> None:
    box = EmulatedBox(emulator, tmp_path, policy)
    assert box.probe() == VERDICTS[policy]
    assert not known_hosts_path(box.keys.root, LEASE).exists()


def test_a_running_box_changes_whom_it_lets_in(emulator: Emulator, tmp_path: Path) -> None:
    box = EmulatedBox(emulator, tmp_path, "own-key")
    before = box.probe()
    emulator.change(lambda state, _now: state.set_ssh_policy(box.instance_id, "anybody"))
    assert (before, box.probe()) == (VERDICTS["own-key"], ANYBODY)


@pytest.mark.parametrize("content", ["", "somebody else's\n"])
def test_an_emulated_box_may_hold_something_else(emulator: Emulator, tmp_path: Path, content: str) -> None:
    box = EmulatedBox(emulator, tmp_path, "own-key", content)
    assert box.probe() == ("unproven", "the lease's key is accepted, and authorized_keys does not hold it.")
    shutil.rmtree(box.keys.root)
    assert box.probe()[0] == "accepted"


def test_another_box_at_the_address_shows_another_host_key_from_then_on(emulator: Emulator, tmp_path: Path) -> None:
    box = EmulatedBox(emulator, tmp_path, "own-key")
    first = SshBox(box.keys).probe(box.endpoint, box.public_key).host_key
    emulator.rekey(box.instance_id)
    second = SshBox(box.keys).probe(box.endpoint, box.public_key).host_key
    assert first is not None
    assert second not in (None, first)

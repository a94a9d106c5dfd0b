"""The key proof: is a box ours, because its SSH server accepts a public key that was put in no other create?

The public key is enough to ask. Every question has a connection of its own, all of them under one host key, and a
server that lets others in as well proves nothing. Only two connections before the last leave unauthenticated after an
offer: since version 9.8 an OpenSSH server shuts out for a while whoever did so three times (sshd_config(5),
PerSourcePenalties).
"""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

from msgspec.structs import replace

from ledger.domain.errors import SshFailure
from ledger.domain.ports import Endpoint, Probe, RemoteCommand
from providers.ssh.connection import Connection, KeyRefused, log_in, private_key
from providers.ssh.handshake import Limits, Server, shake_hands
from providers.ssh.hostkeys import HostKeyChanged, without_comment
from providers.ssh.offers import Answer, Offers
from providers.ssh.publickeys import PublicKey, decoy, is_listed

_BEGIN, _END = "rentroll-keys-begin", "rentroll-keys-end"
_READ_LINE = f"echo {_BEGIN}; cat ~/.ssh/authorized_keys && echo && echo {_END}"
_READ = re.compile(rf"{_BEGIN}\n(.*)\n{_END}\n", re.DOTALL)
_READ_LIMIT_BYTES = 1_048_576


def probe(endpoint: Endpoint, public_key: str, keys_root: Path, *, limits: Limits | None = None) -> Probe:
    """Asks whether the server at the endpoint accepts the lease's public key and no other.

    `keys_root` is the folder of all leases' keys, where the private key may be: then a login looks for the key in the
    box's authorized_keys too. Nothing is pinned; a host key that the endpoint names is required. No fault of the box
    or of the way to it raises; UsageFailure for a bad lease id.
    """
    try:
        key = PublicKey.parse(public_key)
    except ValueError:
        return Probe(verdict="no-answer", host_key=None, detail="The public key on record is none: nothing was asked.")
    proof = _Proof(endpoint, key, keys_root, limits or Limits())
    try:
        verdict, why = proof.verdict()
    except SshFailure as failure:
        return Probe(verdict="no-answer", host_key=proof.host_key, detail=failure.message)
    return Probe(verdict=verdict, host_key=proof.host_key, detail=f"{endpoint.host}:{endpoint.port}: {why}.")


class _Proof:
    """One proof. `host_key` is what every connection so far has shown, None before the first and after a change."""

    def __init__(self, endpoint: Endpoint, key: PublicKey, keys_root: Path, limits: Limits) -> None:
        self.host_key: str | None = None
        self._endpoint = endpoint
        self._key = key
        self._keys_root = keys_root
        self._limits = limits

    def verdict(self) -> tuple[str, str]:
        """The verdict and why. Raises SshFailure where the server does not answer as it should."""
        if self._ask(Offers.none) is not Answer.REFUSED:
            return "unproven", f"{self._endpoint.user} is let in without any key, so that it proves nothing"
        if self._ask(_a_decoy) is not Answer.REFUSED:
            return "unproven", "a decoy key is accepted too, so that it proves nothing"
        answer = self._ask(lambda offers: offers.key(self._key))
        if answer is Answer.REFUSED:
            return "refused", "the lease's key is refused"
        if answer is Answer.LET_IN:
            return "unproven", "the lease's key is let in without its signature, so that it proves nothing"
        looks_ours, finding = self._look_inside()
        if not looks_ours:
            return "unproven", finding
        # Two, since one alone may have the luck of a server that lets in every second key.
        if self._ask(_a_decoy, _a_decoy) is not Answer.REFUSED:
            return "unproven", "a decoy key is accepted after the lease's key, so that it proves nothing"
        return "accepted", f"the lease's key is accepted and decoys are not; {finding}"

    def _ask(self, *questions: Callable[[Offers], Answer]) -> Answer:
        """The first answer to the questions that is no refusal, on one connection."""
        with self._connection() as (server, left_s):
            offers = Offers(server, self._endpoint.user, left_s=left_s)
            answers = (question(offers) for question in questions)
            return next((answer for answer in answers if answer is not Answer.REFUSED), Answer.REFUSED)

    def _look_inside(self) -> tuple[bool, str]:
        """Whether what a login finds speaks for the box, and what it is. Where none can be made nothing speaks
        against it."""
        try:
            private = private_key(self._endpoint, self._keys_root)
        except SshFailure:
            return True, "its private half is not here to look inside"
        if PublicKey(private.get_name(), private.asbytes()) != self._key:
            return True, "the private key that is here is another's"
        with self._connection() as (server, left_s):
            limits = replace(self._limits, authentication_s=max(0.0, left_s()))
            try:
                connection = log_in(server, self._endpoint.user, private, limits=limits)
            except KeyRefused:
                return False, "the lease's key is said to be accepted, and a login with it is refused"
            with connection:
                authorized_keys = _authorized_keys(connection, max(0.0, left_s()))
        if authorized_keys is None:
            return True, "authorized_keys could not be read"
        if is_listed(self._key, authorized_keys):
            return True, "authorized_keys holds it"
        return False, "the lease's key is accepted, and authorized_keys does not hold it"

    @contextlib.contextmanager
    def _connection(self) -> Iterator[tuple[Server, Callable[[], float]]]:
        """A connection of its own, and how many seconds it still has."""
        end_s = monotonic() + self._limits.probe_s
        half_s = self._limits.probe_s / 2
        limits = replace(
            self._limits, tcp_s=min(self._limits.tcp_s, half_s), handshake_s=min(self._limits.handshake_s, half_s)
        )
        recorded = self._endpoint.host_key
        expected = self.host_key or (None if recorded is None else without_comment(recorded))
        try:
            server = shake_hands(self._endpoint, expected=expected, limits=limits)
        except HostKeyChanged as changed:
            if self.host_key is None:
                raise
            self.host_key = None
            where = f"{self._endpoint.host}:{self._endpoint.port}"
            raise SshFailure(f"{where}: two connections were shown two host keys.", stage="host-key") from changed
        with server:
            self.host_key = server.host_key
            yield server, lambda: end_s - monotonic()


def _a_decoy(offers: Offers) -> Answer:
    return offers.key(decoy())


def _authorized_keys(connection: Connection, left_s: float) -> str | None:
    """The text of the login's authorized_keys; None where it is missing, cannot be read, or is not whole in time."""
    said = bytearray()

    def keep(chunk: bytes) -> None:
        said.extend(chunk[: _READ_LIMIT_BYTES - len(said)])

    command = RemoteCommand(line=_READ_LINE, stdin=None, on_stdout=keep, on_stderr=lambda _chunk: None)
    # Neither a channel's opening nor a command's end has a limit as short as this.
    alarm = threading.Timer(left_s, connection.close)
    alarm.daemon = True
    alarm.start()
    try:
        with contextlib.suppress(SshFailure), connection.start(command) as session:
            session.wait()
    finally:
        alarm.cancel()
    found = _READ.search(said.decode("utf-8", "replace"))
    return None if found is None else found[1]

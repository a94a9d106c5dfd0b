"""fal's Compute API as the ledger's `Provider`: four calls and the account, under one key at one URL.

Calls, headers and shapes follow fal's OpenAPI document of 2026-08-21.
"""

import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

from ledger.domain.errors import CredentialsFailure, UsageFailure
from ledger.domain.ports import Account, CallFailed, CreateRequest, Instance, Inventory
from providers.fal import failures, wire
from providers.fal.endpoint import parse_endpoint
from providers.fal.network import Network, Sockets
from providers.fal.transport import Answer, Loss, Transport

T = TypeVar("T")

PAGE_SIZE = 100
MAX_PAGES = 100

_OK = frozenset({200})
_CREATED = frozenset({200, 201})
_DELETED = frozenset({200, 202, 204})
_INSTANCES = "/compute/instances"
_SHORTEST_SECRET_HALF = 8


class FalClient:
    """Implements `ledger.domain.ports.Provider` for fal. Connections are made late; close it, or use it in a `with`.

    `timeout_s` bounds each call in seconds, with all its redirects and pages; a call's own `timeout_s` can only shorten
    it. `now` is the clock for what is dated; `network` is what it all travels on, by default sockets. Raises
    `UsageFailure` for an URL that may not be used and `CredentialsFailure` for a key that is missing or malformed.
    """

    name = "fal"

    def __init__(
        self,
        api_url: str,
        api_key: str,
        *,
        now: Callable[[], datetime],
        timeout_s: float = 30.0,
        network: Network | None = None,
    ) -> None:
        endpoint = parse_endpoint(api_url)
        key = _checked_key(api_key)
        self.scope = endpoint.scope
        self._newest = threading.local()
        self._base_url = endpoint.base_url
        self._network = network or Sockets()
        self._transport = Transport(endpoint, self._network)
        self._now = now
        self._timeout_s = timeout_s
        self._headers = {
            "Authorization": f"Key {key}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "rentroll",
        }
        # fal's keys read `id:secret`; a server may repeat the second half alone.
        half = key.rpartition(":")[2]
        self._secrets = (key, half) if len(half) >= _SHORTEST_SECRET_HALF else (key,)

    @property
    def server_date(self) -> datetime | None:
        """The `Date` of the newest answer to this thread: recovery calls from many at a time."""
        date: datetime | None = getattr(self._newest, "date", None)
        return date

    def __repr__(self) -> str:
        return f"FalClient(scope={self.scope!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the kept connections."""
        self._transport.close()

    def create(self, request: CreateRequest, *, idempotency_key: str, timeout_s: float) -> Instance:
        """Asks for one machine, within the shorter of `timeout_s` and the client's own limit, in seconds.

        Where the answer is not complete by then, the connection is reset. Raises `CallFailed`, whose `settles` says
        whether fal refused, and `sent` whether anything can have been made at all. Raises `UsageFailure`, without any
        request, for a blank key: such a create could never be replayed.
        """
        key = idempotency_key.strip()
        if not key:
            raise UsageFailure("A create must carry an idempotency key.")
        answer = self._answer(
            "POST",
            _INSTANCES,
            body=wire.encode_create(request),
            headers={"Content-Type": "application/json", "Idempotency-Key": key},
            limit=self._limit(timeout_s),
            accept=_CREATED,
        )
        return self._decoded(answer, wire.decode_instance)

    def get(self, instance_id: str, *, timeout_s: float | None = None) -> Instance:
        """The one instance that was asked for. Raises `InstanceAbsent` where fal says that there is none.

        Raises `UsageFailure`, without any request, for an id that is not one.
        """
        path = _instance_path(instance_id)
        answer = self._answer("GET", path, limit=self._limit(timeout_s), accept=_OK, names_instance=True)
        instance = self._decoded(answer, wire.decode_instance)
        if instance.id != instance_id:
            raise failures.undecodable(answer, "it names another instance", secrets=self._secrets)
        return instance

    def inventory(self, *, timeout_s: float | None = None) -> Inventory:
        """Every instance of the account, or `CallFailed`: a part of them would read as absence.

        The limit is for all pages together.
        """
        limit = self._limit(timeout_s)
        begun_at = self._now()
        found: dict[str, Instance] = {}
        cursors: set[str] = set()
        query = f"?limit={PAGE_SIZE}"
        for _ in range(MAX_PAGES):
            answer = self._answer("GET", f"{_INSTANCES}{query}", limit=limit, accept=_OK)
            page = self._decoded(answer, wire.decode_page)
            found |= {instance.id: instance for instance in page.instances}
            if not page.next_cursor:
                return Inventory(begun_at=begun_at, instances=tuple(found[key] for key in sorted(found)))
            if page.next_cursor in cursors:
                raise failures.undecodable(answer, "its cursor was there before", secrets=self._secrets)
            cursors.add(page.next_cursor)
            query = f"?limit={PAGE_SIZE}&cursor={quote(page.next_cursor, safe='')}"
        raise CallFailed(f"fal's inventory has more than {MAX_PAGES} pages of {PAGE_SIZE}", answered=True)

    def delete(self, instance_id: str, *, timeout_s: float | None = None) -> None:
        """Gives the machine back; irreversible. Raises `InstanceAbsent` where fal says that there is none."""
        path = _instance_path(instance_id)
        self._answer("DELETE", path, limit=self._limit(timeout_s), accept=_DELETED, names_instance=True)

    def account(self, *, timeout_s: float | None = None) -> Account:
        """The account's name and credits. Raises `KeyRejected` where this key may not read them."""
        answer = self._answer("GET", "/account/billing?expand=credits", limit=self._limit(timeout_s), accept=_OK)
        return self._decoded(answer, wire.decode_account)

    def _limit(self, timeout_s: float | None) -> "_Limit":
        return _Limit(self._timeout_s if timeout_s is None else min(timeout_s, self._timeout_s), self._network)

    def _answer(
        self,
        method: str,
        path: str,
        *,
        limit: "_Limit",
        accept: frozenset[int],
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        names_instance: bool = False,
    ) -> Answer:
        outcome = self._transport.call(
            method,
            self._base_url + path,
            headers={**self._headers, **(headers or {})},
            body=body,
            timeout_s=limit.left_s(),
        )
        self._newest.date = None
        if isinstance(outcome, Loss):
            raise failures.from_loss(outcome, timeout_s=limit.timeout_s, secrets=self._secrets)
        self._newest.date = failures.http_date(outcome.date)
        if outcome.status not in accept:
            raise failures.from_answer(outcome, secrets=self._secrets, now=self._now(), names_instance=names_instance)
        return outcome

    def _decoded(self, answer: Answer, decode: Callable[[bytes], T]) -> T:
        try:
            return decode(answer.body)
        except wire.Undecodable as error:
            problem = str(error)
        raise failures.undecodable(answer, problem, secrets=self._secrets)


class _Limit:
    """The time that one call has, from now on, in seconds: its pages share it."""

    def __init__(self, timeout_s: float, network: Network) -> None:
        self.timeout_s = timeout_s
        self._network = network
        self._ends_s = network.monotonic_s() + timeout_s

    def left_s(self) -> float:
        return self._ends_s - self._network.monotonic_s()


def _checked_key(api_key: str) -> str:
    key = api_key.strip()
    if not key:
        raise CredentialsFailure("The fal API key is missing.")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise CredentialsFailure("The fal API key holds characters that no key has.")
    return key


def _instance_path(instance_id: str) -> str:
    """The path of one instance; never the collection's, whatever the id."""
    usable = instance_id.strip() not in {"", ".", ".."} and not any(
        "\ud800" <= char <= "\udfff" for char in instance_id
    )
    if not usable:
        raise UsageFailure("An instance id must not be blank, a path, or undecodable.")
    return f"{_INSTANCES}/{quote(instance_id, safe='')}"

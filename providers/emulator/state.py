"""fal's Compute API as pure state: a request and the time go in, an answer comes out, and nothing else happens.

No I/O, no clock, no randomness: the same calls at the same times give the same answers. What fal documents is
from its OpenAPI document of 2026-08-21; what the emulator assumes beyond it is listed in `docs/emulator.md`.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from providers.emulator import requests
from providers.emulator.accounts import Account, Accounts, Permissions
from providers.emulator.distortion import distort
from providers.emulator.faults import (
    Defer,
    DropBefore,
    Effect,
    Fault,
    FaultScript,
    Hide,
    IgnoreDelete,
    LateVisible,
    Linger,
    Stale,
    Status,
)
from providers.emulator.journal import Journal
from providers.emulator.machines import InstanceView, Machine, Settings, SshPolicy
from providers.emulator.messages import JournalEntry, Request, Response
from providers.emulator.registry import NoCapacity, Registry
from providers.emulator.requests import Refused, Route

_E = TypeVar("_E", bound=Effect)
_JSON = msgspec.json.Encoder(decimal_format="number")


class _Arrival(Struct, frozen=True):
    """A request on its way through: its journal entry's number, its route and what the script does to it."""

    number: int
    request: Request
    route: Route
    effects: tuple[Effect, ...]


class _Kept(Struct, frozen=True):
    """A create's answer, kept under its idempotency key from `at` on."""

    at: datetime
    body: requests.CreateBody
    response: Response


class FalState:
    """An emulated fal: accounts, machines, the idempotency cache, the fault script and the journal.

    `seed` determines every id. Times are aware datetimes, given with each call.
    """

    def __init__(self, settings: Settings | None = None, *, seed: str = "emulator") -> None:
        self.settings = settings or Settings()
        self.accounts = Accounts()
        self.script = FaultScript()
        self._registry = Registry(self.settings, seed)
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._journal = Journal()
        self._deferred: dict[int, _Arrival] = {}

    def add_account(self, username: str, *keys: str) -> None:
        """Adds an account with default credits that accepts the given keys for everything."""
        self.accounts.add(Account(username=username))
        for key in keys:
            self.accounts.accept_key(key, Permissions(account=username))

    def add_fault(self, fault: Fault) -> None:
        """Puts a fault at the end of the script."""
        self.script.add(fault)

    def add_instance(
        self,
        account: str,
        now: datetime,
        *,
        instance_type: str = "gpu_1x_h100_sxm5",
        public_key: str | None = None,
        sector: str | None = None,
        instance_id: str | None = None,
        ready: bool = True,
        ssh_policy: SshPolicy = "own-key",
        authorized_keys: str | None = None,
    ) -> str:
        """Makes an instance that no request asked for, and gives its id. With `ready` it has long booted.

        `ssh_policy` is whom its SSH server lets in; `authorized_keys` what that file in its home holds, None for the
        public key.
        Raises `NoCapacity` when every address is taken and `ValueError` for an id that exists.
        """
        since = now - timedelta(seconds=self.settings.boot_s + self.settings.ssh_delay_s) if ready else now
        return self._registry.create(
            account,
            instance_type,
            since,
            public_key=public_key,
            sector=sector,
            instance_id=instance_id,
            ssh_policy=ssh_policy,
            authorized_keys=authorized_keys,
        ).id

    def remove_instance(self, instance_id: str, now: datetime) -> None:
        """Takes an instance away at once, as somebody else would. Raises `KeyError` for an unknown id."""
        self._registry.delete(instance_id, now, 0.0)

    def force_status(self, instance_id: str, status: str | None) -> None:
        """Pins an instance's status; None lets it follow time again. Raises `KeyError` for an unknown id."""
        self._registry.force_status(instance_id, status)

    def set_ssh_policy(self, instance_id: str, policy: SshPolicy) -> None:
        """Changes whom an instance's SSH server lets in. Raises `KeyError` for an unknown id."""
        self._registry.set_ssh_policy(instance_id, policy)

    def instances(self, now: datetime) -> tuple[InstanceView, ...]:
        """Every instance there ever was, in the order of creation."""
        return self._registry.views(now)

    def answering_ssh(self, now: datetime) -> tuple[InstanceView, ...]:
        """The instances whose SSH server is up."""
        return self._registry.answering_ssh(now)

    def next_change(self, now: datetime) -> datetime | None:
        """When `answering_ssh` changes next, if nothing else happens; None for never."""
        return self._registry.next_change(now)

    def journal(self) -> tuple[JournalEntry, ...]:
        """Every request that arrived, in order."""
        return self._journal.entries()

    def handle(self, request: Request, now: datetime) -> Response:
        """Answers a request at `now`. The answer also says what becomes of the connection."""
        route = requests.route(request)
        number = self._journal.enter(request, route.call, now)
        arrival = _Arrival(number, request, route, self.script.take(route.call, route.instance_id))
        defer = _find(arrival.effects, Defer)
        if defer is None:
            return self._finish(arrival, now)
        self._deferred[number] = arrival
        self._journal.note(number, connection="defer")
        return Response(connection="defer", delay_s=defer.seconds, ticket=number)

    def resume(self, ticket: int, now: datetime) -> Response:
        """Handles a deferred request, once its time has come."""
        return self._finish(self._deferred.pop(ticket), now)

    def _finish(self, arrival: _Arrival, now: datetime) -> Response:
        status = _find(arrival.effects, Status)
        if _find(arrival.effects, DropBefore):
            response = Response(connection="cut-before")
        elif status is not None and not status.handled:
            response = distort(Response(date=now), arrival.effects, _request_id(arrival.number))
        else:
            response = self._answer(arrival, now)
            response = distort(response, arrival.effects, _request_id(arrival.number))
        self._journal.note(arrival.number, status=response.status, connection=response.connection)
        return response

    def _answer(self, arrival: _Arrival, now: datetime) -> Response:
        try:
            return replace(self._dispatch(arrival, now), date=now)
        except Refused as refused:
            allow = {"allow": refused.allow} if refused.allow else {}
            error = {
                "type": refused.error_type,
                "message": refused.message,
                "request_id": _request_id(arrival.number),
            }
            return replace(_json(refused.status, {"error": error}, allow), date=now)

    def _dispatch(self, arrival: _Arrival, now: datetime) -> Response:
        route = arrival.route
        if route.allow:
            raise Refused(405, "not_implemented", "Method not allowed", allow=", ".join(route.allow))
        if route.call == "other":
            raise Refused(404, "not_found", "Resource not found")
        permissions = self._permissions(arrival.request)
        self._journal.note(arrival.number, account=permissions.account)
        if not (permissions.billing if route.call == "billing" else permissions.compute):
            raise Refused(403, "authorization_error", "Access denied")
        match route.call:
            case "list":
                return self._list(arrival, permissions.account, now)
            case "create":
                return self._create(arrival, permissions.account, now)
            case "get":
                return self._get(arrival, permissions.account, now)
            case "delete":
                return self._delete(arrival, permissions.account, now)
            case "billing":
                return self._billing(arrival.request, permissions.account)

    def _permissions(self, request: Request) -> Permissions:
        key = requests.key(request)
        permissions = None if key is None else self.accounts.permissions(key)
        if permissions is None:
            raise Refused(401, "authorization_error", "Authentication required")
        return permissions

    def _list(self, arrival: _Arrival, account: str, now: datetime) -> Response:
        page = requests.page(arrival.request, self.settings.page_cap)
        at = _read_time(arrival.effects, now)
        hide = _find(arrival.effects, Hide)
        machines = [machine for machine in self._registry.shown(account, at) if not _hidden(hide, machine)]
        start = (page.number - 1) * page.size
        more = len(machines) > start + page.size
        return _json(
            200,
            {
                "instances": [m.as_json(at, self.settings) for m in machines[start : start + page.size]],
                "next_cursor": requests.cursor(page.number + 1) if more else None,
                "has_more": more,
            },
        )

    def _get(self, arrival: _Arrival, account: str, now: datetime) -> Response:
        at = _read_time(arrival.effects, now)
        hide = _find(arrival.effects, Hide)
        machine = self._registry.find_shown(arrival.route.instance_id or "", account, at)
        if machine is None or _hidden(hide, machine):
            raise Refused(404, "not_found", "Resource not found")
        return _json(200, machine.as_json(at, self.settings))

    def _create(self, arrival: _Arrival, account: str, now: datetime) -> Response:
        body = requests.create_body(arrival.request)
        key = requests.idempotency_key(arrival.request)
        kept = self._kept.get((account, key)) if key else None
        if kept is not None and now - kept.at < timedelta(seconds=self.settings.idempotency_s):
            if kept.body != body:
                raise Refused(400, "validation_error", "Idempotency-Key was used with another body")
            return kept.response
        late = _find(arrival.effects, LateVisible)
        try:
            machine = self._registry.create(
                account,
                body.instance_type,
                now,
                public_key=body.ssh_key.strip(),
                sector=None if body.sector is UNSET else body.sector,
                late_s=late.seconds if late else 0.0,
            )
        except NoCapacity:
            raise Refused(429, "rate_limited", "No capacity") from None
        response = _json(201, machine.as_json(now, self.settings))
        if key:
            self._kept[account, key] = _Kept(now, body, response)
        return response

    def _delete(self, arrival: _Arrival, account: str, now: datetime) -> Response:
        machine = self._registry.existing(arrival.route.instance_id or "", account, now)
        if machine is None:
            raise Refused(404, "not_found", "Resource not found")
        if not _find(arrival.effects, IgnoreDelete):
            linger = _find(arrival.effects, Linger)
            self._registry.delete(machine.id, now, self.settings.delete_s + (linger.seconds if linger else 0.0))
        return Response(status=204)

    def _billing(self, request: Request, username: str) -> Response:
        account = self.accounts.get(username)
        body: dict[str, Any] = {"username": username}
        if "credits" in requests.query(request).get("expand", []):
            body["credits"] = {"current_balance": account.balance, "currency": account.currency}
        return _json(200, body)


def _find(effects: Sequence[Effect], kind: type[_E]) -> _E | None:
    return next((effect for effect in effects if isinstance(effect, kind)), None)


def _read_time(effects: Sequence[Effect], now: datetime) -> datetime:
    stale = _find(effects, Stale)
    return now - timedelta(seconds=stale.seconds) if stale else now


def _hidden(hide: Hide | None, machine: Machine) -> bool:
    return hide is not None and hide.instance_id in (None, machine.id)


def _request_id(number: int) -> str:
    return f"req_{number:06d}"


def _json(status: int, value: object, headers: dict[str, str] | None = None) -> Response:
    return Response(
        status=status, headers={"content-type": "application/json", **(headers or {})}, body=_JSON.encode(value)
    )

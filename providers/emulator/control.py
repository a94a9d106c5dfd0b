"""The control API below `/_emulator/`: faults, clock, instances, keys and journal. For loopback clients only."""

import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
from msgspec import Struct

from providers.emulator.accounts import Permissions
from providers.emulator.clock import EmulatorClock
from providers.emulator.faults import Fault
from providers.emulator.machines import SshPolicy
from providers.emulator.messages import Request, Response
from providers.emulator.registry import NoCapacity
from providers.emulator.state import FalState

_JSON = {"content-type": "application/json"}


class Advance(Struct, frozen=True):
    """How far to move the clock, in seconds."""

    advance_s: float


class NewInstance(Struct, frozen=True, kw_only=True):
    """An instance that appears without a request to fal; by default somebody else's."""

    account: str
    instance_type: str = "gpu_1x_h100_sxm5"
    public_key: str | None = None
    sector: str | None = None
    instance_id: str | None = None
    ready: bool = True
    ssh_policy: SshPolicy = "own-key"
    authorized_keys: str | None = None


class ForcedStatus(Struct, frozen=True):
    """The status to pin; null lets it follow time again."""

    status: str | None


class NewPolicy(Struct, frozen=True):
    """Whom a box's SSH server is to let in."""

    ssh_policy: SshPolicy


class NewKey(Struct, frozen=True, kw_only=True):
    """A key to accept for an account."""

    key: str
    account: str
    compute: bool = True
    billing: bool = True


class OldKey(Struct, frozen=True):
    """A key to accept no longer."""

    key: str


class _Denied(Exception):
    """The request does not come from this machine's own programs."""


class ControlApi:
    """Answers the control requests. `settle` brings the boxes to what the state says before an answer leaves;
    `rekey` gives a box another host key."""

    prefix = "/_emulator/"

    def __init__(
        self,
        state: FalState,
        clock: EmulatorClock,
        *,
        settle: Callable[[], Awaitable[None]],
        rekey: Callable[[str], Awaitable[None]],
    ) -> None:
        self._state = state
        self._clock = clock
        self._settle = settle
        self._rekey = rekey

    async def answer(self, request: Request, peer: str) -> Response:
        """Carries out one control request from the address `peer`."""
        try:
            _admit(request, peer)
            response = await self._dispatch(request)
        except _Denied as error:
            return _error(403, str(error))
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
            return _error(400, str(error))
        except KeyError as error:
            return _error(404, f"unknown: {error}")
        except NoCapacity:
            return _error(409, "every address is taken")
        await self._settle()
        return response

    async def _dispatch(self, request: Request) -> Response:
        now = self._clock.now()
        target = urlsplit(request.target)
        path = [unquote(segment) for segment in target.path.removeprefix(self.prefix).split("/")]
        match request.method, *path:
            case "GET", "clock":
                return _ok({"now": now})
            case "POST", "clock":
                self._clock.advance(msgspec.json.decode(request.body, type=Advance).advance_s)
                return _ok({"now": self._clock.now()})
            case "GET", "instances":
                return _ok({"instances": self._state.instances(now)})
            case "POST", "instances":
                new = msgspec.json.decode(request.body, type=NewInstance)
                options = {k: v for k, v in msgspec.structs.asdict(new).items() if k != "account"}
                return _ok({"id": self._state.add_instance(new.account, now, **options)}, status=201)
            case "DELETE", "instances", instance_id:
                self._state.remove_instance(instance_id, now)
            case "PUT", "instances", instance_id, "status":
                status = msgspec.json.decode(request.body, type=ForcedStatus).status
                self._state.force_status(instance_id, status)
            case "PUT", "instances", instance_id, "ssh-policy":
                policy = msgspec.json.decode(request.body, type=NewPolicy).ssh_policy
                self._state.set_ssh_policy(instance_id, policy)
            case "POST", "instances", instance_id, "host-key":
                await self._rekey(instance_id)
            case "GET", "journal":
                since = int(parse_qs(target.query).get("since", ["0"])[0])
                return _ok({"journal": self._state.journal()[max(since, 0) :]})
            case _:
                return self._dispatch_script(request, path)
        return Response(status=204)

    def _dispatch_script(self, request: Request, path: list[str]) -> Response:
        match request.method, *path:
            case "GET", "faults":
                return _ok({"faults": self._state.script.pending()})
            case "POST", "faults":
                self._state.add_fault(msgspec.json.decode(request.body, type=Fault))
            case "DELETE", "faults":
                self._state.script.clear()
            case "POST", "keys":
                new = msgspec.json.decode(request.body, type=NewKey)
                permissions = Permissions(account=new.account, compute=new.compute, billing=new.billing)
                self._state.accounts.accept_key(new.key, permissions)
            case "DELETE", "keys":
                self._state.accounts.revoke_key(msgspec.json.decode(request.body, type=OldKey).key)
            case _:
                return _error(404, "no such control request")
        return Response(status=204)


def _admit(request: Request, peer: str) -> None:
    # A web page in the user's browser also connects from loopback: it is known by its Origin, or, after DNS
    # rebinding, by the name in Host.
    host = urlsplit("//" + request.headers.get("host", "")).hostname or ""
    if not _is_loopback(peer) or not (host == "localhost" or _is_loopback(host)):
        raise _Denied("the control API answers to loopback only")
    if "origin" in request.headers:
        raise _Denied("the control API does not answer to web pages")


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _ok(value: Any, status: int = 200) -> Response:
    return Response(status=status, headers=_JSON, body=msgspec.json.encode(value))


def _error(status: int, message: str) -> Response:
    error = {"type": "validation_error", "message": message}
    return Response(status=status, headers=_JSON, body=msgspec.json.encode({"error": error}))

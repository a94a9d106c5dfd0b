"""What a scripted fault does to an answer on its way out: its status, its body, its date, its connection. Pure."""

from collections.abc import Sequence
from datetime import timedelta

import msgspec
from msgspec.structs import replace

from providers.emulator.faults import DateSkew, Delay, DropAfter, Effect, Garbage, Rewrite, Status, Truncate
from providers.emulator.messages import Response

_OK = range(200, 300)


def distort(response: Response, effects: Sequence[Effect], request_id: str) -> Response:
    """The answer after every effect that concerns answers, in the script's order; the others change nothing."""
    for effect in effects:
        response = _distorted(response, effect, request_id)
    return response


def _distorted(response: Response, effect: Effect, request_id: str) -> Response:
    match effect:
        case Status():
            return _with_status(response, effect, request_id)
        case Garbage(body):
            return replace(response, body=body.encode())
        case Rewrite():
            return _rewritten(response, effect)
        case DateSkew(seconds):
            date = response.date
            return replace(
                response, date=None if seconds is None or date is None else date + timedelta(seconds=seconds)
            )
        case Delay(seconds):
            return replace(response, delay_s=response.delay_s + seconds)
        case DropAfter():
            return replace(response, connection="cut-after")
        case Truncate(sent_bytes):
            return replace(response, connection="truncate", sent_bytes=sent_bytes)
        case _:
            return response


def _with_status(response: Response, effect: Status, request_id: str) -> Response:
    headers = {name.lower(): value for name, value in effect.headers.items()}
    if effect.retry_after_s is not None:
        headers["retry-after"] = str(effect.retry_after_s)
    if effect.error_type is None:
        return replace(response, status=effect.status, headers=headers, body=effect.body.encode())
    error = {"type": effect.error_type, "message": effect.message, "request_id": request_id}
    return replace(
        response,
        status=effect.status,
        headers={"content-type": "application/json", **headers},
        body=msgspec.json.encode({"error": error}),
    )


def _rewritten(response: Response, effect: Rewrite) -> Response:
    if response.status not in _OK or not response.body:
        return response
    answer = {**msgspec.json.decode(response.body), **effect.put}
    kept = {name: value for name, value in answer.items() if name not in effect.omit}
    return replace(response, body=msgspec.json.encode(kept))

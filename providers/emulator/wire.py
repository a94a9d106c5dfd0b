"""HTTP/1.1 on a stream: reads requests, formats answers (RFC 9112). Knows nothing of fal."""

import asyncio
from http import HTTPStatus
from wsgiref.handlers import format_date_time

from providers.emulator.messages import Request, Response

MAX_REQUEST_BYTES = 1024 * 1024


class BadRequest(Exception):
    """The bytes that came are no HTTP request that we read; the connection is of no further use."""


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    """Reads the next request of a connection, or None where the client has closed it between two.

    Raises `BadRequest` for anything malformed or over `MAX_REQUEST_BYTES`.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial.strip():
            raise BadRequest("the request ends in its head") from None
        return None
    except asyncio.LimitOverrunError:
        raise BadRequest("the head of the request is too long") from None
    first, *lines = head[:-4].decode("latin-1").lstrip("\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):  # noqa: PLR2004 - method, target, version
        raise BadRequest("the request line is malformed")
    headers = _headers(lines)
    if words[2] == "HTTP/1.0":
        headers.setdefault("connection", "close")
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        body = await _body(reader, headers)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise BadRequest("the request ends in its body") from None
    return Request(method=words[0], target=words[1], headers=headers, body=body)


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadRequest("a header is malformed")
        name = name.lower()
        value = value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return await _chunks(reader)
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or len(length) > 9 or int(length) > MAX_REQUEST_BYTES:  # noqa: PLR2004
        raise BadRequest("Content-Length is malformed or too large")
    return await reader.readexactly(int(length))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while True:
        try:
            size = int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16)
        except ValueError:
            raise BadRequest("a chunk size is malformed") from None
        if size < 0 or len(body) + size > MAX_REQUEST_BYTES:
            raise BadRequest("the body is too large")
        if size == 0:
            while await reader.readuntil(b"\r\n") != b"\r\n":
                continue
            return bytes(body)
        body += (await reader.readexactly(size + 2))[:-2]


def format_response(response: Response, *, method: str, close: bool) -> bytes:
    """The bytes of an answer, cut short where it is to be truncated. Status must be set."""
    if response.status is None:
        raise ValueError("an answer needs a status")
    try:
        phrase = HTTPStatus(response.status).phrase
    except ValueError:
        phrase = ""
    headers = dict(response.headers)
    if response.date is not None:
        headers["date"] = format_date_time(response.date.timestamp())
    if response.status != HTTPStatus.NO_CONTENT:
        headers["content-length"] = str(len(response.body))
    if close:
        headers["connection"] = "close"
    lines = [f"HTTP/1.1 {response.status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    body = b"" if method == "HEAD" or response.status == HTTPStatus.NO_CONTENT else response.body
    if response.connection == "truncate":
        body = body[: response.sent_bytes]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body

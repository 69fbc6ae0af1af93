"""What a request says, checked: names, lengths, digests, ranges, waits. All of it is an attacker's text."""

import base64
import binascii
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.types import Scope

from syncagent.names import PACKS, is_listable_prefix, is_object_name, is_vault_name
from syncagent.remote.base import MAX_LIST_LIMIT, max_object_size
from syncagent.server.limits import Limits
from syncagent.server.problem import Problem, malformed, malformed_name

_DIGITS = re.compile(r"[0-9]+")
_RANGE = re.compile(r"bytes=(?:([0-9]+)-([0-9]*)|-([0-9]+))")
_SHA256 = re.compile(r"\s*sha-256\s*=\s*:([A-Za-z0-9+/]{43}=):\s*")
_BEARER = re.compile(r"[Bb]earer +([!-~]{1,1024})")
_MOST_CURSOR = 200
_MOST_DIGITS = 18
"""No size has as many; longer numbers are all the same to us."""


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a listing is asked for."""

    prefix: str
    after: str
    limit: int


def token_of(request: Request) -> str | None:
    """The bearer token (RFC 6750), or None. Two `Authorization` headers are none."""
    values = request.headers.getlist("authorization")
    match = _BEARER.fullmatch(values[0]) if len(values) == 1 else None
    return match.group(1) if match else None


def vault_name(request: Request) -> str:
    """The vault in the path."""
    name: str = request.path_params["vault"]
    if not is_vault_name(name):
        raise malformed_name("that is not the name of a vault")
    return name


def object_name(request: Request) -> str:
    """The object in the path."""
    name: str = request.path_params["name"]
    if not is_object_name(name):
        raise malformed_name("that is not the name of an object")
    return name


def body_length(request: Request, name: str) -> int:
    """How long the body of an object will be, once it is sure that it may be."""
    text = _single(request, "content-length")
    if text is None:
        raise Problem(411, "length-required", "an object is put with its Content-Length")
    if not _DIGITS.fullmatch(text):
        raise malformed("the Content-Length is not a number")
    size = _number(text)
    most = max_object_size(name)
    if size > most:
        raise Problem(
            413,
            "too-large",
            f"an object of this kind has at most {most:,} bytes",
            members={"limit_bytes": most},
        )
    if size == 0:
        raise Problem(422, "empty-body", "no object is empty")
    return size


def is_create_only(request: Request) -> bool:
    """Whether the put may not replace anything: `If-None-Match: *`."""
    value = _single(request, "if-none-match")
    if value is None:
        return False
    if value.strip() != "*":
        raise malformed("If-None-Match can only be *")
    return True


def promised_digest(request: Request) -> bytes | None:
    """The SHA-256 in `Content-Digest` (RFC 9530), if there is one. Other algorithms are passed over."""
    value = ",".join(request.headers.getlist("content-digest"))
    for member in value.split(","):
        if not member.strip().startswith("sha-256"):
            continue
        match = _SHA256.fullmatch(member)
        if match is None:
            break
        try:
            return base64.b64decode(match.group(1), validate=True)
        except binascii.Error:
            break
    else:
        return None
    raise malformed("the Content-Digest is not one: sha-256=:<base64>:")


def check_digest(name: str, promised: bytes | None, found: bytes) -> None:
    """That a body is what the request, and a pack's name, say it is."""
    if promised is not None and promised != found:
        raise Problem(
            422, "digest-mismatch", "the body is not the one of the Content-Digest; nothing was stored"
        )
    if name.startswith(PACKS) and name != PACKS + found.hex():
        raise Problem(
            422, "name-mismatch", "a pack is named after its SHA-256, and this is not; nothing was stored"
        )


def asked_range(request: Request, size: int) -> range | None:
    """The bytes that `Range` asks for (RFC 9110, section 14); None for all.

    What is not one range of bytes is passed over, as the RFC allows. `Problem` when it lies outside.
    """
    value = _single(request, "range")
    match = _RANGE.fullmatch(value.strip()) if value else None
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        found = range(max(0, size - _number(suffix)), size)
    elif last and _number(last) < _number(first):
        return None
    else:
        found = range(_number(first), min(size, _number(last) + 1) if last else size)
    if not found:
        raise Problem(
            416,
            "range-not-satisfiable",
            f"the object has {size:,} bytes, all of them before the range",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return found


def asked_page(request: Request) -> Page:
    """`prefix`, `after` and `limit` of a listing."""
    prefix, after = _parameter(request, "prefix") or "", _parameter(request, "after") or ""
    limit = _parameter(request, "limit")
    if not is_listable_prefix(prefix):
        raise malformed_name("that prefix cannot be listed: it is empty or a whole folder")
    if after and not is_object_name(after):
        raise malformed_name("`after` is not the name of an object")
    if limit is not None and (not _DIGITS.fullmatch(limit) or _number(limit) < 1):
        raise malformed("`limit` is not a number from 1 on")
    return Page(prefix, after, MAX_LIST_LIMIT if limit is None else min(_number(limit), MAX_LIST_LIMIT))


def asked_cursor(request: Request) -> str | None:
    """The cursor that the client has. Any text will do: an unknown one is answered at once."""
    cursor = _parameter(request, "cursor")
    return cursor[:_MOST_CURSOR] if cursor else None


def asked_wait(request: Request, limits: Limits) -> float:
    """How many seconds the client would wait, as far as the server lets it."""
    text = _parameter(request, "timeout")
    if text is None:
        return limits.longest_wait_s
    try:
        timeout_s = float(text)
    except ValueError:
        timeout_s = math.nan
    if not timeout_s >= 0:  # also what is no number
        raise malformed("`timeout` is not a number of seconds")
    return min(timeout_s, limits.longest_wait_s)


class IncomingBody:
    """A request's body, of which exactly so many bytes are taken, in time."""

    def __init__(
        self, request: Request, size: int, limits: Limits, *, clock: Callable[[], float] = monotonic
    ) -> None:
        self.size = size
        self._receive = request.receive
        self._left = size
        self._more = True
        self._idle_s = limits.idle_s
        self._left_s = limits.idle_s + size / limits.slowest_bytes_s
        self._clock = clock

    async def read(self) -> bytes:
        """The next bytes, b"" at the end.

        Raises:
            ClientDisconnect: the client has gone before the end.
            Problem: it is too slow. Only the time spent waiting for it counts.
        """
        while self._more:
            began = self._clock()
            message = None
            with anyio.move_on_after(min(self._idle_s, self._left_s)):
                message = await self._receive()
            self._left_s -= self._clock() - began
            if message is None or self._left_s < 0:
                raise Problem(408, "too-slow", "the body came too slowly", headers={"Connection": "close"})
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            self._more = message.get("more_body", False)
            piece: bytes = message.get("body", b"")
            self._left -= len(piece)
            if self._left < 0 or (not self._more and self._left > 0):
                # The connection's parser sees to it; this is the second lock on the door.
                raise malformed("the body is not as long as its Content-Length")
            if piece:
                return piece
        return b""


def check_shape(scope: Scope, limits: Limits) -> None:
    """Refuse what reads in two ways, and what is too long, before anything else is looked at."""
    if scope["http_version"] not in ("1.0", "1.1"):
        raise Problem(
            505, "malformed-request", "only HTTP/1.1 is spoken here", headers={"Connection": "close"}
        )
    raw_path: bytes = scope["raw_path"]
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    length = len(raw_path) + len(scope["query_string"])
    if length > limits.header_bytes // 2:
        raise Problem(414, "url-too-long", "the URL is too long", headers={"Connection": "close"})
    if length + sum(len(key) + len(value) + 4 for key, value in headers) > limits.header_bytes:
        raise Problem(431, "headers-too-long", "the headers are too long", headers={"Connection": "close"})
    names = [key for key, _ in headers]
    if b"transfer-encoding" in names:
        if b"content-length" in names:
            raise Problem(
                400,
                "malformed-request",
                "a request has a length or is chunked, not both",
                headers={"Connection": "close"},
            )
        raise Problem(411, "length-required", "chunked bodies are not taken", headers={"Connection": "close"})
    if names.count(b"content-length") > 1:
        raise Problem(400, "malformed-request", "a request has one length", headers={"Connection": "close"})
    if b"%" in raw_path:
        # No name needs it, and a proxy in front may read it as another path than this server does.
        raise malformed_name("no path of this server has an escaped character")


def expects_to_be_asked(scope: Scope) -> bool:
    """Whether the client waits for `100 Continue` before it sends its body (RFC 9110, section 10.1.1)."""
    return any(key == b"expect" for key, _ in scope["headers"])


def _single(request: Request, header: str) -> str | None:
    values = request.headers.getlist(header)
    if len(values) > 1:
        raise malformed(f"there are two {header} headers")
    return values[0] if values else None


def _number(digits: str) -> int:
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= _MOST_DIGITS else 10**_MOST_DIGITS


def _parameter(request: Request, name: str) -> str | None:
    values = request.query_params.getlist(name)
    if len(values) > 1:
        raise malformed(f"`{name}` is given twice")
    return values[0] if values else None

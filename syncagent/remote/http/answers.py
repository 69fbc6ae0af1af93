"""What answers of the API mean: statuses, problem documents, listings. Nothing of the network.

Everything here was written by the other side and is checked before it is believed: lengths,
counts, order, names. Of its texts only a short piece is kept, in `repr` form.
"""

import email.utils
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Annotated, TypeVar

import msgspec

from syncagent.errors import (
    AppendOnly,
    BadResponse,
    Forbidden,
    ObjectExists,
    ObjectNotFound,
    ObjectRefused,
    QuotaExceeded,
    RateLimited,
    RemoteError,
    RemoteStopped,
    Unauthorized,
    Unreachable,
)
from syncagent.names import is_object_name, is_vault_name
from syncagent.remote.base import MAX_LIST_LIMIT, ObjectInfo, ObjectPage

MAX_PROBLEM_BYTES = 16 << 10
"""Longest error text that is looked at."""
MAX_JSON_BYTES = 1 << 20
"""Longest answer in JSON: a page of a thousand objects has some 150 KiB."""
MAX_RETRY_AFTER_S = 3600.0
"""Longest patience that a server may ask for."""
MAX_CURSOR = 256
MAX_VAULTS = 1000

_T = TypeVar("_T")
_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})")
_SECONDS = re.compile(r"-?[0-9]{1,15}")
_LONGEST_TEXT = 200
_CHECK = "check that the remote's address is that of a sync server"


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that was read to its end. Of a failure the body is cut at `MAX_PROBLEM_BYTES`."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes `start` to `stop` (exclusive) of a body of `size`."""

    start: int
    stop: int
    size: int


@dataclass(frozen=True, slots=True)
class Call:
    """What was asked, for telling what went wrong.

    `what` begins a sentence ("putting packs/…"); `reads` and `stores` tell whether it is about one
    object, and `creates` that nothing of its name was to be there.
    """

    what: str
    vault: str | None = None
    reads: bool = False
    stores: bool = False
    creates: bool = False


class _Problem(msgspec.Struct):
    """A problem document (RFC 9457)."""

    type: str = ""
    title: str = ""
    detail: str = ""


class _Entry(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(max_length=128)]
    size: Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
    created: Annotated[float, msgspec.Meta(ge=0, le=1e12)]


class _Page(msgspec.Struct):
    objects: Annotated[list[_Entry], msgspec.Meta(max_length=MAX_LIST_LIMIT)]
    more: bool


class _Changes(msgspec.Struct):
    cursor: Annotated[str, msgspec.Meta(pattern=rf"\A[!-~]{{1,{MAX_CURSOR}}}\Z")]


class _Vaults(msgspec.Struct):
    vaults: Annotated[list[str], msgspec.Meta(max_length=MAX_VAULTS)]


def quoted(text: str) -> str:
    """The beginning of a text from elsewhere, with everything that a terminal obeys escaped."""
    return repr(text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…")


def failure(call: Call, answer: Answer, now: float) -> RemoteError:
    """The error that an answer with another status than those of success stands for.

    Args:
        call: what was asked.
        answer: what came.
        now: Unix seconds, for a `Retry-After` that is a date.
    """
    problem = _problem(answer)
    kind = re.split(r"[/:#]", problem.type)[-1]
    said = problem.detail or problem.title
    what = f"{call.what}: the remote answers {answer.status}" + (f", {quoted(said)}" if said else "")
    retry_after_s = _retry_after(answer, now)
    match answer.status:
        case 401:
            return Unauthorized(what)
        case 407:
            return Unauthorized(f"{call.what}: the proxy asks for a user", todo="check the proxy's settings")
        case 403 if kind == "append-only":
            return AppendOnly(what)
        case 402 | 403 | 451:
            return Forbidden(what, todo="check the vault's name and that the token is of its owner")
        case 404 if kind == "no-such-vault":
            return RemoteStopped(
                f"{call.what}: the remote has no vault {quoted(call.vault or '')}",
                todo="check the remote's address, and whether the vault was removed there",
            )
        case 404 if not _is_problem(answer):
            # A proxy's, or another program's: it must not look like a remote that lost everything.
            return Unreachable(f"{what}, and not as a sync server does", todo=_CHECK)
        case 404 if call.reads and kind != "no-such-path":
            return ObjectNotFound(f"{call.what}: it is not at the remote")
        case 408 | 425:
            return Unreachable(what, retry_after_s=retry_after_s)
        case 429:
            return RateLimited(what, retry_after_s=retry_after_s)
        case 412 if call.creates:
            return ObjectExists(f"{call.what}: it is there already")
        case 400 | 409 | 413 | 422 if call.stores:
            return ObjectRefused(what)
        case 507:
            return QuotaExceeded(f"{what} (vault {quoted(call.vault)})" if call.vault else what)
        case status if 500 <= status < 600:
            return Unreachable(what, retry_after_s=retry_after_s)
        case status if 300 <= status < 400:
            place = quoted(answer.headers.get("Location", ""))
            return BadResponse(
                f"{call.what}: the remote redirects to {place}, which is not followed",
                todo="set the remote's address to the place where the server is",
            )
    return BadResponse(what, todo=_CHECK)


def check_length(answer: Answer, size: int, what: str) -> None:
    """Refuse a body of another length than was announced or asked for (`BadResponse`).

    One whose end was the end of the connection is refused too: nobody can tell whether that was all.
    """
    announced = answer.headers.get("Content-Length")
    if announced is None and "chunked" not in answer.headers.get("Transfer-Encoding", "").lower():
        raise BadResponse(f"{what}: the remote does not say how many bytes it gives")
    if len(answer.body) != size or announced not in (None, str(size)):
        raise BadResponse(f"{what}: {len(answer.body)} bytes came, not {size}")


def content_length(answer: Answer, what: str) -> int:
    """The announced length of a body, which must be there and a number."""
    text = answer.headers.get("Content-Length", "")
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise BadResponse(f"{what}: the remote does not tell the size")
    return int(text)


def read_range(answer: Answer, what: str) -> Part:
    """The part that a 206 says it gives: three numbers of which nothing is known yet."""
    match = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if match is None:
        raise BadResponse(f"{what}: the remote does not say which part it gives")
    first, last, size = (int(group) for group in match.groups())
    return Part(first, last + 1, size)


def last_modified(answer: Answer) -> float:
    """Unix seconds from Last-Modified, which has whole ones only; 0 where there is nothing to read."""
    return _date(answer.headers.get("Last-Modified", "")) or 0.0


def read_page(answer: Answer, prefix: str, after: str, limit: int) -> ObjectPage:
    """A page of a listing, once it is sure that it is one that was asked for.

    Raises:
        BadResponse: it is not in order, names something else, has more than was asked for or says
            that there is more and gives nothing: the next page would be asked for for ever.
    """
    page = _decoded(answer, _Page)
    if len(page.objects) > limit or (page.more and not page.objects):
        raise BadResponse(f"a page of the listing of {prefix!r} cannot be: {len(page.objects)} objects")
    infos = []
    for entry in page.objects:
        if entry.name <= after or not entry.name.startswith(prefix) or not is_object_name(entry.name):
            raise BadResponse(f"a listing of {prefix!r} is not in order or names something else")
        after = entry.name
        # To the second, as `head` tells it: nobody depends on more.
        infos.append(ObjectInfo(entry.name, entry.size, float(int(entry.created))))
    return ObjectPage(tuple(infos), page.more)


def read_cursor(answer: Answer) -> str:
    """The change cursor of an answer."""
    return _decoded(answer, _Changes).cursor


def read_vaults(answer: Answer) -> list[str]:
    """The names of a token's vaults, in order."""
    found = _decoded(answer, _Vaults).vaults
    if not all(is_vault_name(name) for name in found):
        raise BadResponse("the remote lists a vault whose name cannot be one")
    return sorted(set(found))


def _decoded(answer: Answer, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadResponse(
            f"the remote's answer cannot be read: {quoted(str(error))}",
            todo=_CHECK,
        ) from error


def _problem(answer: Answer) -> _Problem:
    if not _is_problem(answer):
        return _Problem()
    try:
        return msgspec.json.decode(answer.body, type=_Problem)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _Problem()


def _is_problem(answer: Answer) -> bool:
    """Whether a failure is told as servers of this API tell it."""
    return "problem+json" in answer.headers.get("Content-Type", "").lower()


def _retry_after(answer: Answer, now: float) -> float | None:
    text = answer.headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(text):
        seconds = float(text)
    else:
        moment = _date(text)
        if moment is None:
            return None
        seconds = moment - now
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def _date(text: str) -> float | None:
    """An HTTP date (RFC 9110, section 5.6.7) in Unix seconds."""
    if not text or len(text) > 64:
        return None
    try:
        moment = email.utils.parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None

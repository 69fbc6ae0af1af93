"""`HttpRemote`: the calls of a `Remote` as requests of the blob API (`docs/protocol.md`)."""

import base64
import hashlib
import time
from collections.abc import Callable

import anyio.to_thread

from syncagent.errors import BadResponse, ObjectNotFound, RemoteStopped, UnsupportedByRemote
from syncagent.names import PACKS, VAULT, check_object_name
from syncagent.remote.base import (
    PIECE_SIZE,
    Body,
    FileSlice,
    ObjectInfo,
    ObjectPage,
    body_size,
    check_get,
    check_list,
    check_put,
    max_object_size,
    range_end,
    read_piece,
)
from syncagent.remote.http.answers import (
    MAX_JSON_BYTES,
    Answer,
    Call,
    check_length,
    content_length,
    failure,
    last_modified,
    read_cursor,
    read_page,
    read_range,
)
from syncagent.remote.http.client import HttpClient

LONGEST_POLL_S = 60.0
"""Longest wait asked of a server at once: proxies cut off what is silent for longer."""


class HttpRemote:
    """A `Remote` behind HTTP. One call is one request: `RetryRemote` repeats, nothing here does.

    Args:
        client: for the server; closed with this.
        now: Unix seconds.
    """

    def __init__(self, client: HttpClient, *, now: Callable[[], float] = time.time) -> None:
        assert client.address.vault is not None
        self._client = client
        self._vault = client.address.vault
        self._path = f"/vaults/{self._vault}"
        self._now = now

    async def create_vault(self) -> None:
        """Make the vault at the server; one that the token's user has already is taken as it is."""
        answer = await self._client.request("PUT", self._path, most_bytes=MAX_JSON_BYTES)
        if answer.status not in (200, 201):
            raise self._failure(Call(f"making the vault {self._vault!r}", self._vault), answer)

    async def put(self, name: str, body: Body, *, overwrite: bool = False) -> None:
        """See `Remote.put`. Durable once the server has answered."""
        size = check_put(name, body)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Digest": f"sha-256=:{base64.b64encode(await _digest(name, body, size)).decode()}:",
        }
        if not overwrite:
            headers["If-None-Match"] = "*"
        answer = await self._client.request(
            "PUT", self._object(name), headers=headers, body=body, most_bytes=MAX_JSON_BYTES
        )
        if answer.status != 201:  # the one that only a server of this API gives
            call = Call(f"putting {name}", self._vault, stores=True, creates=not overwrite)
            raise self._failure(call, answer)

    async def get(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """See `Remote.get`. What is longer than an object of this name may be is not read to its end."""
        check_get(name, start, stop)
        is_part = start > 0 or stop is not None
        headers = {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"} if is_part else {}
        most_bytes = max_object_size(name)
        answer = await self._client.request("GET", self._object(name), headers=headers, most_bytes=most_bytes)
        what = f"getting {name}"
        if answer.status == 206 and is_part:
            part = read_range(answer, what)
            if part.start != start or part.stop != range_end(name, part.size, start, stop):
                raise BadResponse(f"{what}: the remote gives another part than was asked for")
            check_length(answer, part.stop - part.start, what)
            return answer.body
        if answer.status == 200:
            size = len(answer.body)
            check_length(answer, size, what)
            end = range_end(name, size, start, stop)
            return answer.body if (start, end) == (0, size) else answer.body[start:end]
        raise self._object_failure(name, what, answer)

    async def head(self, name: str) -> ObjectInfo:
        """See `Remote.head`."""
        check_object_name(name)
        answer = await self._client.request("HEAD", self._object(name))
        what = f"looking up {name}"
        if answer.status != 200:
            raise self._object_failure(name, what, answer)
        return ObjectInfo(name, content_length(answer, what), last_modified(answer))

    async def delete(self, name: str) -> None:
        """See `Remote.delete`.

        Raises:
            AppendOnly: the token may not; the object is still there.
        """
        check_object_name(name)
        answer = await self._client.request("DELETE", self._object(name), most_bytes=MAX_JSON_BYTES)
        if answer.status == 204:
            return
        error = self._failure(Call(f"deleting {name}", self._vault, reads=True), answer)
        if not isinstance(error, ObjectNotFound):
            raise error

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> ObjectPage:
        """See `Remote.list`."""
        limit = check_list(prefix, after, limit)
        answer = await self._client.request(
            "GET",
            f"{self._path}/objects",
            query={"prefix": prefix, "after": after, "limit": str(limit)},
            most_bytes=MAX_JSON_BYTES,
        )
        if answer.status != 200:
            raise self._failure(Call(f"listing {prefix or 'everything'}", self._vault), answer)
        return read_page(answer, prefix, after, limit)

    async def wait_for_change(self, cursor: str | None, timeout_s: float) -> str:
        """See `Remote.wait_for_change`. May return earlier with the same cursor, after `LONGEST_POLL_S`."""
        wait_s = min(max(timeout_s, 0.0), LONGEST_POLL_S) if cursor is not None else 0.0
        query = {"timeout": f"{wait_s:g}"} | ({"cursor": cursor} if cursor is not None else {})
        answer = await self._client.request(
            "GET", f"{self._path}/changes", query=query, most_bytes=MAX_JSON_BYTES, extra_read_s=wait_s
        )
        if answer.status in (405, 501):
            raise UnsupportedByRemote("this server cannot tell when something changes")
        if answer.status != 200:
            raise self._failure(Call("waiting for a change", self._vault), answer)
        return read_cursor(answer)

    async def aclose(self) -> None:
        """See `Remote.aclose`."""
        await self._client.aclose()

    def _object(self, name: str) -> str:
        # Names of the grammar need no quoting, and are checked before this.
        return f"{self._path}/objects/{name}"

    def _failure(self, call: Call, answer: Answer) -> Exception:
        return failure(call, answer, self._now())

    def _object_failure(self, name: str, what: str, answer: Answer) -> Exception:
        error = self._failure(Call(what, self._vault, reads=True), answer)
        # Its own object is what tells whether a vault is there; the absence of others says less.
        if name == VAULT and type(error) is RemoteStopped:
            return ObjectNotFound(str(error))
        return error


async def _digest(name: str, body: Body, size: int) -> bytes:
    """SHA-256 of a body; for a pack its name says it, and the server compares that too."""
    if name.startswith(PACKS):
        return bytes.fromhex(name[len(PACKS) :])
    if not isinstance(body, FileSlice) and size <= PIECE_SIZE:
        return hashlib.sha256(body).digest()
    return await anyio.to_thread.run_sync(_digest_of, body, abandon_on_cancel=True)


def _digest_of(body: Body) -> bytes:
    if not isinstance(body, FileSlice):
        return hashlib.sha256(body).digest()
    digest = hashlib.sha256()
    for offset in range(0, body_size(body), PIECE_SIZE):
        digest.update(read_piece(body, offset))
    return digest.digest()

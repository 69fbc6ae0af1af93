"""Servers that break off, dawdle, lie and send too much, on real sockets."""

import json

import anyio
import anyio.abc
import pytest

from syncagent.errors import BadResponse, ObjectNotFound, RemoteError, SyncAgentError, Unreachable
from syncagent.remote.access import Access
from syncagent.remote.base import PATIENCE_S, Remote, max_object_size
from syncagent.remote.http.address import read_address
from syncagent.remote.http.client import Timeouts, open_client
from syncagent.remote.http.remote import HttpRemote
from syncagent.remote.retry import RetryRemote
from tests.remote.http.sockets import Answering, Request, ok, opened, saying, served, serving

pytestmark = pytest.mark.anyio

RECORD = f"devices/{'0' * 32}"
SILENCE = Timeouts(read_s=0.05)
STALL = Timeouts(write_s=0.05)


async def all_errors(remote: Remote) -> list[SyncAgentError]:
    """What each call raises; it is a failure of the test if one does not."""
    found: list[SyncAgentError] = []
    for call in (
        lambda: remote.get(RECORD),
        lambda: remote.get(RECORD, 1, 3),
        lambda: remote.list(""),
        lambda: remote.wait_for_change(None, 0),
    ):
        with pytest.raises(RemoteError) as caught:
            await call()
        found.append(caught.value)
    return found


BROKEN: dict[str, bytes] = {
    "closed at once": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "no http": b"220 smtp.example ESMTP\r\n",
    "nul": b"\0" * 100,
    "http/0.9": b"<html>hello",
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "early close": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
    "early close in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
    "early close between chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    "no chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n0\r\n\r\n",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\nabcd",
    "length in words": b"HTTP/1.1 200 OK\r\nContent-Length: four\r\n\r\nabcd",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000,
    "endless header": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000,
    "header without a name": b"HTTP/1.1 200 OK\r\n: x\r\n\r\n",
    "control characters": b"HTTP/1.1 200 \x1b[2J\r\nX: \x1b\x00\r\n\r\n",
    "far too long": b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n" % (b"9" * 300),
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "status in letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("case", BROKEN)
async def test_an_answer_that_is_broken_is_transient(case: str) -> None:
    """It may be a proxy, or a connection that was cut: trying again is right, using it is not."""
    async with served(saying(BROKEN[case])) as remote:
        for error in await all_errors(remote):
            assert isinstance(error, Unreachable)
            assert str(error).isprintable()


WRONG: dict[str, bytes] = {
    "compressed": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
    "too long": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
    "too long in chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"fffff\r\n%b\r\n" % (b"x" * 0xFFFFF) * 3
    + b"0\r\n\r\n",
    "empty": ok(b""),
}


@pytest.mark.parametrize("case", WRONG)
async def test_an_answer_that_is_wrong_is_not_used(case: str) -> None:
    async with served(saying(WRONG[case])) as remote:
        for error in await all_errors(remote):
            assert isinstance(error, BadResponse)


async def test_an_answer_whose_end_is_that_of_the_connection_is_not_used() -> None:
    """Whoever cuts the connection could shorten it unseen."""
    async with served(saying(b"HTTP/1.1 200 OK\r\n\r\nall of it, or is it?")) as remote:
        with pytest.raises(BadResponse, match="how many bytes"):
            await remote.get(RECORD)


async def test_chunks_are_an_answer_like_any_other() -> None:
    """A proxy may cut it so; many small ones are put together."""
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in range(200)) + b"0\r\n\r\n"
    async with served(saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)) as remote:
        assert await remote.get(RECORD) == bytes(range(200))
        assert await remote.get(RECORD, 5, 9) == bytes(range(5, 9))


async def test_no_more_is_read_than_an_object_may_have() -> None:
    """An answer without end is cut off: nobody's memory is filled."""
    sent = 0

    async def endless(stream: anyio.abc.SocketStream, request: Request) -> None:
        nonlocal sent
        await stream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await stream.send(b"10000\r\n%b\r\n" % (b"x" * 0x10000))
            sent += 0x10000

    async with served(endless) as remote:
        with pytest.raises(BadResponse, match=f"more than {max_object_size(RECORD)} bytes"):
            await remote.get(RECORD)
        assert sent < 64 << 20  # what fits between two sockets


async def test_the_text_of_an_error_may_have_no_end_either() -> None:
    async def endless(stream: anyio.abc.SocketStream, request: Request) -> None:
        await stream.send(
            b"HTTP/1.1 404 X\r\nContent-Type: application/problem+json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        while True:
            await stream.send(b"10000\r\n%b\r\n" % (b"x" * 0x10000))

    async with served(endless) as remote:
        with pytest.raises(ObjectNotFound):
            await remote.get(RECORD)


async def test_a_lying_etag_changes_nothing() -> None:
    """It is advisory: what the bytes are is found out by whoever opens them."""
    answer = b'HTTP/1.1 200 OK\r\nETag: "%s"\r\nContent-Length: 4\r\n\r\nabcd' % (b"0" * 64)
    async with served(saying(answer)) as remote:
        assert await remote.get(RECORD) == b"abcd"


async def test_what_comes_before_the_answer_is_passed_over() -> None:
    async with served(
        saying(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok(b"abcd"))
    ) as remote:
        assert await remote.get(RECORD) == b"abcd"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"206 X\r\nContent-Range: bytes 2-4/10\r\nContent-Length: 3", b"cde"),
        (b"200 X\r\nContent-Length: 10", b"abcdefghij"),
        (b"206 X\r\nContent-Range: bytes 2-4/10\r\nTransfer-Encoding: chunked", b"3\r\ncde\r\n0\r\n\r\n"),
    ],
)
async def test_a_part_may_come_alone_or_in_the_whole(head: bytes, body: bytes) -> None:
    async with served(saying(b"HTTP/1.1 %b\r\n\r\n%b" % (head, body))) as remote:
        assert await remote.get(RECORD, 2, 5) == b"cde"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Content-Length: 3", b"cde"),
        (b"Content-Range: bytes 2-4/*\r\nContent-Length: 3", b"cde"),
        (b"Content-Range: bytes 2-4/10\r\nContent-Length: 2", b"cd"),
        (b"Content-Range: bytes 2-4/10\r\nContent-Length: 4", b"cdef"),
        (b"Content-Range: bytes 1-3/10\r\nContent-Length: 3", b"bcd"),
        (b"Content-Range: bytes 2-3/10\r\nContent-Length: 2", b"cd"),
        (b"Content-Range: bytes 2-5/10\r\nContent-Length: 4", b"cdef"),
        (b"Content-Range: bytes 2-3/4\r\nContent-Length: 3", b"cde"),
        (b"Content-Range: bytes 2-4/4\r\nContent-Length: 3", b"cde"),
        (b"Content-Range: bytes 4-2/10\r\nContent-Length: 3", b"cde"),
        (b"Content-Range: bytes 2-4/99999999\r\nContent-Length: 3", b"cde"),
        (b"Content-Range: bytes 2-4/10, bytes 2-4/10\r\nContent-Length: 3", b"cde"),
        (b"Content-Range: bytes 2-4/10\r\nContent-Range: bytes 2-4/10\r\nContent-Length: 3", b"cde"),
        (b"Content-Range: items 2-4/10\r\nContent-Length: 3", b"cde"),
        (b"Content-Range: bytes -2-4/10\r\nContent-Length: 3", b"cde"),
        (b"Content-Range: bytes 2-4/%b\r\nContent-Length: 3" % (b"9" * 400), b"cde"),
        (b"Content-Type: multipart/byteranges; boundary=x\r\nContent-Length: 3", b"cde"),
    ],
)
async def test_a_part_that_was_not_asked_for_is_not_used(head: bytes, body: bytes) -> None:
    async with served(saying(b"HTTP/1.1 206 X\r\n%b\r\n\r\n%b" % (head, body))) as remote:
        with pytest.raises(BadResponse):
            await remote.get(RECORD, 2, 5)
        # Nor is a part of what was asked for whole.
        with pytest.raises(BadResponse):
            await remote.get(RECORD)


async def test_a_part_to_the_end_has_to_reach_it() -> None:
    head = b"HTTP/1.1 206 X\r\nContent-Range: bytes 2-%d/10\r\nContent-Length: %d\r\n\r\n%b"
    async with served(saying(head % (8, 7, b"cdefghi"))) as remote:
        with pytest.raises(BadResponse):
            await remote.get(RECORD, 2)
    async with served(saying(head % (9, 8, b"cdefghij"))) as remote:
        assert await remote.get(RECORD, 2) == b"cdefghij"
        assert await remote.get(RECORD, 2, 99) == b"cdefghij"


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"Content-Length: x",
        b"Content-Length: 1\r\nContent-Length: 2",
        b"Content-Encoding: br\r\nContent-Length: 5",
    ],
)
async def test_a_size_that_is_not_told_is_not_guessed(head: bytes) -> None:
    async with served(saying(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % head)) as remote:
        with pytest.raises((BadResponse, Unreachable)):
            await remote.head(RECORD)


def pages(*documents: object) -> Answering:
    """JSON answers, one after the other, the last one for ever."""
    left = list(documents)

    async def answer(stream: anyio.abc.SocketStream, request: Request) -> None:
        document = left.pop(0) if len(left) > 1 else left[0]
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        await stream.send(ok(body))

    return answer


def entry(number: int, **other: object) -> dict[str, object]:
    return {"name": f"devices/{number:032x}", "size": 1, "created": 1.5, **other}


MANY = [entry(number) for number in range(1001)]


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'{"objects":[],"more":fal',
        b"\xff\xfe",
        b'{"objects":[{"name":"\xff"}],"more":false}',
        b"[" * 200_000,
        b'{"unknown":' + b"[" * 200_000,
        b" " * (1 << 20) + b'{"objects":[],"more":false}',
        {"objects": []},
        {"more": False},
        {"objects": {}, "more": False},
        {"objects": [], "more": "no"},
        {"objects": [], "more": True},
        {"objects": [entry(1)], "more": None},
        {"objects": [entry(1), entry(1)], "more": False},
        {"objects": [entry(2), entry(1)], "more": False},
        {"objects": [entry(0)], "more": False},
        {"objects": MANY, "more": False},
        {"objects": MANY[1:6], "more": False},
        {"objects": [{"name": "keys/" + "f" * 32, "size": 1, "created": 1}], "more": False},
        {"objects": [{"name": "devices/../vault", "size": 1, "created": 1}], "more": False},
        {"objects": [{"name": "devices/\x1b", "size": 1, "created": 1}], "more": False},
        {"objects": [{"name": "devices/" + "f" * 10_000, "size": 1, "created": 1}], "more": False},
        {"objects": [{"name": None, "size": 1, "created": 1}], "more": False},
        {"objects": [entry(1, size=-1)], "more": False},
        {"objects": [entry(1, size=1 << 60)], "more": False},
        {"objects": [entry(1, size=10**400)], "more": False},
        {"objects": [entry(1, size=1.5)], "more": False},
        {"objects": [entry(1, size="1")], "more": False},
        {"objects": [entry(1, created=-1)], "more": False},
        {"objects": [entry(1, created=1e300)], "more": False},
        b'{"objects":[{"name":"devices/%b","size":1,"created":1e999}],"more":false}' % (b"f" * 32),
        b'{"objects":[{"name":"devices/%b","size":1,"created":NaN}],"more":false}' % (b"f" * 32),
    ],
    ids=lambda document: ascii(document)[:40],
)
async def test_a_page_that_cannot_be_is_not_used(document: object) -> None:
    async with served(pages(document)) as remote:
        with pytest.raises(BadResponse) as caught:
            await remote.list("devices/", after=f"devices/{0:032x}", limit=4)
        assert str(caught.value).isprintable()


async def test_a_page_that_is_given_twice_is_not_used_twice() -> None:
    async with served(pages({"objects": [entry(1), entry(2)], "more": True})) as remote:
        page = await remote.list("devices/")
        with pytest.raises(BadResponse, match="order"):
            await remote.list("devices/", after=page.objects[-1].name)


async def test_members_that_are_not_known_yet_are_left_out() -> None:
    page = {"objects": [entry(1, new={"deep": [1]})], "more": False, "next": "x"}
    async with served(pages(page)) as remote:
        assert [info.size for info in (await remote.list("")).objects] == [1]


@pytest.mark.parametrize(
    "cursor", ["", "x" * 257, "a b", "a\n", "\x1b[2J", "\ud800", "ä", None, 5, ["x"]], ids=ascii
)
async def test_a_cursor_that_is_none_is_not_used(cursor: object) -> None:
    async with served(pages({"cursor": cursor})) as remote:
        with pytest.raises(BadResponse):
            await remote.wait_for_change(None, 0)


async def impatient(url: str, timeouts: Timeouts = SILENCE) -> HttpRemote:
    return HttpRemote(await open_client(read_address(url), Access(), timeouts=timeouts))


async def test_a_server_that_says_nothing_is_given_up_sooner_for_somebody_who_waits() -> None:
    async def silent(stream: anyio.abc.SocketStream, request: Request) -> None:
        await anyio.sleep_forever()

    async with serving(silent) as server:
        remote = await impatient(server.url, Timeouts())
        token = PATIENCE_S.set(0.05)
        try:
            with anyio.fail_after(10), pytest.raises(Unreachable):
                await remote.get(RECORD)
        finally:
            PATIENCE_S.reset(token)
            await remote.aclose()


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async def silent(stream: anyio.abc.SocketStream, request: Request) -> None:
        await anyio.sleep_forever()

    async with serving(silent) as server:
        remote = await impatient(server.url)
        for call in (lambda: remote.get(RECORD), lambda: remote.put(RECORD, b"x"), lambda: remote.list("")):
            with pytest.raises(Unreachable, match="no answer in time"):
                await call()
        await remote.aclose()


async def test_a_body_that_stops_is_given_up() -> None:
    async def stops(stream: anyio.abc.SocketStream, request: Request) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await anyio.sleep_forever()

    async with serving(stops) as server:
        remote = await impatient(server.url)
        with pytest.raises(Unreachable, match="no answer in time"):
            await remote.get(RECORD)
        await remote.aclose()


async def test_a_body_that_drips_for_ever_ends_with_the_attempt() -> None:
    """Each byte comes in time, and all of them never: the time of an attempt is bounded as a whole."""

    async def drips(stream: anyio.abc.SocketStream, request: Request) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n")
        while True:
            await stream.send(b"x")
            await anyio.sleep(0.01)

    async with serving(drips) as server, opened(server.url) as inner:
        remote = RetryRemote(inner, attempts=1, timeout_s=0.2)
        with pytest.raises(Unreachable, match="took longer"):
            await remote.get(RECORD)


async def test_a_server_that_does_not_read_is_given_up() -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        remote = await impatient(f"http://127.0.0.1:{port}/notes", STALL)
        with anyio.fail_after(30), pytest.raises(Unreachable, match="does not read"):
            await remote.put(f"packs/{'0' * 64}", bytes(16 << 20))
        await remote.aclose()


async def test_nobody_there() -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with opened(f"http://127.0.0.1:{port}/notes") as remote:
        for error in await all_errors(remote):
            assert isinstance(error, Unreachable)
            assert f"127.0.0.1:{port}: no connection" in str(error)


async def test_a_refusal_before_the_body_was_read_is_heard() -> None:
    """A server may answer and close while a large body is still on its way."""

    async with await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as listener:

        async def refuse(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                await stream.receive()
                await stream.send(b"HTTP/1.1 413 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, refuse)
            async with opened(f"http://127.0.0.1:{port}/notes") as remote:
                # Closing on unread bytes resets the connection, which may overtake the answer.
                with anyio.fail_after(30), pytest.raises(RemoteError):
                    await remote.put(f"packs/{'0' * 64}", bytes(16 << 20))
            tasks.cancel_scope.cancel()

"""What each status of a server becomes, for each call; its texts are never trusted."""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
import respx

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
    UnsupportedByRemote,
)
from syncagent.remote import Access, open_remote
from syncagent.remote.base import Remote
from syncagent.remote.http.address import read_address
from syncagent.remote.http.client import HttpClient
from syncagent.remote.http.remote import HttpRemote

pytestmark = pytest.mark.anyio

URL = "http://sync.example/base/notes"
API = "http://sync.example/base/v1"
RECORD = f"devices/{'0' * 32}"
TOKEN = "the-secret-token"

CALLS: dict[str, Callable[[Remote], Awaitable[object]]] = {
    "put": lambda remote: remote.put(RECORD, b"x"),
    "overwrite": lambda remote: remote.put(RECORD, b"x", overwrite=True),
    "get": lambda remote: remote.get(RECORD),
    "head": lambda remote: remote.head(RECORD),
    "delete": lambda remote: remote.delete(RECORD),
    "list": lambda remote: remote.list("devices/"),
    "wait": lambda remote: remote.wait_for_change("c", 1),
}
EVERY = tuple(CALLS)
PUTS = ("put", "overwrite")
NOT_PUTS = tuple(call for call in CALLS if call not in PUTS)

TABLE: list[tuple[int, tuple[str, ...], type[RemoteError] | None]] = [
    (101, EVERY, BadResponse),
    (202, EVERY, BadResponse),
    (200, (*PUTS, "delete"), BadResponse),
    (201, PUTS, None),
    (201, NOT_PUTS, BadResponse),
    (204, (*PUTS, "get", "head", "list", "wait"), BadResponse),
    (204, ("delete",), None),
    (206, EVERY, BadResponse),
    *((status, EVERY, BadResponse) for status in (300, 301, 302, 303, 304, 307, 308)),
    (400, PUTS, ObjectRefused),
    (400, NOT_PUTS, BadResponse),
    (401, EVERY, Unauthorized),
    (402, EVERY, Forbidden),
    (403, EVERY, Forbidden),
    (404, EVERY, Unreachable),
    (405, (*PUTS, "get", "head", "delete", "list"), BadResponse),
    (405, ("wait",), UnsupportedByRemote),
    (406, EVERY, BadResponse),
    (407, EVERY, Unauthorized),
    (408, EVERY, Unreachable),
    (409, PUTS, ObjectRefused),
    (409, NOT_PUTS, BadResponse),
    (410, EVERY, BadResponse),
    (411, EVERY, BadResponse),
    (412, ("put",), ObjectExists),
    (412, (*NOT_PUTS, "overwrite"), BadResponse),
    (413, PUTS, ObjectRefused),
    (413, NOT_PUTS, BadResponse),
    (415, EVERY, BadResponse),
    (416, EVERY, BadResponse),
    (418, EVERY, BadResponse),
    (421, EVERY, BadResponse),
    (422, PUTS, ObjectRefused),
    (422, NOT_PUTS, BadResponse),
    (425, EVERY, Unreachable),
    (429, EVERY, RateLimited),
    (451, EVERY, Forbidden),
    (499, EVERY, BadResponse),
    (500, EVERY, Unreachable),
    (501, (*PUTS, "get", "head", "delete", "list"), Unreachable),
    (501, ("wait",), UnsupportedByRemote),
    (502, EVERY, Unreachable),
    (503, EVERY, Unreachable),
    (504, EVERY, Unreachable),
    (505, EVERY, Unreachable),
    (507, EVERY, QuotaExceeded),
    (511, EVERY, Unreachable),
    (599, EVERY, Unreachable),
    (600, EVERY, BadResponse),
    (999, EVERY, BadResponse),
]


@pytest.fixture
async def remote() -> AsyncIterator[Remote]:
    remote = await open_remote(URL, access=Access(token=TOKEN, plain_http=True), retry=False)
    yield remote
    await remote.aclose()


def problem(status: int, kind: str = "", title: str = "", **members: object) -> httpx.Response:
    document = {"type": kind, "title": title, "status": status, **members}
    return httpx.Response(status, json=document, headers={"Content-Type": "application/problem+json"})


async def error_of(remote: Remote, call: str, response: httpx.Response) -> RemoteError | None:
    with respx.mock:
        respx.route(host="sync.example").mock(return_value=response)
        try:
            await CALLS[call](remote)
        except RemoteError as error:
            assert TOKEN not in f"{error} {error.todo}"
            return error
    return None


@pytest.mark.parametrize(
    ("status", "call", "kind"),
    [(status, call, kind) for status, calls, kind in TABLE for call in calls],
)
async def test_a_status_has_its_meaning(
    remote: Remote, status: int, call: str, kind: type[RemoteError] | None
) -> None:
    """404, 412, 507 and all others become errors of ours (row A14)."""
    error = await error_of(remote, call, httpx.Response(status))
    assert type(error) is (kind or type(None))


@pytest.mark.parametrize("call", EVERY)
async def test_every_status_that_there_can_be_is_an_answer_or_an_error_of_ours(call: str) -> None:
    """Whatever the number: nothing else comes out, and nothing that is no success passes for one."""
    status = 0
    transport = httpx.MockTransport(lambda request: httpx.Response(status))
    remote = HttpRemote(HttpClient(read_address(URL), TOKEN, transport))
    passed = set()
    for status in range(200, 1000):
        try:
            await CALLS[call](remote)
        except RemoteError:
            continue
        passed.add(status)
    expected = {"put": {201}, "overwrite": {201}, "delete": {204}}
    assert passed == expected.get(call, set())


@pytest.mark.parametrize("call", EVERY)
@pytest.mark.parametrize(
    "kind", ["no-such-vault", "urn:syncagent:no-such-vault", "https://x/problems/no-such-vault"]
)
async def test_a_vault_that_is_not_there_is_never_an_empty_one(remote: Remote, call: str, kind: str) -> None:
    response = problem(404, kind)
    if call == "head":  # no body can tell
        response = httpx.Response(404, headers={"Content-Type": "application/problem+json"})
    error = await error_of(remote, call, response)
    assert isinstance(error, ObjectNotFound if call == "head" else RemoteStopped)
    if call != "head":
        assert "'notes'" in str(error)


async def test_of_the_vaults_own_object_it_means_that_it_is_absent(remote: Remote) -> None:
    """A device that knew it says then that the remote went back; one that joins, that none is there."""
    with respx.mock:
        respx.get(f"{API}/vaults/notes/objects/vault").mock(return_value=problem(404, "no-such-vault"))
        with pytest.raises(ObjectNotFound):
            await remote.get("vault")


@pytest.mark.parametrize("call", EVERY)
@pytest.mark.parametrize("kind", ["no-such-object", "something-new", ""])
async def test_an_object_is_absent_where_a_sync_server_says_so(remote: Remote, call: str, kind: str) -> None:
    absent = {"get": ObjectNotFound, "head": ObjectNotFound, "delete": type(None)}
    assert type(await error_of(remote, call, problem(404, kind))) is absent.get(call, BadResponse)


@pytest.mark.parametrize("call", EVERY)
async def test_a_path_that_the_server_does_not_know_is_no_absent_object(remote: Remote, call: str) -> None:
    """The address leads to a sync server, and to another place of it."""
    if call != "head":
        error = await error_of(remote, call, problem(404, "no-such-path"))
        assert type(error) is BadResponse
        assert "address" in error.todo


@pytest.mark.parametrize("call", EVERY)
@pytest.mark.parametrize("status", [200, 201, 204, 206, 404])
async def test_a_web_page_is_no_answer(remote: Remote, call: str, status: int) -> None:
    """A login page, or a proxy that leads elsewhere, is no remote that lost or altered everything."""
    error = await error_of(remote, call, httpx.Response(status, html="<h1>Welcome</h1>"))
    assert type(error) is Unreachable
    assert "sync server" in str(error)


async def test_a_token_that_may_only_add_is_an_outcome_of_its_own(remote: Remote) -> None:
    for call in ("delete", "overwrite"):
        error = await error_of(remote, call, problem(403, "urn:x:append-only", "this token may not delete"))
        assert type(error) is AppendOnly
        assert "may not delete" in str(error)
    assert type(await error_of(remote, "delete", problem(403, "urn:x:not-yours"))) is Forbidden


async def test_a_full_quota_says_of_which_vault_and_what_the_server_says(remote: Remote) -> None:
    error = await error_of(remote, "put", problem(507, "quota", detail="10 of 10 MiB are used"))
    assert isinstance(error, QuotaExceeded)
    assert "'notes'" in str(error)
    assert "10 of 10 MiB are used" in str(error)


async def test_a_redirect_is_named_and_not_followed(remote: Remote) -> None:
    """The token would go with it."""
    for status in (301, 302, 303, 307, 308):
        for call, ask in CALLS.items():
            with respx.mock(assert_all_called=False) as router:
                router.route(host="sync.example").respond(
                    status, headers={"Location": "https://evil.example/\x1b[2J"}
                )
                elsewhere = router.route(host="evil.example").respond(200)
                with pytest.raises(BadResponse, match=r"redirects to 'https://evil\.example/") as caught:
                    await ask(remote)
                assert "\x1b" not in str(caught.value), call
                assert not elsewhere.called


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        (" 7 ", 7),
        ("3600", 3600),
        ("3601", 3600),
        ("999999999999999", 3600),
        ("9" * 400, None),
        ("-1", 0),
        ("-999999", 0),
        ("1.5", None),
        ("1e9", None),
        ("inf", None),
        ("nan", None),
        ("", None),
        ("soon", None),
        ("٣", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Thu, 01 Jan 1970 00:00:00 -9999", None),
        ("\x00", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_patience_is_read_and_bounded(
    remote: Remote, status: int, text: str, seconds: int | None
) -> None:
    response = httpx.Response(status, headers=[(b"Retry-After", text.encode())])
    error = await error_of(remote, "get", response)
    assert isinstance(error, RateLimited if status == 429 else Unreachable)
    assert error.retry_after_s == seconds


@pytest.mark.parametrize(
    "text",
    ["\x1b[31mred", "a\nb\rc", "\u202egnp.exe", "\x9b1m", "\ud7ff\U000e0001", "x" * 100_000, "\0"],
    ids=lambda text: ascii(text[:8]),
)
async def test_texts_of_a_server_are_short_and_escaped(remote: Remote, text: str) -> None:
    for status in (400, 401, 403, 429, 500, 507):
        error = await error_of(remote, "put", problem(status, "x", text))
        assert error is not None
        assert str(error).isprintable()
        assert len(str(error)) < 1500
    response = httpx.Response(
        500, headers=[(b"Location", text[:50].encode()), (b"Retry-After", text[:50].encode())]
    )
    assert (error := await error_of(remote, "get", response)) is not None
    assert str(error).isprintable()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"type": 5}',
        b'{"title": {"a": []}}',
        b"\xff\xfe{}",
        b'{"type": "\xff"}',
        b"[" * 100_000,
        b'{"x":' * 50_000,
        b'{"title": "' + b"x" * (1 << 20) + b'"}',
    ],
    ids=lambda body: ascii(body[:10]),
)
async def test_a_problem_document_that_is_none_is_left_out(remote: Remote, body: bytes) -> None:
    response = functools.partial(
        httpx.Response, content=body, headers={"Content-Type": "application/problem+json"}
    )
    assert type(await error_of(remote, "get", response(500))) is Unreachable
    assert type(await error_of(remote, "delete", response(403))) is Forbidden
    assert type(await error_of(remote, "get", response(404))) is ObjectNotFound  # by its type of document

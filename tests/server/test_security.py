"""What an attacker sends: paths, names, lengths in two ways, headers without end, tokens that are none."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from syncagent.server.embedded import EmbeddedServer
from syncagent.server.limits import Limits
from tests.server.raw import connected, exchange, head, read_all, read_answer, status_of
from tests.server.running import (
    DEVICE,
    RECORD,
    accounts_of,
    add_user,
    client_of,
    object_path,
    pack_name,
    running_server,
)

OBJECTS = "/v1/vaults/default/objects"

BAD_NAMES = [
    "",
    "/",
    "VAULT",
    "vault/",
    "vault%0a",
    "vault%00",
    "vault%20",
    "vault/../vault",
    "../vault",
    "../../bob/default/vault",
    "..%2f..%2fbob%2fdefault%2fvault",
    "%2e%2e/vault",
    "..%5c..%5cvault",
    "//etc/passwd",
    ".tmp/" + "0" * 32,
    "keys/" + "0" * 31,
    "keys/" + "A" * 32,
    "keys//" + "0" * 32,
    "keys/./" + "0" * 32,
    f"devices/{DEVICE}/",
    f"devices/{DEVICE}%2f",
    f"devices%2f{DEVICE}",
    "packs/" + "0" * 32,
    "packs%5c" + "0" * 64,
    f"journal/{DEVICE}",
    f"journal/{DEVICE}/1",
    f"journal/{DEVICE}/00000000000%d9%a1",  # an Arabic digit
    f"journal/../journal/{DEVICE}/000000000001",
    f"journal/{DEVICE}/000000000001;x=y",
    "vault%0d%0aSet-Cookie:%20x=y",
    "%c0%ae%c0%ae/vault",
    "%ff",
    "x" * 5000,
]
BAD_VAULTS = ["..", ".", "%2e%2e", "a%2fb", "..%2falice", "A", "a" * 65, "a b", "-a", "a%0a", "%00"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """One that does not wait long for what is not a whole request."""
    with EmbeddedServer(tmp_path_factory.mktemp("server") / "data", limits=Limits(header_s=2)) as server:
        yield server


@pytest.fixture
def token(client: httpx.Client) -> str:
    return client.headers["Authorization"].removeprefix("Bearer ")


def files_below(server: EmbeddedServer, client: httpx.Client) -> list[str]:
    """What the user has stored, by the server's word."""
    return [one["name"] for one in client.get(OBJECTS).json()["objects"]]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_malformed_names_are_refused_by_every_call(
    server: EmbeddedServer, client: httpx.Client, token: str, name: str
) -> None:
    """No path leads out of a vault's folder (row B5)."""
    for method in ("PUT", "GET", "HEAD", "DELETE"):
        request = head(method, f"{OBJECTS}/{name}", token, "Content-Length: 1", "Connection: close") + b"x"
        answer = exchange(server.url, request)
        assert status_of(answer) == 400, answer
        assert b"Set-Cookie" not in answer
        if method != "HEAD":
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"] == "malformed-name"
    assert files_below(server, client) == []


@pytest.mark.parametrize("vault", BAD_VAULTS)
def test_malformed_vaults_are_refused_by_every_call(
    server: EmbeddedServer, client: httpx.Client, token: str, vault: str
) -> None:
    for method, rest in (
        ("PUT", ""),
        ("GET", "/objects"),
        ("GET", f"/objects/{RECORD}"),
        ("GET", "/changes"),
    ):
        request = head(method, f"/v1/vaults/{vault}{rest}", token, "Content-Length: 0", "Connection: close")
        assert status_of(exchange(server.url, request)) in (400, 404)
    assert client.get("/v1/vaults").json() == {"vaults": ["default"]}


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: 5", "Content-Length: 5"],
        ["Content-Length: 5, 5"],
        ["Content-Length: +5"],
        ["Content-Length: -5"],
        ["Content-Length: 0x5"],
        ["Content-Length: 5 5"],
        ["Content-Length: 5_0"],
        ["Content-Length: \x0b5"],
        ["Content-Length: "],
        ["Content-Length: 99999999999999999999999999"],
        ["Content-Length : 5"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Transfer-Encoding: chunked"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: identity", "Content-Length: 5"],
        ["Transfer-Encoding:\x0bchunked", "Content-Length: 5"],
        ["Transfer-Encoding : chunked", "Content-Length: 5"],
        ["Transfer-Encoding:", " chunked", "Content-Length: 5"],
        ["X: y\nTransfer-Encoding: chunked", "Content-Length: 5"],
        ["X: y\rContent-Length: 5", "Content-Length: 6"],
        ["X\0: y", "Content-Length: 5"],
        ["X: y\0", "Content-Length: 5"],
        ["X y: z", "Content-Length: 5"],
        [": y", "Content-Length: 5"],
    ],
    ids=repr,
)
def test_a_second_request_cannot_hide_in_a_first(
    server: EmbeddedServer, client: httpx.Client, token: str, lines: list[str]
) -> None:
    hidden = head("DELETE", object_path(RECORD), token)
    body = b"0\r\n\r\n" if "chunked" in "".join(lines) else b"xxxxx"
    client.put(object_path(RECORD), content=b"precious")
    for name in (RECORD, pack_name(b"xxxxx"), pack_name(body)):
        answer = exchange(server.url, head("PUT", object_path(name), token, *lines) + body + hidden)
        assert answer.count(b"HTTP/1.1 ") == 1, answer
        assert status_of(answer) in (400, 411, 413), answer
    assert client.get(object_path(RECORD)).content == b"precious"
    assert files_below(server, client) == [RECORD]


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET",
        b"GET /v1/health",
        b"GET /v1/health HTTP/9.9",
        b"GET /v1/health HTTP/1.1 x",
        b"G\xc3\x84T /v1/health HTTP/1.1",
        b"GET /v1/h\x00alth HTTP/1.1",
        b"GET http:/\\ HTTP/1.1",
        b"CONNECT x:1 HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"\xff" * 100,
    ],
)
def test_what_is_no_request_ends_the_connection(server: EmbeddedServer, request_line: bytes) -> None:
    answer = exchange(server.url, request_line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer == b"" or status_of(answer) in (400, 404, 405, 505), answer


@pytest.mark.parametrize("upgrade", ["h2c", "websocket", "TLS/1.0"])
def test_nothing_else_is_spoken(server: EmbeddedServer, token: str, upgrade: str) -> None:
    lines = ("Connection: Upgrade, close", f"Upgrade: {upgrade}", "Content-Length: 0")
    answer = exchange(server.url, head("GET", "/v1/health", token, *lines))
    assert status_of(answer) == 200


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["Authorization: Basic dXNlcjpwYXNz"],
        ["Authorization: Bearer"],
        ["Authorization: Bearer "],
        ["Authorization: Bearer {token}x"],
        ["Authorization: Bearer {token} x"],
        ["Authorization: Bearer {token}", "Authorization: Bearer {token}"],
        ["Authorization: {token}"],
        ["Cookie: token={token}"],
    ],
    ids=repr,
)
def test_ways_to_show_no_token(server: EmbeddedServer, token: str, lines: list[str]) -> None:
    shown = [line.format(token=token) for line in lines]
    for path in ("/v1/vaults", f"/v1/vaults?access_token={token}"):
        request = "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", "Connection: close", *shown, "", ""])
        assert status_of(exchange(server.url, request.encode())) == 401


def test_a_secret_counts_only_with_its_own_id(server: EmbeddedServer, user: str) -> None:
    first, second = server.add_user(user), server.add_user(f"{user}-other")
    for token in (
        first[:20] + second[20:],
        first.upper(),
        first[:-1] + ("A" if first[-1] != "A" else "B"),
        first.replace("sat_", "tas_"),
    ):
        with client_of(server.url, token) as client:
            assert client.get("/v1/vaults").status_code == 401


def test_the_accounts_hold_no_token(tmp_path: Path) -> None:
    token = add_user(tmp_path)
    with accounts_of(tmp_path) as accounts:
        assert accounts.authenticate(token) is not None
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("accounts.db*"))
    assert token.encode() not in stored and token.split("_", 2)[2].encode() not in stored
    assert token.split("_")[1].encode() in stored
    assert (tmp_path / "accounts.db").stat().st_mode & 0o077 == 0


def test_the_folder_is_for_its_owner_only(tmp_path: Path) -> None:
    add_user(tmp_path / "data")
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0


def test_ten_thousand_bad_tokens_change_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    token = add_user(data)
    with running_server(data) as server, client_of(server.url, token) as client:
        client.put("/v1/vaults/default")
        before = _memory_kib(server.process.pid)
        with connected(server.url) as attacker:
            answers = attacker.makefile("rb")
            for batch in range(100):
                tokens = (f"sat_{batch * 100 + number:016x}_{'A' * 43}" for number in range(100))
                attacker.sendall(b"".join(head("GET", OBJECTS, token) for token in tokens))
                for _ in range(100):
                    assert answers.readline() == b"HTTP/1.1 401 Unauthorized\r\n"
                    length = 0
                    while (line := answers.readline()) != b"\r\n":
                        if line.lower().startswith(b"content-length:"):
                            length = int(line.split(b":")[1])
                    answers.read(length)
            answers.close()
        assert client.get(OBJECTS).status_code == 200
        assert _memory_kib(server.process.pid) - before < 8 << 10


def test_a_header_of_a_hundred_megabytes_is_not_kept(tmp_path: Path) -> None:
    data = tmp_path / "data"
    token = add_user(data)
    with running_server(data) as server, client_of(server.url, token) as client:
        for piece in (b"a" * (1 << 20), b"X: y\r\n" * (160 << 10)):
            sent = 0
            with connected(server.url) as attacker:
                attacker.sendall(b"GET /v1/health HTTP/1.1\r\nX: ")
                try:
                    while sent < 100 << 20:
                        attacker.sendall(piece)
                        sent += len(piece)
                except ConnectionError:
                    pass
            assert sent < 20 << 20  # what lay in the sockets' buffers
        assert client.get("/v1/vaults").status_code == 200
        assert _memory_kib(server.process.pid, "VmHWM") < 120 << 10


@pytest.mark.parametrize(
    ("path", "lines", "status"),
    [
        ("/v1/health?" + "x" * 9000, [], 414),
        ("/v1/" + "x" * 9000, [], 414),
        ("/v1/health", ["X: " + "y" * 17_000], 431),
        ("/v1/health", ["X: y"] * 3000, 431),
        ("/v1/health", ["X: " + "y" * 7000], 200),
    ],
    ids=["query", "path", "one-header", "many-headers", "allowed"],
)
def test_urls_and_headers_have_a_size(
    server: EmbeddedServer, path: str, lines: list[str], status: int
) -> None:
    request = head("GET", path, "none", *lines, "Connection: close")
    assert status_of(exchange(server.url, request)) == status


def test_a_refused_body_is_read_to_its_end_and_the_connection_lives(
    server: EmbeddedServer, client: httpx.Client, token: str
) -> None:
    client.put(object_path(pack_name(bytes(1 << 20))), content=bytes(1 << 20))
    with connected(server.url) as connection:
        path = object_path(pack_name(bytes(1 << 20)))
        for _ in range(3):
            lines = (f"Content-Length: {1 << 20}", "If-None-Match: *")
            connection.sendall(head("PUT", path, token, *lines))
            assert status_of(read_answer(connection)) == 412  # before a byte of the body
            connection.sendall(bytes(1 << 20))
        connection.sendall(head("GET", "/v1/vaults", token, "Connection: close"))
        assert status_of(read_all(connection)) == 200


def test_a_body_that_was_not_asked_for_is_not_expected_any_more(server: EmbeddedServer, token: str) -> None:
    for expect, path in (
        ("100-continue", object_path("packs/x")),
        ("100-Continue", object_path(RECORD, vault="of-nobody")),
    ):
        answer = exchange(server.url, head("PUT", path, token, "Content-Length: 99", f"Expect: {expect}"))
        assert status_of(answer) in (400, 404) and b"connection: close" in answer.lower()


def test_an_endless_body_is_cut_off(server: EmbeddedServer, token: str) -> None:
    sent = 0
    with connected(server.url) as connection:
        connection.sendall(head("PUT", object_path(RECORD), token, f"Content-Length: {1 << 40}"))
        assert status_of(read_answer(connection)) == 413
        try:
            while sent < 1 << 30:
                connection.sendall(bytes(1 << 20))
                sent += 1 << 20
        except ConnectionError:
            pass
    assert sent < 100 << 20


def test_what_an_attacker_plants_in_the_folder_is_not_followed(tmp_path: Path) -> None:
    data, outside = tmp_path / "data", tmp_path / "outside"
    outside.mkdir()
    (outside / DEVICE).write_bytes(b"secret")
    with EmbeddedServer(data) as server, client_of(server.url, server.add_user("alice")) as client:
        client.put("/v1/vaults/default")
        vault = data / "vaults" / "alice" / "default"
        (vault / "devices").symlink_to(outside)
        (vault / "vault").symlink_to(outside / DEVICE)
        (data / "vaults" / "alice" / "linked").symlink_to(outside)
        for name in (RECORD, "vault"):
            assert client.get(object_path(name)).status_code == 404
            assert client.put(object_path(name), content=b"x").status_code in (409, 201)
            client.delete(object_path(name))
        assert (outside / DEVICE).read_bytes() == b"secret"
        assert list(outside.iterdir()) == [outside / DEVICE]


def _memory_kib(pid: int, field: str = "VmRSS") -> int:
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("this system does not tell")
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])

"""Every call of the API, and every status that it answers with."""

import base64
import hashlib
import shutil
from pathlib import Path

import httpx
import pytest

from syncagent.server.embedded import EmbeddedServer
from syncagent.server.limits import Limits
from tests.server.running import DEVICE, RECORD, batch_name, client_of, object_path, pack_name

CREATE = {"If-None-Match": "*"}


def digest_header(data: bytes) -> dict[str, str]:
    text = base64.b64encode(hashlib.sha256(data).digest()).decode()
    return {"Content-Digest": f"sha-256=:{text}:"}


def put(client: httpx.Client, name: str, data: bytes, **headers: str) -> httpx.Response:
    return client.put(object_path(name), content=data, headers={**CREATE, **headers})


def refused(answer: httpx.Response, status: int, kind: str) -> httpx.Response:
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json")
    document = answer.json()
    assert (document["type"], document["status"]) == (kind, status)
    assert document["detail"]
    return answer


def test_an_object_comes_back(client: httpx.Client) -> None:
    data = bytes(range(256)) * 5000  # more than two pieces of the spool
    name = pack_name(data)
    assert put(client, name, data, **digest_header(data)).status_code == 201
    answer = client.get(object_path(name))
    assert (answer.status_code, answer.content) == (200, data)
    assert answer.headers["ETag"] == f'"{hashlib.sha256(data).hexdigest()}"'
    assert answer.headers["Content-Length"] == str(len(data))
    answer = client.head(object_path(name))
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(data))


def test_the_etag_of_what_is_no_pack(client: httpx.Client) -> None:
    put(client, RECORD, b"record")
    expected = f'"{hashlib.sha256(b"record").hexdigest()}"'
    assert client.get(object_path(RECORD)).headers["ETag"] == expected
    assert client.head(object_path(RECORD)).headers["ETag"] == expected


def test_a_taken_name_is_not_replaced(client: httpx.Client) -> None:
    put(client, RECORD, b"first")
    refused(put(client, RECORD, b"second"), 412, "object-exists")
    refused(put(client, RECORD, b"first"), 412, "object-exists")
    assert client.get(object_path(RECORD)).content == b"first"


def test_without_if_none_match_it_is_replaced(client: httpx.Client) -> None:
    for data in (b"first", b"second, longer", b"3"):
        assert client.put(object_path(RECORD), content=data).status_code == 201
        assert client.get(object_path(RECORD)).content == data


def test_another_condition_is_not_understood(client: httpx.Client) -> None:
    refused(put(client, RECORD, b"x", **{"If-None-Match": '"etag"'}), 400, "malformed-request")


@pytest.mark.parametrize(
    ("asked", "expected", "content_range"),
    [
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=0-9", b"0123456789", "bytes 0-9/10"),
        ("bytes=3-5", b"345", "bytes 3-5/10"),
        ("bytes=9-", b"9", "bytes 9-9/10"),
        ("bytes=5-1000000000000000000000000", b"56789", "bytes 5-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-1000000000000000000000000", b"0123456789", "bytes 0-9/10"),
    ],
)
def test_ranges(client: httpx.Client, asked: str, expected: bytes, content_range: str) -> None:
    """206 (row A14)."""
    put(client, RECORD, b"0123456789")
    answer = client.get(object_path(RECORD), headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, expected)
    assert answer.headers["Content-Range"] == content_range
    assert answer.headers["Content-Length"] == str(len(expected))


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-12", "bytes=99999999999999999999999-", "bytes=-0"])
def test_ranges_outside(client: httpx.Client, asked: str) -> None:
    """416 (row A14)."""
    put(client, RECORD, b"0123456789")
    answer = client.get(object_path(RECORD), headers={"Range": asked})
    refused(answer, 416, "range-not-satisfiable")
    assert answer.headers["Content-Range"] == "bytes */10"


@pytest.mark.parametrize(
    "asked",
    ["bytes=5-3", "bytes=--5", "bytes=-", "bytes=1-2,4-5", "lines=1-2", "bytes=a-b", "bytes= 1-2", "1-2"],
)
def test_what_is_no_range_is_passed_over(client: httpx.Client, asked: str) -> None:
    put(client, RECORD, b"0123456789")
    answer = client.get(object_path(RECORD), headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, b"0123456789")


def test_a_deleted_object_is_gone(client: httpx.Client) -> None:
    put(client, RECORD, b"x")
    for _ in range(2):
        answer = client.delete(object_path(RECORD))
        assert (answer.status_code, answer.content) == (204, b"")
    refused(client.get(object_path(RECORD)), 404, "no-such-object")
    assert client.head(object_path(RECORD)).status_code == 404
    assert put(client, RECORD, b"again").status_code == 201


def test_a_listing_is_ascending_and_comes_by_page(client: httpx.Client) -> None:
    names = [RECORD, *(batch_name(seq) for seq in range(1, 8)), pack_name(b"x")]
    for name in names:
        put(client, name, b"x")
    path, seen, after, more = "/v1/vaults/default/objects", [], "", True
    while more:
        document = client.get(path, params={"limit": 2, "after": after}).json()
        assert 0 < len(document["objects"]) <= 2
        seen += [one["name"] for one in document["objects"]]
        after, more = seen[-1], document["more"]
    assert seen == sorted(names)
    (one,) = client.get(path, params={"prefix": "devices/"}).json()["objects"]
    assert one["size"] == 1 and one["created"] > 1_600_000_000
    assert len(client.get(path, params={"limit": 5000}).json()["objects"]) == 9


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("prefix=pack", "malformed-name"),
        ("prefix=../", "malformed-name"),
        ("after=x", "malformed-name"),
        ("limit=0", "malformed-request"),
        ("limit=-1", "malformed-request"),
        ("limit=x", "malformed-request"),
        ("limit=1&limit=2", "malformed-request"),
    ],
)
def test_listings_that_cannot_be(client: httpx.Client, query: str, kind: str) -> None:
    refused(client.get(f"/v1/vaults/default/objects?{query}"), 400, kind)


def test_vaults_are_created_once_and_listed(client: httpx.Client) -> None:
    assert client.get("/v1/vaults").json() == {"vaults": ["default"]}
    assert client.put("/v1/vaults/notes").status_code == 201
    assert client.put("/v1/vaults/notes").status_code == 200
    assert client.get("/v1/vaults").json() == {"vaults": ["default", "notes"]}


@pytest.mark.parametrize("vault", ["Notes", ".notes", "-x", "x" * 65, "no+tes"])
def test_vaults_that_cannot_be(client: httpx.Client, vault: str) -> None:
    refused(client.put(f"/v1/vaults/{vault}"), 400, "malformed-name")
    refused(client.get(f"/v1/vaults/{vault}/objects"), 400, "malformed-name")


def test_an_unknown_vault_is_told_by_every_call(client: httpx.Client) -> None:
    vault = "/v1/vaults/unknown"
    for method, path in (
        ("GET", "objects"),
        ("GET", "changes"),
        ("PUT", f"objects/{RECORD}"),
        ("GET", f"objects/{RECORD}"),
        ("DELETE", f"objects/{RECORD}"),
    ):
        refused(client.request(method, f"{vault}/{path}", content=b"x"), 404, "no-such-vault")
    assert client.head(f"{vault}/objects/{RECORD}").status_code == 404


def test_a_vault_that_somebody_removes_is_unknown_and_one_whose_disk_is_away_is_not(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with EmbeddedServer(data) as server, client_of(server.url, server.add_user("alice")) as client:
        client.put("/v1/vaults/default")
        put(client, RECORD, b"x")
        (data / "vaults").rename(tmp_path / "away")
        for path in ("/v1/vaults/default/objects", object_path(RECORD), "/v1/vaults/default/changes"):
            refused(client.get(path), 503, "storage-failed")
        assert client.get("/v1/health").status_code == 503
        (tmp_path / "away").rename(data / "vaults")
        assert client.get(object_path(RECORD)).content == b"x"
        shutil.rmtree(data / "vaults" / "alice" / "default")
        for path in ("/v1/vaults/default/objects", object_path(RECORD), "/v1/vaults/default/changes"):
            refused(client.get(path), 404, "no-such-vault")
        assert client.put("/v1/vaults/default").status_code == 201
        assert put(client, RECORD, b"y").status_code == 201


def test_a_user_has_so_many_vaults(tmp_path: Path) -> None:
    with (
        EmbeddedServer(tmp_path / "data", limits=Limits(vaults=2)) as server,
        client_of(server.url, server.add_user("alice")) as client,
    ):
        assert [client.put(f"/v1/vaults/{name}").status_code for name in "abc"] == [201, 201, 507]
        refused(client.put("/v1/vaults/c"), 507, "too-many-vaults")
        assert client.put("/v1/vaults/a").status_code == 200


def test_two_users_have_vaults_of_one_name(client: httpx.Client, other: httpx.Client) -> None:
    """Users do not see each other's (row B5)."""
    put(client, RECORD, b"of alice")
    for call in (other.get, other.delete):
        refused(call(object_path(RECORD)), 403, "not-your-vault")
    refused(put(other, RECORD, b"of bob"), 403, "not-your-vault")
    refused(other.get("/v1/vaults/default/objects"), 403, "not-your-vault")
    refused(other.get("/v1/vaults/default/changes"), 403, "not-your-vault")
    assert other.get("/v1/vaults").json() == {"vaults": []}
    assert other.put("/v1/vaults/default").status_code == 201
    refused(other.get(object_path(RECORD)), 404, "no-such-object")
    put(other, RECORD, b"of bob")
    assert client.get(object_path(RECORD)).content == b"of alice"


def test_an_append_only_token_adds_and_does_no_more(server: EmbeddedServer, user: str) -> None:
    with client_of(server.url, server.add_user(user, is_append_only=True)) as bob:
        bob.put("/v1/vaults/default")
        assert put(bob, RECORD, b"first").status_code == 201
        refused(put(bob, RECORD, b"second"), 412, "object-exists")
        refused(bob.put(object_path(RECORD), content=b"second"), 403, "append-only")
        refused(bob.delete(object_path(RECORD)), 403, "append-only")
        refused(bob.delete(object_path(batch_name(1))), 403, "append-only")
        assert bob.put(object_path(batch_name(1)), content=b"new").status_code == 201
        assert bob.get(object_path(RECORD)).content == b"first"


def test_a_digest_that_differs_stores_nothing(client: httpx.Client) -> None:
    refused(put(client, RECORD, b"x", **digest_header(b"y")), 422, "digest-mismatch")
    refused(put(client, pack_name(b"y"), b"x"), 422, "name-mismatch")
    assert client.get("/v1/vaults/default/objects").json() == {"objects": [], "more": False}


@pytest.mark.parametrize(
    "digest", ["sha-256", "sha-256=abc", "sha-256=::", "sha-256=:!!!!:", f"sha-256=:{'A' * 42}==:"]
)
def test_digests_that_cannot_be_read(client: httpx.Client, digest: str) -> None:
    refused(put(client, RECORD, b"x", **{"Content-Digest": digest}), 400, "malformed-request")


def test_other_digests_are_passed_over(client: httpx.Client) -> None:
    both = f"sha-512=:AAAA:, {digest_header(b'x')['Content-Digest']}"
    assert put(client, RECORD, b"x", **{"Content-Digest": both}).status_code == 201
    assert put(client, batch_name(1), b"x", **{"Content-Digest": "md5=:AAAA:"}).status_code == 201


def test_sizes_that_cannot_be(client: httpx.Client) -> None:
    answer = refused(put(client, RECORD, bytes(4097)), 413, "too-large")
    assert answer.json()["limit_bytes"] == 4096
    assert put(client, RECORD, bytes(4096)).status_code == 201
    refused(put(client, batch_name(1), b""), 422, "empty-body")


def test_a_chunked_body_is_asked_for_its_length(client: httpx.Client) -> None:
    answer = client.put(object_path(RECORD), content=iter([b"x"]), headers=CREATE)
    refused(answer, 411, "length-required")


@pytest.mark.parametrize("token", [None, "x", "sat_0123456789abcdef_" + "A" * 43])
def test_without_a_valid_token_nothing_is_told(
    server: EmbeddedServer, client: httpx.Client, token: str | None
) -> None:
    with client_of(server.url, token) as stranger:
        for method, path in (
            ("GET", "/v1/vaults"),
            ("PUT", "/v1/vaults/new"),
            ("GET", "/v1/vaults/default/objects"),
            ("GET", "/v1/vaults/default/changes"),
            ("PUT", object_path(RECORD)),
            ("GET", object_path("packs/x")),
            ("DELETE", object_path(RECORD)),
        ):
            answer = refused(stranger.request(method, path), 401, "unauthorized")
            assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", object_path(RECORD), "PUT, GET, HEAD, DELETE"),
        ("PATCH", "/v1/vaults/default", "PUT"),
        ("GET", "/v1/vaults/default", "PUT"),
        ("DELETE", "/v1/vaults/default/objects", "GET"),
        ("POST", "/v1/health", "GET, HEAD"),
    ],
)
def test_methods_that_a_path_does_not_know(
    client: httpx.Client, method: str, path: str, allowed: str
) -> None:
    assert refused(client.request(method, path), 405, "no-such-method").headers["Allow"] == allowed


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/vaults/", "/v2/vaults", "/v1/vaults/default/objects2"])
def test_paths_that_are_not_there(client: httpx.Client, path: str) -> None:
    refused(client.get(path), 404, "no-such-path")


def test_health_and_metrics_are_open(server: EmbeddedServer, client: httpx.Client, user: str) -> None:
    client.get(object_path(RECORD))
    with client_of(server.url, None) as anyone:
        assert anyone.get("/v1/health").json() == {"status": "ok"}
        text = anyone.get("/metrics").text
    assert 'syncagent_requests_total{call="get",method="GET",status="404"}' in text
    assert DEVICE not in text and user not in text


def test_a_change_moves_the_cursor(client: httpx.Client) -> None:
    path = "/v1/vaults/default/changes"
    first = client.get(path).json()["cursor"]
    assert client.get(path, params={"cursor": first, "timeout": 0}).json()["cursor"] == first
    put(client, RECORD, b"x")
    second = client.get(path, params={"cursor": first}).json()["cursor"]
    assert second != first
    client.get(object_path(RECORD))
    put(client, RECORD, b"y")
    client.delete(object_path(RECORD))
    assert client.get(path, params={"cursor": second, "timeout": 0.01}).json()["cursor"] == second
    assert client.get(path, params={"cursor": "of another server"}).json()["cursor"] == second


@pytest.mark.parametrize("timeout", ["-1", "nan", "x", "1e", ""])
def test_waits_that_cannot_be(client: httpx.Client, timeout: str) -> None:
    path = "/v1/vaults/default/changes"
    refused(client.get(path, params={"cursor": "x", "timeout": timeout}), 400, "malformed-request")

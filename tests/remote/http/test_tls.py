"""Which certificates count, on both sides of a connection."""

import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.abc
import pytest
from anyio.streams.tls import TLSListener

from syncagent.errors import CertificateRejected, ConfigError, Unreachable
from syncagent.remote import Access, open_remote
from tests.remote.http.certificates import Authority, new_authority
from tests.remote.http.sockets import LONGEST_TEST_S, ok

pytestmark = pytest.mark.anyio

RECORD = f"devices/{'0' * 32}"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return new_authority(tmp_path / "authority.pem")


@contextlib.asynccontextmanager
async def tls_server(certificate: Path, *, clients: Path | None = None) -> AsyncIterator[int]:
    """The port of a server that answers everything with `abcd`, and knows clients of an authority only."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients)
    context.load_cert_chain(certificate)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    async with await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as plain:

        async def answer(stream: anyio.abc.ByteStream) -> None:
            with contextlib.suppress(
                anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError
            ):
                async with stream:
                    while True:
                        await stream.receive()
                        await stream.send(ok(b"abcd"))

        async def ignore(exc: BaseException, stream: anyio.abc.AnyByteStream) -> None:
            await anyio.aclose_forcefully(stream)

        class Listener(TLSListener):
            handle_handshake_error = staticmethod(ignore)  # it would be logged

        listener = Listener(plain, context, standard_compatible=False)
        with anyio.fail_after(LONGEST_TEST_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listener.serve, answer)
                yield plain.extra(anyio.abc.SocketAttribute.local_port)
                tasks.cancel_scope.cancel()


async def get(host: str, port: int, access: Access) -> bytes:
    remote = await open_remote(f"https://{host}:{port}/notes", access=access, retry=False)
    try:
        return await remote.get(RECORD)
    finally:
        await remote.aclose()


async def test_an_authority_that_is_named_is_trusted(authority: Authority, tmp_path: Path) -> None:
    """A custom CA file (row A12)."""
    async with tls_server(authority.sign(tmp_path / "server.pem")) as port:
        assert await get("localhost", port, Access(ca_file=authority.file, token="t")) == b"abcd"


async def test_an_authority_that_is_not_is_not(authority: Authority, tmp_path: Path) -> None:
    other = new_authority(tmp_path / "other.pem")
    async with tls_server(authority.sign(tmp_path / "server.pem")) as port:
        for access in (Access(token="t"), Access(ca_file=other.file)):
            with pytest.raises(CertificateRejected, match="does not verify") as caught:
                await get("localhost", port, access)
            assert f"https://localhost:{port}" in str(caught.value)


async def test_a_certificate_of_another_host_is_not_this_ones(authority: Authority, tmp_path: Path) -> None:
    async with tls_server(authority.sign(tmp_path / "server.pem", host="sync.example")) as port:
        with pytest.raises(CertificateRejected, match="localhost"):
            await get("localhost", port, Access(ca_file=authority.file))
    async with tls_server(authority.sign(tmp_path / "address.pem", host="127.0.0.1")) as port:
        assert await get("127.0.0.1", port, Access(ca_file=authority.file)) == b"abcd"


async def test_a_certificate_ends(authority: Authority, tmp_path: Path) -> None:
    file = authority.sign(tmp_path / "server.pem", life=datetime.timedelta(days=1))
    async with tls_server(file) as port:
        with pytest.raises(CertificateRejected, match="expired"):
            await get("localhost", port, Access(ca_file=authority.file))


async def test_a_client_shows_its_certificate(authority: Authority, tmp_path: Path) -> None:
    """A client certificate (row A12)."""
    server = authority.sign(tmp_path / "server.pem")
    own = authority.sign(tmp_path / "own.pem", host="device")
    stranger = new_authority(tmp_path / "other.pem").sign(tmp_path / "stranger.pem", host="device")
    async with tls_server(server, clients=authority.file) as port:
        access = Access(ca_file=authority.file, client_cert=own)
        assert await get("localhost", port, access) == b"abcd"
        for access in (Access(ca_file=authority.file), Access(ca_file=authority.file, client_cert=stranger)):
            # TLS 1.3 lets the client finish before the server refuses: then the alert may be lost
            # with the connection, and all that is known is that it broke.
            with pytest.raises((CertificateRejected, Unreachable)):
                await get("localhost", port, access)


async def test_a_server_without_tls_has_no_certificate(tmp_path: Path) -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as listener:

        async def answer(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                await stream.receive()
                await stream.send(b"HTTP/1.1 400 This is not TLS\r\nContent-Length: 0\r\n\r\n")

        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, answer)
            with anyio.fail_after(30), pytest.raises(Unreachable):
                await get("127.0.0.1", port, Access())
            tasks.cancel_scope.cancel()


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
async def test_a_file_without_certificates_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_bytes(content)
    for access in (Access(ca_file=file), Access(client_cert=file), Access(client_cert=tmp_path)):
        with pytest.raises(ConfigError, match="cannot be read as a file of") as caught:
            await open_remote("https://localhost/notes", access=access)
        assert str(access.ca_file or access.client_cert) in str(caught.value)
        assert "\n" not in str(caught.value)


async def test_a_key_under_a_passphrase_does_not_ask_for_it(authority: Authority, tmp_path: Path) -> None:
    """Nobody may be there to answer."""
    from cryptography.hazmat.primitives import serialization

    file = tmp_path / "locked.pem"
    locked = authority.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    file.write_bytes(locked + authority.file.read_bytes())
    with pytest.raises(ConfigError, match="passphrase"):
        await open_remote("https://localhost/notes", access=Access(client_cert=file))

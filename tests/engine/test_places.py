"""Where a vault is kept, what lets this device in there, and that a token goes to its own server only."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

import syncagent
from syncagent.cache.place import Place, load_place, store_place
from syncagent.engine.engine import Engine
from syncagent.engine.gate import TransferGate
from syncagent.errors import ConfigError, Unauthorized
from syncagent.places import find_place, open_place
from syncagent.remote import is_same_server
from syncagent.remote.base import Remote
from syncagent.remote.memory import MemoryRemote
from tests.engine.world import World
from tests.samples import TOKEN

pytestmark = pytest.mark.anyio

REFUSAL = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(slots=True)
class Stranger:
    """A server that refuses everybody and keeps what they say."""

    url: str = ""
    heard: list[bytes] = field(default_factory=list)

    async def answer(self, stream: SocketStream) -> None:
        async with stream:
            with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                self.heard.append(await stream.receive())
                await stream.send(REFUSAL)


@contextlib.asynccontextmanager
async def strange_server() -> AsyncIterator[Stranger]:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        stranger = Stranger(f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}")
        group.start_soon(listener.serve, stranger.answer)
        yield stranger
        group.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("https://host/a", "https://host/b", True),
        ("https://host/a", "https://HOST/sync/b", True),
        ("https://host/a", "http://host/a", False),
        ("https://host/a", "https://host:8720/a", False),
        ("https://host/a", "https://other/a", False),
        ("https://host/a", "file:///a", False),
        ("file:///a", "file:///a", False),
        ("", "https://host/a", False),
    ],
)
def test_the_same_server(first: str, second: str, is_same: bool) -> None:
    assert is_same_server(first, second) is is_same


async def test_what_is_kept_and_that_a_token_is_in_no_text(world: World, tmp_path: Path) -> None:
    place = Place("https://host/a", TOKEN, "/ca.pem", "/cert.pem")
    async with world.open("a") as vault:
        write = vault.parts()[0].cache.write
        await write(lambda db: store_place(db, place))
        assert await write(load_place) == place
        assert await vault.remote_info() == syncagent.RemoteInfo(
            "https://host/a", True, "/ca.pem", "/cert.pem"
        )
        await write(lambda db: store_place(db, Place("file:///a")))
        assert await write(load_place) == Place("file:///a")
    assert TOKEN not in repr(place) + str(place)
    remote = await open_place(Place("http://127.0.0.1:1/a", TOKEN))
    assert TOKEN not in repr(remote) + repr(vars(remote))
    await remote.aclose()


async def test_a_token_is_not_sent_to_another_server(world: World) -> None:
    async with strange_server() as stranger, world.open("a") as vault:
        write = vault.parts()[0].cache.write
        await write(lambda db: store_place(db, Place("http://127.0.0.1:1/a", TOKEN)))
        with pytest.raises(Unauthorized) as refused:
            await vault.set_remote(f"{stranger.url}/a")
        assert "--token-file" in refused.value.todo
        assert stranger.heard
        assert not any(b"authorization" in heard.lower() for heard in stranger.heard)
        # Nothing was changed. At the server it is for, it is sent.
        assert (await write(load_place)).url == "http://127.0.0.1:1/a"
        await write(lambda db: store_place(db, Place(f"{stranger.url}/a", TOKEN)))
        stranger.heard.clear()
        with pytest.raises(Unauthorized) as refused:
            await vault.set_remote(f"{stranger.url}/b")
        assert refused.value.todo == "check the token"
        assert all(f"authorization: bearer {TOKEN}".encode() in heard.lower() for heard in stranger.heard)


async def test_files_are_kept_as_absolute_paths_and_empty_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = await find_place("https://host/a", token="", ca_file="ca.pem", client_cert="")
    assert place == Place("https://host/a", None, str(tmp_path / "ca.pem"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        await find_place("https://host/a", token=None, ca_file="\udcff", client_cert=None)


async def test_a_vault_without_a_remote_says_so() -> None:
    with pytest.raises(ConfigError, match="no remote"):
        await open_place(Place(""))


class Counted(MemoryRemote):
    """Notes how often it is closed."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.closed = 0

    async def aclose(self) -> None:
        self.closed += 1


async def test_the_remote_in_use_and_the_one_before_stay_open(world: World) -> None:
    opened: list[Counted] = []

    async def open_counted(place: Place) -> Remote:
        opened.append(Counted(place))
        return opened[-1]

    async with world.open("a") as vault:
        ctx, _ = vault.parts()
        engine = Engine(ctx, open_counted, TransferGate(4))
        assert await engine.remote() is await engine.remote() is opened[0]
        engine.forget_connections()
        assert await engine.remote() is opened[1]
        await ctx.cache.write(lambda db: store_place(db, Place("file:///moved")))
        assert await engine.remote() is await engine.remote() is opened[2]
        assert opened[2].place == Place("file:///moved")
        assert [one.closed for one in opened] == [1, 0, 0]
        await engine.aclose()
        assert [one.closed for one in opened] == [1, 1, 1]


async def test_a_remote_that_was_handed_in_is_used_whatever_the_vault_says(world: World) -> None:
    remote = Counted(Place(""))
    async with world.open("a", remote) as vault:
        ctx, engine = vault.parts()
        for number in range(4):
            place = Place(f"file:///{number}")
            await ctx.cache.write(partial(store_place, place=place))
            assert await engine.remote() is remote
        assert remote.closed == 0
    assert remote.closed == 1

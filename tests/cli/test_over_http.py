"""The command with a server: its token, what happens when it is away, full or refuses, and moving there."""

import hashlib
import shutil
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import anyio
import pytest

import syncagent
from syncagent.server.embedded import EmbeddedServer
from tests.cli.shell import PASSPHRASE, Shell
from tests.cli.test_watch import watching
from tests.server.running import accounts_of


class Home:
    """A server with the user `alice`, and her token in a file."""

    def __init__(self, folder: Path, server: EmbeddedServer) -> None:
        self.server = server
        self.data = folder / "server"
        self.token_file = folder / "token"
        self.token = server.add_user("alice")
        self.write_token(self.token)

    def write_token(self, token: str, mode: int = 0o600) -> None:
        self.token = token
        self.token_file.write_text(f"{token}\n")
        self.token_file.chmod(mode)

    def rotate(self) -> None:
        """Make her former tokens invalid; the new one is not in the file yet."""
        with accounts_of(self.data) as accounts:
            self.token = accounts.rotate("alice")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with EmbeddedServer(tmp_path / "server") as server:
        yield Home(tmp_path, server)


@pytest.fixture
def first(home: Home, tmp_path: Path) -> Shell:
    """A device with a vault at the server, as `init` makes it but for the cost of the key."""
    shell = Shell(tmp_path / "first")
    shell.profile.parent.mkdir(parents=True)
    create = partial(
        syncagent.create_vault,
        shell.profile,
        remote=home.server.url,
        passphrase=PASSPHRASE,
        token=home.token,
        device_name="first",
        kdf=syncagent.FLOOR_KDF,
    )
    anyio.run(create)
    return shell


@pytest.fixture
def second(home: Home, first: Shell, tmp_path: Path) -> Shell:
    """Another device of it, by the command."""
    shell = Shell(tmp_path / "second")
    arguments = ("--remote", home.server.url, "--token-file", str(home.token_file), "--device-name", "second")
    shell("join", *arguments).ok()
    return shell


def test_a_vault_is_made_joined_and_used_over_a_server(home: Home, tmp_path: Path) -> None:
    laptop, desk = Shell(tmp_path / "laptop"), Shell(tmp_path / "desk")
    token = ("--token-file", str(home.token_file))
    made = laptop("init", "--remote", home.server.url, *token, "--json").ok().document
    assert made["remote"] == f"{home.server.url}/default"
    laptop("put", "notes/hello", "-", "--sync", stdin=b"from the laptop").ok()
    # With the URL that init has shown, the token on standard input.
    done = desk("join", "--remote", made["remote"], "--token-file", "-", stdin=home.token.encode() + b"\r\n")
    assert made["remote"] in done.ok().out
    desk("sync").ok()
    assert desk("get", "notes/hello").ok().stdout == b"from the laptop"
    desk("put", "notes/hello", "-", "--replace", "--sync", stdin=b"from the desk").ok()
    assert laptop("sync", "--json").ok().document["arrivals"][0]["kind"] == "changed"
    assert laptop("get", "notes/hello").ok().stdout == b"from the desk"
    assert len(laptop("device", "ls", "--json").ok().document["devices"]) == 2
    environment = {"SYNCAGENT_NEW_PASSPHRASE": "another one"}
    laptop("key", "passphrase", environment=environment).ok()
    third = Shell(tmp_path / "third")
    third("join", "--remote", home.server.url, *token).failed(5)
    third(
        "join", "--remote", home.server.url, *token, environment={"SYNCAGENT_PASSPHRASE": "another one"}
    ).ok()


def test_the_token_is_nowhere_but_in_the_encrypted_cache(
    home: Home, first: Shell, second: Shell, caplog: pytest.LogCaptureFixture
) -> None:
    """A bearer token (row A12)."""
    caplog.set_level(0)
    said = [first("remote", "show", "-v"), first("remote", "show", "--json"), first("status", "--json")]
    assert "token   kept in the vault's encrypted cache\n" in said[0].ok().out
    assert said[1].ok().document["has_token"] is True
    first("put", "n/a", "-", stdin=b"one").ok()
    said += [first("sync", "-v"), second("sync", "-v", "--json")]
    home.server.stop()
    said += [first("sync", "-v"), first("remote", "show", "-v"), first("explain", "n/a", "-v")]
    home.server.start()
    former = home.token
    home.rotate()
    said += [first("sync", "-v"), first("remote", "set", "--token-file", str(home.token_file), "-v")]
    home.write_token(f"{home.token} and more")
    said.append(first("remote", "set", "--token-file", str(home.token_file), "-v"))
    tokens = (former, home.token.partition(" ")[0])
    for done in said:
        assert not any(token in done.out + done.err for token in tokens), done
    assert not any(token in caplog.text for token in tokens)
    for shell in (first, second):
        files = [path for path in shell.home.rglob("*") if path.is_file()]
        assert shell.profile / "cache.db" in files
        assert not any(token.encode() in path.read_bytes() for path in files for token in tokens)


def test_a_token_file_that_others_can_read_is_pointed_out(home: Home, first: Shell, tmp_path: Path) -> None:
    home.write_token(home.token, 0o644)
    done = first("remote", "set", "--token-file", str(home.token_file))
    assert done.code == 0
    assert "`chmod 600`" in done.err
    assert stat.S_IMODE(home.token_file.stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is empty"),
        (b"\nsecond line", "is empty"),
        ("tökèn".encode(), "not ASCII"),
        (b"two words", "no spaces"),
        (b"x" * 2000, "1 to 1024"),
    ],
)
def test_a_token_file_without_a_token(
    home: Home, bare: Shell, tmp_path: Path, text: bytes, said: str
) -> None:
    home.token_file.write_bytes(text)
    arguments = ("--remote", home.server.url, "--token-file", str(home.token_file))
    for command in ("init", "join"):
        line = bare(command, *arguments).failed(2)
        assert said in line
        assert "two words" not in line and "second" not in line
    assert not bare.profile.exists()
    assert "cannot be read" in bare(
        "init", "--remote", home.server.url, "--token-file", str(tmp_path / "none")
    ).failed(2)


def test_no_token_and_a_wrong_one_leave_nothing_and_say_what_to_give(home: Home, bare: Shell) -> None:
    for command in ("init", "join"):
        assert "--token-file" in bare(command, "--remote", home.server.url).failed(5)
        home.write_token("A" * 40)
        arguments = ("--remote", f"{home.server.url}/notes", "--token-file", str(home.token_file))
        assert bare(command, *arguments).failed(5).endswith("check the token")
    home.server.stop()
    arguments = ("--remote", f"{home.server.url}/notes", "--token-file", str(home.token_file))
    for command in ("init", "join"):
        line = bare(command, *arguments).failed(4)
        assert line.endswith("; nothing was changed; check the remote's address and try again")
    assert not bare.profile.exists()


def test_several_vaults_at_a_server_are_named(home: Home, first: Shell, bare: Shell) -> None:
    token = ("--token-file", str(home.token_file))
    assert "`syncagent join`" in bare("init", "--remote", home.server.url, *token).failed(1)
    assert not bare.profile.exists()
    bare("init", "--remote", f"{home.server.url}/second", *token).ok()
    third = Shell(bare.home.with_name("third"))
    line = third("join", "--remote", home.server.url, *token).failed(2)
    assert "default, second" in line
    third("join", "--remote", f"{home.server.url}/second", *token).ok()
    assert third("remote", "show", "--json").ok().document["remote"].endswith("/second")


def test_a_token_that_may_only_add_is_enough(home: Home, first: Shell, second: Shell) -> None:
    with accounts_of(home.data) as accounts:
        home.write_token(accounts.rotate("alice", is_append_only=True))
    for shell in (first, second):
        shell("remote", "set", "--token-file", str(home.token_file)).ok()
    first("put", "n/a", "-", "--sync", stdin=b"one").ok()
    first("rm", "n/a").ok()
    first("key", "recovery").ok()
    first("sync").ok()
    second("sync").ok()
    assert second("ls", "n", "--count").ok().out == "0\n"


def test_a_rotated_token_stops_the_sync_until_the_new_one_is_set(home: Home, first: Shell) -> None:
    first("put", "n/a", "-", stdin=b"one").ok()
    home.rotate()
    line = first("sync").failed(5)
    assert "everything" in line and line.endswith("`syncagent remote set --token-file FILE`")
    assert first("status", "--json").ok().document["state"] == "stopped"
    first("remote", "set", "--token-file", str(home.token_file)).failed(5)  # still the old one
    home.write_token(home.token)
    first("remote", "set", "--token-file", str(home.token_file)).ok()
    assert first("sync").ok().out.startswith("sent 1 blob")


def test_while_the_server_is_away_work_is_kept(home: Home, first: Shell, second: Shell) -> None:
    home.server.stop()
    line = first("put", "n/a", "-", "--sync", stdin=b"one").failed(4)
    assert "everything put on this device is kept" in line
    first("sync").failed(4)
    assert first("remote", "show", "--json").document["reachable"] is False
    assert first("get", "n/a").ok().stdout == b"one"
    home.server.start()
    first("sync").ok()
    second("sync").ok()
    assert second("get", "n/a").ok().stdout == b"one"


def test_a_full_server_stops_sending_and_not_fetching_until_there_is_room(
    home: Home, first: Shell, second: Shell
) -> None:
    second("put", "n/theirs", "-", "--sync", stdin=b"theirs").ok()
    with accounts_of(home.data) as accounts:
        accounts.set_quota("alice", 100_000)
    large = hashlib.shake_128(b"x").digest(1_000_000)
    first("put", "n/large", "-", stdin=large).ok()
    line = first("sync").failed(5)
    assert "everything put on this device is kept" in line and "make room" in line
    assert first("get", "n/theirs").ok().stdout == b"theirs"
    assert first("ls", "--status", "pending_upload", "--count", "n").ok().out == "1\n"
    with accounts_of(home.data) as accounts:
        accounts.set_quota("alice", None)
    first("sync").ok()
    second("sync").ok()
    assert second("get", "n/large").ok().stdout == large


def test_a_vault_moves_from_a_folder_to_a_server(home: Home, shell: Shell, other: Shell) -> None:
    shell("put", "n/a", "-", "--sync", stdin=b"one").ok()
    to_server = ("remote", "set", f"{home.server.url}/moved", "--token-file", str(home.token_file))
    assert "copy the present remote there first" in shell(*to_server).failed(2)
    shutil.copytree(shell.remote, home.data / "vaults" / "alice" / "moved")
    shell(*to_server).ok()
    other(*to_server).ok()
    assert other("sync").ok().out.startswith("sent")
    assert other("get", "n/a").ok().stdout == b"one"
    other("put", "n/b", "-", "--sync", stdin=b"two").ok()
    shell("sync").ok()
    assert shell("get", "n/b").ok().stdout == b"two"
    # And back. What only the server has seen of a device comes there again from that device.
    for device in (other, shell):
        back = device("remote", "set", shell.remote.as_uri(), "--json").ok().document
        assert back["has_token"] is False
        device("sync")  # the first one is told that the other's journal went back
    shutil.rmtree(home.data / "vaults")
    for device in (other, shell):
        device("sync").ok()
        assert device("get", "n/b").ok().stdout == b"two"


def test_watching_shows_the_other_devices_change_and_goes_on_with_a_new_token(
    home: Home, first: Shell, second: Shell
) -> None:
    """A change there starts a sync here (row D7)."""
    with watching(first, "--json") as watch:
        assert watch.document()["arrivals"] == []
        second("put", "n/a", "-", "--sync", stdin=b"one").ok()
        while not (document := watch.document())["arrivals"]:
            assert document["event"] == "round"  # of its own acknowledgements
        assert document["arrivals"][0]["id"] == "a"
        home.rotate()
        first("put", "n/b", "-", stdin=b"two").ok()
        while (document := watch.document())["event"] == "round":
            pass
        assert document["error"]["kind"] == "Unauthorized"
        home.write_token(home.token)
        first("remote", "set", "--token-file", str(home.token_file)).ok()
        while not (document := watch.document()).get("sent"):
            pass
        code, _, err = watch.interrupt()
        assert code == 130
        assert err.count("\n") == 1 and "remote set --token-file" in err


def test_watching_notices_a_server_that_went_away_and_came_back(home: Home, first: Shell) -> None:
    with watching(first, "--json") as watch:
        assert watch.document()["event"] == "round"
        home.server.stop()
        while (document := watch.document())["event"] == "round":
            pass
        assert document["error"]["kind"] == "Unreachable"
        home.server.start()
        assert watch.document()["event"] == "round"


def test_background_and_barrier_over_a_server(home: Home, first: Shell, second: Shell) -> None:
    async def put() -> None:
        async with syncagent.open_vault(first.profile, passphrase=PASSPHRASE, background=True) as vault:
            await vault.namespace("n").put("a", b"one")
            await vault.barrier(timeout_s=60)

    anyio.run(put)
    second("sync").ok()
    assert second("get", "n/a").ok().stdout == b"one"

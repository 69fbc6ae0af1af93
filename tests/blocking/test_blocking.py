"""The library without `await`: threads, callbacks, iterators, and every way to stop."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import syncagent
from syncagent import blocking
from syncagent.errors import BlobNotFound, ConfigError, WrongPassphrase
from syncagent.events import BlobStored, Event, SyncFinished
from syncagent.remote.directory import DirectoryRemote

PASSPHRASE = "correct horse"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blocking")
    remote = f"file://{folder}/remote"
    created = blocking.create_vault(
        folder / "a", remote=remote, passphrase=PASSPHRASE, device_name="a", kdf=syncagent.FLOOR_KDF
    )
    joined = blocking.join_vault(folder / "b", remote=remote, passphrase=PASSPHRASE, device_name="b")
    assert created.vault_id == joined.vault_id
    return folder


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Path:
    home = tmp_path / "home"
    shutil.copytree(template, home)
    with open_vault(home) as a, open_vault(home, "b") as b:
        for vault in (a, b):
            vault.set_remote(f"file://{home}/remote")
    return home


@pytest.fixture
def vault(home: Path) -> Iterator[blocking.Vault]:
    with open_vault(home) as vault:
        yield vault


def open_vault(home: Path, name: str = "a", *, background: bool = False) -> blocking.Vault:
    return blocking.open_vault(home / name, passphrase=PASSPHRASE, background=background)


def test_what_one_device_puts_another_gets(home: Path) -> None:
    with open_vault(home) as vault:
        notes = vault.namespace("notes")
        assert notes.name == "notes"
        version = notes.put("x", b"one", metadata={"title": "X"})
        assert [result.error for result in notes.put_many([("y", b"two"), ("z", b"three")])] == [None, None]
        with vault.transaction() as tx:
            tx.namespace("notes").put("w", b"four")
            tx.namespace("notes").delete("z")
        assert len(tx.versions) == 2
        assert vault.sync().sent >= 3
    with open_vault(home, "b") as vault:
        notes = vault.namespace("notes")
        assert len(vault.changes().changes) == 0
        vault.sync()
        assert {one.id for one in vault.changes().changes} == {"w", "x", "y"}
        assert notes.get("x").data == b"one" and notes.get("x").version == version
        assert [blob.id for blob in notes.list().blobs] == ["w", "x", "y"]
        assert vault.status().counts[syncagent.SyncStatus.SYNCED] == 3
        notes.add_flags("x", {"seen"})
        assert notes.get_flags("x") == {"seen"}


def test_a_blob_is_streamed_in_and_out(vault: blocking.Vault, tmp_path: Path) -> None:
    content = os.urandom(5 << 20)
    (tmp_path / "file").write_bytes(content)
    notes = vault.namespace("notes")
    with (tmp_path / "file").open("rb") as file:
        notes.put("x", blocking.stream(iter(lambda: file.read(1 << 20), b"")))
    with notes.open("x") as reader:
        assert (reader.size, reader.metadata) == (len(content), {})
        assert b"".join(reader) == content
        assert reader.read_range(100, 200) == content[100:200]
        assert reader.version.size == len(content) and reader.created_at.year > 2000


@pytest.mark.parametrize("piece", [None, "text", 7, [1]])
def test_a_stream_with_a_piece_that_is_not_bytes_stores_nothing(vault: blocking.Vault, piece: Any) -> None:
    notes = vault.namespace("notes")
    with pytest.raises(TypeError, match=type(piece).__name__):
        notes.put("x", blocking.stream([b"one", piece, b"two"]))
    assert not notes.exists("x")
    notes.put("x", blocking.stream([b"one", b"", b"two"]))
    assert notes.get("x").data == b"onetwo"


@pytest.mark.parametrize("content", [b"one", bytearray(b"one"), memoryview(b"one"), "one"])
def test_a_stream_is_made_of_pieces(content: Any) -> None:
    with pytest.raises(TypeError, match="give bytes to put"):
        blocking.stream(content)


def test_a_stream_that_was_read_is_not_empty_content(vault: blocking.Vault) -> None:
    stream = blocking.stream(iter([b"one"]))
    vault.namespace("notes").put("x", stream)
    with pytest.raises(ConfigError, match="has been read already"):
        vault.namespace("notes").put("y", stream)
    assert not vault.namespace("notes").exists("y")


def test_errors_are_those_of_the_library(vault: blocking.Vault, home: Path) -> None:
    with pytest.raises(BlobNotFound):
        vault.namespace("notes").get("nothing")
    with pytest.raises(WrongPassphrase):
        blocking.open_vault(home / "a", passphrase="wrong").open()


def test_any_number_of_threads_may_use_a_vault(vault: blocking.Vault) -> None:
    notes = vault.namespace("notes")

    def put(first: int) -> None:
        for number in range(first, first + 20):
            notes.put(f"{number:03}", b"%d" % number)

    threads = [threading.Thread(target=put, args=(first,)) for first in range(0, 160, 20)]  # noqa: TID251 - what users do
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert notes.count() == 160
    assert notes.get("159").data == b"159"


def test_events_are_an_iterator_that_ends_with_the_vault(home: Path) -> None:
    vault = open_vault(home).open()
    events = vault.events()
    vault.namespace("notes").put("x", b"one")
    assert isinstance(next(events), BlobStored)
    found: list[Event] = []
    thread = threading.Thread(target=lambda: found.extend(events))  # noqa: TID251 - what users do
    thread.start()
    vault.namespace("notes").put("y", b"one")
    vault.close()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert [event.id for event in found if isinstance(event, BlobStored)] == ["y"]


def test_what_another_process_did_before_is_not_told(vault: blocking.Vault, home: Path) -> None:
    with open_vault(home) as other:
        other.namespace("notes").put("before", b"one")
        events = vault.events()
        other.namespace("notes").put("after", b"one")
    vault.namespace("notes").put("ours", b"one")
    assert [getattr(next(events), "id", "") for _ in range(2)] == ["after", "ours"]


def test_a_callback_runs_in_another_thread_and_may_use_the_vault(vault: blocking.Vault) -> None:
    told: list[tuple[Event, str, bytes]] = []
    done = threading.Event()

    def callback(event: Event) -> None:
        assert isinstance(event, BlobStored)
        told.append((event, threading.current_thread().name, vault.namespace("notes").get(event.id).data))
        done.set()

    stop = vault.listen(callback)
    vault.namespace("notes").put("x", b"one")
    assert done.wait(10)
    stop()
    ((_, thread, data),) = told
    assert data == b"one"
    assert thread not in (threading.current_thread().name, "syncagent")


def test_a_callback_may_end_itself(vault: blocking.Vault) -> None:
    told: list[Event] = []
    done = threading.Event()

    def callback(event: Event) -> None:
        told.append(event)
        stop()
        done.set()

    stop = vault.listen(callback)
    vault.namespace("notes").put_many([("x", b"one"), ("y", b"one")])
    assert done.wait(10)
    stop()
    assert len(told) == 1


def test_what_a_callback_raises_ends_it_and_is_raised_by_stop(vault: blocking.Vault) -> None:
    done = threading.Event()

    def callback(event: Event) -> None:
        done.set()
        raise ValueError("mine")

    stop = vault.listen(callback)
    vault.namespace("notes").put("x", b"one")
    assert done.wait(10)
    with pytest.raises(ValueError, match="mine"):
        stop()
    vault.namespace("notes").put("y", b"one")


def test_a_callback_of_a_call_may_not_wait_for_the_vault(vault: blocking.Vault) -> None:
    def progress(progress: syncagent.Progress) -> None:
        vault.status()

    vault.namespace("notes").put("x", b"one")
    with pytest.raises(ConfigError, match="must not wait for the vault") as caught:
        vault.sync(progress=progress)
    assert "listen" in caught.value.todo
    assert vault.sync().sent == 1


def test_a_closed_vault_says_so_and_can_be_opened_again(home: Path) -> None:
    vault = open_vault(home)
    with pytest.raises(ConfigError, match="not open"):
        vault.status()
    vault.close()
    with vault:
        events = vault.events()
        notes = vault.namespace("notes")
        notes.put("x", b"one")
    vault.close()
    with pytest.raises(ConfigError):
        notes.put("y", b"one")
    assert [type(event).__name__ for event in events] == ["BlobStored"]
    with vault:
        assert vault.namespace("notes").count() == 1
        assert vault.id and vault.device_id


def test_a_background_sync_runs_while_the_program_does_something_else(home: Path) -> None:
    with open_vault(home, background=True) as vault:
        finished = threading.Event()
        vault.listen(lambda event: finished.set() if isinstance(event, SyncFinished) else None)
        vault.namespace("notes").put("x", b"one")
        vault.barrier(timeout_s=30)
        assert finished.wait(30)
    with open_vault(home, "b") as other:
        other.sync()
        assert other.namespace("notes").get("x").data == b"one"


def test_ctrl_c_in_a_call_leaves_the_vault_usable(vault: blocking.Vault) -> None:
    def content() -> Iterator[bytes]:
        yield b"one"
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        yield b"two"

    notes = vault.namespace("notes")
    with pytest.raises(KeyboardInterrupt):
        while True:  # it may come when the call has just returned
            notes.put("x", blocking.stream(content()), replace=True)
    notes.put("y", b"one")
    assert notes.get("y").data == b"one"
    assert vault.sync().failed == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_refused_and_may_open_the_vault_itself(vault: blocking.Vault, home: Path) -> None:
    vault.namespace("notes").put("x", b"one")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        said = "nothing"
        try:
            vault.status()
        except ConfigError as exc:
            said = str(exc)
            with open_vault(home) as again:
                said += " / " + again.namespace("notes").get("x").data.decode()
        finally:
            os.write(write, said.encode())
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        assert answer.read() == b"this process was forked from the one that opened the vault / one"
    os.waitpid(child, 0)
    vault.namespace("notes").put("y", b"one")


@pytest.mark.parametrize(
    "end", ["", "raise SystemExit(0)", "import threading; threading.Timer(0, vault.status).start()"]
)
def test_a_program_that_ends_without_closing_does_not_hang(home: Path, end: str) -> None:
    script = f"""
from syncagent import blocking
vault = blocking.open_vault({str(home / "a")!r}, passphrase={PASSPHRASE!r}, background=True).open()
vault.listen(lambda event: None)
vault.namespace("notes").put("x", b"one")
{end}
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not (home / "a" / "cache.db-wal").exists(), "the vault was closed"
    with open_vault(home) as vault:
        assert vault.namespace("notes").get("x").data == b"one"


ENDS = [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), ValueError("mine"), ConfigError("mine")]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
def test_what_progress_raises_ends_the_call_and_nothing_else(
    vault: blocking.Vault, end: BaseException
) -> None:
    def progress(progress: syncagent.Progress) -> None:
        raise end

    vault.namespace("notes").put("x", b"one")
    with pytest.raises(type(end)) as caught:
        vault.sync(progress=progress)
    assert caught.value is end
    assert vault.status().state is syncagent.SyncState.READY
    assert vault.sync().sent == 1


@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
def test_what_a_listener_raises_ends_it_and_nothing_else(
    vault: blocking.Vault, home: Path, end: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def callback(event: Event) -> None:
        raise end

    others = vault.events()
    stop = vault.listen(callback)
    vault.namespace("notes").put("x", b"one")
    assert isinstance(next(others), BlobStored)
    with pytest.raises(type(end)) as caught:
        while True:  # `stop` may be quicker than the event
            stop()
            stop = vault.listen(callback)
            vault.namespace("notes").put("x", os.urandom(8), replace=True)
    assert caught.value is end
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    vault.namespace("notes").put("y", b"one")
    with open_vault(home, "b") as other:
        other.status()


@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
def test_what_a_stream_raises_ends_the_put_and_nothing_else(
    vault: blocking.Vault, end: BaseException
) -> None:
    def content() -> Iterator[bytes]:
        yield b"one"
        raise end

    notes = vault.namespace("notes")
    with pytest.raises(type(end)) as caught:
        notes.put("x", blocking.stream(content()))
    assert caught.value is end
    assert not notes.exists("x")
    notes.put("x", b"one")


def interrupted() -> None:
    """Ctrl-C, whose error is raised in the main thread before this returns there."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def test_ctrl_c_while_a_vault_opens_leaves_it_closed(home: Path, vault: blocking.Vault) -> None:
    def unlock() -> Any:
        interrupted()
        return unlocks()

    with open_vault(home, "b") as other:  # the loop is there, and all is imported
        assert other.id == vault.id
    opened = open_vault(home, background=True)
    unlocks, opened.inner._unlock = opened.inner._unlock, unlock
    with pytest.raises(KeyboardInterrupt):
        opened.open()
    opened.close()
    assert opened.inner._ctx is None, "it is closed, and its background sync has ended"
    opened.inner._unlock = unlocks
    with opened:
        assert opened.namespace("notes").count() == 0


def test_a_vault_is_opened_again_as_soon_as_the_interrupted_one_is_gone(home: Path) -> None:
    def unlock() -> Any:
        interrupted()
        opened.inner._unlock = unlocks
        return unlocks()

    opened = open_vault(home)
    unlocks, opened.inner._unlock = opened.inner._unlock, unlock
    with pytest.raises(KeyboardInterrupt), opened:
        raise AssertionError("it is not open")
    with opened:
        opened.status()


def test_ctrl_c_in_a_sync_has_ended_it_when_the_next_begins(vault: blocking.Vault) -> None:
    def progress(progress: syncagent.Progress) -> None:
        if not told:
            told.append(progress)
            interrupted()

    told: list[syncagent.Progress] = []
    notes = vault.namespace("notes")
    for _ in range(5):
        told.clear()
        notes.put("x", os.urandom(8), replace=True)
        with pytest.raises(KeyboardInterrupt):
            vault.sync(progress=progress)
            vault.status()  # it may come when the call has just returned
        vault.sync()
    assert notes.count(status=syncagent.SyncStatus.SYNCED) == 1


def test_a_thread_may_have_any_name(vault: blocking.Vault) -> None:
    thread = threading.Thread(  # noqa: TID251 - what users do
        target=vault.namespace("notes").put, args=("x", b"one"), name="syncagent"
    )
    thread.start()
    thread.join()
    assert vault.namespace("notes").exists("x")


def test_opening_an_open_vault_is_refused_and_it_stays_open(vault: blocking.Vault) -> None:
    with pytest.raises(ConfigError, match="open already"), vault:
        raise AssertionError("it was opened twice")
    vault.namespace("notes").put("x", b"one")


def test_threads_may_share_an_iterator_of_events(home: Path) -> None:
    vault = open_vault(home).open()
    events = vault.events()
    found: list[Event] = []
    threads = [
        threading.Thread(target=lambda: found.extend(events), daemon=True)  # noqa: TID251 - what users do
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for number in range(6):
        vault.namespace("notes").put(str(number), b"one")
    vault.close()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert sorted(event.id for event in found if isinstance(event, BlobStored)) == list("012345")


class StuckRemote:
    """One that never takes anything."""

    def __init__(self, inner: DirectoryRemote) -> None:
        self._inner = inner
        self.is_reached = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def put(self, *_: object, **__: object) -> None:
        self.is_reached.set()
        await anyio.sleep_forever()


@pytest.mark.parametrize("call", [blocking.Vault.sync, blocking.Vault.barrier])
def test_closing_ends_the_calls_of_other_threads(home: Path, call: Any) -> None:
    remote = StuckRemote(DirectoryRemote(home / "remote"))
    vault = blocking.open_vault(home / "a", passphrase=PASSPHRASE, remote=remote).open()
    vault.namespace("notes").put("x", b"one")
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call(vault)
        except ConfigError as exc:
            raised.append(exc)

    thread = threading.Thread(target=run, daemon=True)  # noqa: TID251 - what users do
    thread.start()
    assert remote.is_reached.wait(30)
    vault.close()
    thread.join(30)
    assert "was closed while the call ran" in str(raised[0])
    with pytest.raises(ConfigError, match="not open"):
        vault.status()
    with open_vault(home) as again:
        assert again.sync().sent == 1, "the lock of the sync is free"


def test_a_callback_may_close_the_vault(home: Path) -> None:
    vault = open_vault(home).open()
    closed = threading.Event()

    def callback(event: Event) -> None:
        vault.close()
        closed.set()

    vault.listen(callback)
    vault.namespace("notes").put("x", b"one")
    assert closed.wait(30)
    with vault:
        assert vault.namespace("notes").exists("x")

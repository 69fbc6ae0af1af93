"""An open cache, a cache behind an event loop, and a vault folder; each test has its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncagent.cache import meta
from syncagent.cache.commit import Cache
from syncagent.cache.db import Database
from syncagent.cache.schema import migrate

from .large import ROWS, Recording, fill
from .samples import Desk, Home, make_home

KEY = bytes(range(32))


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    """An open database of the newest schema with an identity in it."""
    (tmp_path / "cache.db").touch()
    database = Database(tmp_path / "cache.db", KEY)
    database.open()
    migrate(database)
    meta.put(database, meta.VAULT_ID, b"v" * 16)
    meta.put(database, meta.DEVICE_ID, b"d" * 16)
    yield database
    database.close()


@pytest.fixture
async def cache(db: Database) -> Cache:
    return Cache(db)


@pytest.fixture
def desk(db: Database, tmp_path: Path) -> Desk:
    (tmp_path / "packs").mkdir()
    return Desk(db, tmp_path / "packs")


@pytest.fixture(scope="session")
def first_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Made once: deriving keys takes most of the time."""
    return make_home(tmp_path_factory.mktemp("home"))


@pytest.fixture
def home(first_home: Home, tmp_path: Path) -> Home:
    """A created, closed vault."""
    return first_home.copy(tmp_path)


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    """Ten thousand blobs; whoever changes something rolls it back."""
    path = tmp_path_factory.mktemp("large") / "cache.db"
    path.touch()
    db = Recording(path, KEY)
    db.asked = []
    db.open()
    migrate(db)
    db.execute("BEGIN")
    fill(db, ROWS)
    db.execute("COMMIT")
    db.asked.clear()
    yield db
    db.close()

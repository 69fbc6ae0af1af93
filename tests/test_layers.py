"""Imports point down only, one library is imported in one place, and what is called pure is pure."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "syncagent"

BELOW: dict[str, set[str]] = {
    # What each part may import of the others; itself always. Drawn in docs/design.md.
    "errors": set(),
    "times": set(),
    "asked": {"errors"},
    "wording": set(),
    "rename": set(),
    "files": {"rename"},
    "names": {"errors"},
    "model": {"errors"},
    "answers": {"model", "errors"},
    "reports": {"model"},
    "events": {"reports", "errors"},
    "config": {"names", "errors"},
    "crypto": {"names", "model", "errors"},
    "cache": {"asked", "answers", "reports", "files", "crypto", "names", "model", "errors", "times"},
    "journal": {"crypto", "names", "model", "errors"},
    "remote": {"files", "crypto", "names", "model", "errors"},
    "engine": {
        "answers", "reports", "events", "cache", "journal", "remote", "files", "crypto", "names", "model",
        "asked", "errors", "times", "wording",
    },
    "upkeep": {"reports", "cache", "journal", "remote", "crypto", "names", "model", "errors"},
    "folders": {"reports", "cache", "journal", "remote", "crypto", "names", "model", "errors"},
    # The vault is one layer of several files; within it `membership` is the top and `reader` the bottom.
    "reader": {"engine", "cache", "model", "errors", "times"},
    "blobs": {
        "answers", "asked", "reader", "engine", "cache", "journal", "crypto", "names", "model", "errors",
        "times",
    },
    "namespace": {"answers", "blobs", "engine", "model"},
    "transaction": {"answers", "blobs", "engine", "cache", "journal", "names", "model", "errors"},
    "devices": {"reports", "engine", "cache", "journal", "model", "errors"},
    "slots": {"reports", "engine", "cache", "remote", "files", "crypto", "names", "model", "errors"},
    "state": {"answers", "reports", "engine", "cache", "names", "model", "errors"},
    "places": {"reports", "engine", "cache", "remote", "model", "errors"},
    "vault": {
        "answers", "reports", "events", "namespace", "transaction", "devices", "state", "slots", "places",
        "engine", "folders", "upkeep", "cache", "journal", "remote", "crypto", "names", "model", "errors",
    },
    "membership": {
        "reports", "vault", "devices", "places", "engine", "cache", "journal", "remote", "files", "crypto",
        "names", "model", "errors",
    },
    "blocking": {
        "answers", "reports", "membership", "vault", "namespace", "transaction", "blobs", "reader", "events",
        "model", "errors",
    },
    "testing": {"remote", "names", "model", "errors"},
    # Knows no crypto: it cannot open a blob.
    "server": {"remote", "files", "names", "model", "errors"},
}  # fmt: skip
TOP = {"agent", "cli"}
"""May import everything but each other upwards: `cli` imports `agent`."""

SERVER_REMOTE = {"syncagent.remote.directory", "syncagent.remote.base"}
"""All that the server takes of `remote`: the folder, and what that is made of."""

HOMES: dict[str, str | tuple[str, ...]] = {
    # Where a library may be imported: a file, or a folder.
    "sqlcipher3": "cache/db.py",
    "cryptography": "crypto/",
    "zstandard": "crypto/",
    "httpx": "remote/http/client.py",
    "httpcore": "remote/http/",
    "click": "cli/",
    "rich": "cli/",
    "sqlite3": "server/accounts.py",
    "starlette": "server/",
    "uvicorn": "server/",
    "prometheus_client": "server/observe.py",
    # A lock each; threads themselves come from anyio.
    "threading": ("cache/commit.py", "blocking/"),
}
PURE = ("engine/plan.py", "engine/backoff.py", "journal/merge.py", "journal/chain.py", "journal/clock.py")
IMPURE_MODULES = {
    "time",
    "datetime",
    "random",
    "secrets",
    "os",
    "anyio",
    "asyncio",
    "trio",
    "threading",
    "socket",
}
DISK_HOMES = ("files.py", "rename.py", "testing")
DISK_CALLS = {
    "fsync",
    "hardlink_to",
    "symlink_to",
    "unlink",
    "rename",
    "mkdir",
    "rmdir",
    "touch",
    "truncate",
    "write_bytes",
    "write_text",
}
"""What changes the disk. (`rmtree` removes only what never counted; a lock is opened where it is held.)"""
BANNED = {"asyncio", "trio", "requests", "pickle"}
"""Nowhere: anyio does it, or nothing may."""


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module or name that is imported, at the top, in a function or for typing."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide what they point at"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(path: Path) -> str:
    """`cache` for a file in the folder, `vault` for the file `vault.py`."""
    first = path.parts[0]
    return first.removesuffix(".py")


def layer_faults(path: Path, tree: ast.AST) -> list[str]:
    """Imports of the project that point up or sideways."""
    part = part_of(path)
    if part == "__init__":
        return []  # the public names come from everywhere; that it is lazy is another test
    faults = []
    for name in imports(tree):
        if not name.startswith("syncagent."):
            continue
        other = name.split(".")[1]
        if other == "__version__" or other == part:
            continue
        if part == "server" and other == "remote" and ".".join(name.split(".")[:3]) not in SERVER_REMOTE:
            faults.append(f"{path} imports {name}")
        elif part in TOP:
            if other in TOP and (part, other) != ("cli", "agent"):
                faults.append(f"{path} imports {name}")
        elif other not in BELOW[part]:
            faults.append(f"{path} imports {name}")
    return faults


def home_faults(path: Path, tree: ast.AST) -> list[str]:
    """Libraries imported away from home."""
    faults = []
    for name in imports(tree):
        library = name.split(".")[0]
        home = HOMES.get(library)
        if library in BANNED or (home is not None and not path.as_posix().startswith(home)):
            faults.append(f"{path} imports {name}")
    return faults


def disk_faults(path: Path, tree: ast.AST) -> list[str]:
    """Changes of the disk that `files.py` would not tell its observer, nor make durable."""
    if path.parts[0] in DISK_HOMES:
        return []
    return [
        f"{path}:{node.lineno} calls {ast.unparse(node.func)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func.value) != "files"
        and (node.func.attr in DISK_CALLS or ast.unparse(node.func) in ("os.replace", "os.link", "os.remove"))
    ]


def purity_faults(path: Path, tree: ast.AST) -> list[str]:
    """What a pure file may not have."""
    waits = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    faults = [f"{path}:{node.lineno} waits" for node in ast.walk(tree) if isinstance(node, waits)]
    return faults + [
        f"{path} imports {name}" for name in imports(tree) if name.split(".")[0] in IMPURE_MODULES
    ]


def files() -> list[Path]:
    return sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def parsed(path: Path) -> ast.AST:
    return ast.parse((PACKAGE / path).read_text(encoding="utf-8"), str(path))


@pytest.mark.parametrize("path", files(), ids=str)
def test_imports_point_down_only(path: Path) -> None:
    assert layer_faults(path, parsed(path)) == []


@pytest.mark.parametrize("path", files(), ids=str)
def test_a_library_is_imported_in_its_one_place(path: Path) -> None:
    assert home_faults(path, parsed(path)) == []


@pytest.mark.parametrize("path", files(), ids=str)
def test_files_are_changed_in_one_place(path: Path) -> None:
    assert disk_faults(path, parsed(path)) == []


@pytest.mark.parametrize(
    "code", ["os.fsync(1)", "path.unlink()", "os.replace(a, b)", "(folder / 'a').write_bytes(b'')"]
)
def test_a_file_that_is_changed_elsewhere_is_found(code: str) -> None:
    assert len(disk_faults(Path("cache/packfiles.py"), ast.parse(code))) == 1


@pytest.mark.parametrize("name", PURE)
def test_what_decides_neither_waits_nor_looks_at_a_clock(name: str) -> None:
    assert purity_faults(Path(name), parsed(Path(name))) == []


def test_every_part_of_the_package_has_its_place() -> None:
    assert {part_of(path) for path in files()} - {"__init__"} <= set(BELOW) | TOP


def test_nothing_points_in_a_circle() -> None:
    seen: set[str] = set()
    while ready := {part for part, below in BELOW.items() if part not in seen and below <= seen}:
        seen |= ready
    assert seen == set(BELOW)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("cache/blobs.py", "from syncagent.journal import merge"),
        ("cache/blobs.py", "from syncagent.remote.base import Remote"),
        ("journal/merge.py", "def f():\n    import syncagent.cache.db"),
        ("remote/base.py", "from syncagent.engine.gate import TransferGate"),
        ("crypto/pack.py", "from syncagent.cache import chunks"),
        ("model.py", "from syncagent import names"),
        ("engine/send.py", "from syncagent.vault import Vault"),
        ("engine/send.py", "from syncagent import cli"),
        ("reader.py", "from syncagent.namespace import Namespace"),
        ("vault.py", "from syncagent.membership import create_vault"),
        ("agent/loop.py", "from syncagent.cli import main"),
        ("server/app.py", "from syncagent.crypto.keys import VaultKeys"),
        ("server/app.py", "from syncagent.remote.retry import RetryRemote"),
        ("server/app.py", "from syncagent.vault import Vault"),
    ],
)
def test_an_import_that_points_up_is_found(path: str, code: str) -> None:
    assert len(layer_faults(Path(path), ast.parse(code))) == 1


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("cli/main.py", "from syncagent.agent.loop import run"),
        ("engine/send.py", "from syncagent.cache import chunks\nfrom syncagent.journal.batch import Batch"),
        ("server/app.py", "from syncagent.remote.directory import DirectoryRemote"),
    ],
)
def test_an_import_that_points_down_is_not(path: str, code: str) -> None:
    assert layer_faults(Path(path), ast.parse(code)) == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("cache/blobs.py", "import sqlcipher3"),
        ("cache/blobs.py", "from sqlcipher3 import dbapi2"),
        ("engine/send.py", "from cryptography.hazmat.primitives import hashes"),
        ("remote/retry.py", "import httpx"),
        ("vault.py", "def f():\n    import asyncio"),
        ("engine/engine.py", "from threading import Thread"),
    ],
)
def test_a_library_away_from_home_is_found(path: str, code: str) -> None:
    assert len(home_faults(Path(path), ast.parse(code))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "import time",
        "from random import random",
        "def f():\n    import anyio.lowlevel",
        "async def f() -> None: pass",
    ],
)
def test_what_is_not_pure_is_found(code: str) -> None:
    assert len(purity_faults(Path("engine/plan.py"), ast.parse(code))) == 1

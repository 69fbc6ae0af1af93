"""A server as a process of its own, and objects to give it."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from syncagent.server.accounts import Accounts
from syncagent.server.run import make_data_folder

DEVICE = "0123456789abcdef" * 2
RECORD = f"devices/{DEVICE}"
END_S = 60
"""How long a server may take to end before the test gives up on it."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that answers at `url`."""

    url: str
    data: Path
    process: "subprocess.Popen[bytes]"

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait(END_S)

    def stop(self) -> int:
        """End it as an operator would; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(END_S)


@contextlib.contextmanager
def running_server(data: Path, *arguments: str, port: int = 0) -> Iterator[RunningServer]:
    """Start `syncagent serve` on a folder; ended when the block is left."""
    options = ["--data", str(data), "--listen", f"127.0.0.1:{port}", "--json", "--quiet"]
    process = subprocess.Popen(
        [sys.executable, "-m", "syncagent.cli", "serve", *options, *arguments],
        env={**os.environ, "SYNCAGENT_HOME": str(data.parent / "home")},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            line = process.stdout.readline()
            yield RunningServer(json.loads(line)["url"], data, process)
        finally:
            process.kill()
            process.wait(END_S)


def add_user(
    data: Path, name: str = "alice", *, quota_bytes: int | None = None, is_append_only: bool = False
) -> str:
    """A new user's token."""
    with accounts_of(data) as accounts:
        return accounts.add_user(name, quota_bytes=quota_bytes, is_append_only=is_append_only)


@contextlib.contextmanager
def accounts_of(data: Path) -> Iterator[Accounts]:
    """The users of a data folder, whether a server runs on it or not."""
    make_data_folder(data)
    with contextlib.closing(Accounts.open(data)) as accounts:
        yield accounts


def client_of(url: str, token: str | None) -> httpx.Client:
    """Whoever shows this token."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False)


def pack_name(data: bytes) -> str:
    """The only legal name of a pack that holds these bytes."""
    return f"packs/{hashlib.sha256(data).hexdigest()}"


def batch_name(seq: int) -> str:
    """The name of one of the device's batches."""
    return f"journal/{DEVICE}/{seq:012d}"


def object_path(name: str, vault: str = "default") -> str:
    """Where an object is, below the server's URL."""
    return f"/v1/vaults/{vault}/objects/{name}"

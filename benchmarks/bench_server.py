"""What the server bears: throughput of bodies and of small requests, and its memory while clients upload.

    python -m benchmarks.bench_server --folder DIR --clients 8 --mib 1024

Starts `syncagent serve` on a folder and clients in processes of their own, over loopback. Each
client puts its bytes as packs of 8 MiB, reads some of them again, and puts small objects. The
peak of the server's resident memory is the kernel's own count (`VmHWM`): Linux only.
"""

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

PACK_SIZE = 8 << 20
READ_AGAIN = 16
SMALL_OBJECTS = 200
SMALL_SIZE = 2_000


@dataclass(frozen=True, slots=True)
class Load:
    """What one client does, and where."""

    host: str
    token: str
    number: int
    packs: int


@dataclass(frozen=True, slots=True)
class Seconds:
    """How long each part took a client."""

    put: float
    get: float
    small: float


class Client:
    """One connection to the server."""

    def __init__(self, load: Load) -> None:
        self._connection = http.client.HTTPConnection(load.host)
        self._headers = {"Authorization": f"Bearer {load.token}", "If-None-Match": "*"}

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """The body of an answer; anything but success is the end."""
        self._connection.request(method, f"/v1/vaults/{path}", body, self._headers)
        answer = self._connection.getresponse()
        found = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status} {found!r}")
        return found


def main(arguments: list[str] | None = None) -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description="What the server bears.")
    parser.add_argument(
        "--folder", type=Path, required=True, help="where the server keeps its data meanwhile"
    )
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--mib", type=int, default=1024, help="what each client uploads")
    options = parser.parse_args(arguments)
    data: Path = options.folder / "bench-server"
    packs = max(1, (options.mib << 20) // PACK_SIZE)
    command = [sys.executable, "-m", "syncagent.cli"]
    added = subprocess.run(
        [*command, "serve", "user", "add", "bench", "--data", str(data), "--json"],
        check=True,
        capture_output=True,
    )
    token = json.loads(added.stdout)["token"]
    server = subprocess.Popen(
        [*command, "serve", "--data", str(data), "--listen", "127.0.0.1:0", "--json", "--quiet"],
        stdout=subprocess.PIPE,
    )
    try:
        assert server.stdout is not None
        host = json.loads(server.stdout.readline())["url"].removeprefix("http://")
        idle = memory_mib(server.pid)
        with contextlib.closing(Client(Load(host, token, 0, 0))) as client:
            client.ask("PUT", "default")
        loads = [Load(host, token, number, packs) for number in range(options.clients)]
        with ProcessPoolExecutor(options.clients) as pool:
            seconds = list(pool.map(work, loads))
        print(report(options.clients, packs, seconds))
        print(f"server memory: {idle:.0f} MiB idle, {memory_mib(server.pid):.0f} MiB at most")
    finally:
        server.terminate()
        server.communicate()
        shutil.rmtree(data)


def work(load: Load) -> Seconds:
    """One client's part."""
    with contextlib.closing(Client(load)) as client:
        return timed(client, load)


def timed(client: Client, load: Load) -> Seconds:
    """A client's work, part by part."""
    base = os.urandom(PACK_SIZE)
    names: list[str] = []
    seconds_put = 0.0
    for pack in range(load.packs):
        body = load.number.to_bytes(8) + pack.to_bytes(8) + base[16:]
        names.append(f"default/objects/packs/{hashlib.sha256(body).hexdigest()}")
        began = time.perf_counter()
        client.ask("PUT", names[-1], body)
        seconds_put += time.perf_counter() - began
    began = time.perf_counter()
    for name in names[:READ_AGAIN]:
        client.ask("GET", name)
    seconds_get = time.perf_counter() - began
    began = time.perf_counter()
    for seq in range(SMALL_OBJECTS):
        client.ask("PUT", f"default/objects/journal/{load.number:032x}/{seq:012d}", base[:SMALL_SIZE])
    return Seconds(seconds_put, seconds_get, time.perf_counter() - began)


def report(clients: int, packs: int, seconds: list[Seconds]) -> str:
    """The figures, a line each. Clients run side by side, so the slowest one's time counts."""
    mb = clients * PACK_SIZE / 1e6
    read_again = min(packs, READ_AGAIN)
    lines = [
        f"{clients} clients, {packs * PACK_SIZE >> 20} MiB each",
        f"put 8 MiB: {mb * packs / max(one.put for one in seconds):.0f} MB/s",
        f"get 8 MiB: {mb * read_again / max(one.get for one in seconds):.0f} MB/s",
        f"put 2 kB: {clients * SMALL_OBJECTS / max(one.small for one in seconds):.0f} objects/s",
    ]
    return "\n".join(lines)


def memory_mib(pid: int) -> float:
    """The most memory that a process has had resident."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()

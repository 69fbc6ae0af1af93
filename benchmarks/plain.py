"""What moving the same bytes costs with httpx alone: no sealing, no names, no journal, no cache."""

import hashlib
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx

from benchmarks.floors import MIB, settle

BODY_BYTES = 8 * MIB
AT_ONCE = 4
"""As many as a sync has under way."""


@dataclass(frozen=True, slots=True)
class PlainSeconds:
    """Of all bodies, each way."""

    put: float
    get: float


async def plain_seconds(sources: Sequence[Path], url: str, token: str, runs: int = 1) -> PlainSeconds:
    """PUT and then GET these files as bodies of 8 MiB, four at a time.

    Args:
        sources: the files.
        url: of a server; vaults `plain-0` and so on are made there.
        token: of their user.
        runs: how often; the medians are given.
    """
    # As an application would have them that keeps files: read before the clock starts, hashed with it
    # running, because the server asks for a name that is the content's hash.
    bodies = list(_bodies(sources))
    puts, gets = [], []
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(
        base_url=url, headers=headers, timeout=600, trust_env=False, limits=limits
    ) as client:
        for number in range(runs):
            vault = f"/v1/vaults/plain-{time.time_ns()}-{number}"
            (await client.put(vault)).raise_for_status()
            names: list[str] = []

            async def put(body: bytes, vault: str = vault, names: list[str] = names) -> None:
                name = f"packs/{hashlib.sha256(body).hexdigest()}"
                answer = await client.put(f"{vault}/objects/{name}", content=body)
                assert answer.status_code == 201, answer.text
                names.append(name)

            async def get(name: str, vault: str = vault) -> None:
                answer = await client.get(f"{vault}/objects/{name}")
                assert answer.status_code == 200, answer.text
                assert len(answer.content) > 0

            puts.append(await _seconds(put, bodies))
            gets.append(await _seconds(get, list(names)))
    return PlainSeconds(statistics.median(puts), statistics.median(gets))


def _bodies(sources: Sequence[Path]) -> Iterable[bytes]:
    for path in sources:
        with path.open("rb") as file:
            while body := file.read(BODY_BYTES):
                yield body


async def _seconds(act: Callable[..., Awaitable[None]], things: Sequence[object]) -> float:
    settle()
    left = list(reversed(things))

    async def work() -> None:
        while left:
            await act(left.pop())

    started = time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(AT_ONCE):
            group.start_soon(work)
    return time.perf_counter() - started

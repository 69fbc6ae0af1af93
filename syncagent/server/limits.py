"""How much one client may ask for: the numbers, and who is over them."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic

from syncagent.server.problem import busy


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server bears. The defaults suit one small machine and some hundred devices.

    Args:
        header_bytes: URL and headers of a request together. Ours have some 500.
        header_s: time to send them, from the connection or their first byte on.
        idle_s: longest silence within a body, and longest stall of a reader.
        slowest_bytes_s: a body may take `idle_s` and this many bytes a second on top. A quarter of
            the half Mbit/s that the client is made for.
        keep_alive_s: how long an idle connection is kept. Longer than clients keep theirs, so that
            the client is the one that closes: a request on a connection just closed here would fail.
        connections: open at once, waiting ones included; more are closed without an answer.
        transfers: requests at once, of all clients together, other than waiting ones.
        transfers_per_token: the same of one token. Eight devices with eight transfers each.
        waiting_per_token: long polls at once of one token.
        vaults: of one user. A folder each, which no quota counts; a client reads no longer list.
        requests_s: requests a second that one token may make over time.
        burst: requests that a token may make at once, having been quiet before.
        longest_wait_s: of a long poll, whatever the client asks for.
        drain_s: how long a stop waits for requests under way.
    """

    header_bytes: int = 16 << 10
    header_s: float = 10.0
    idle_s: float = 30.0
    slowest_bytes_s: int = 16 << 10
    keep_alive_s: float = 65.0
    connections: int = 8192
    transfers: int = 128
    transfers_per_token: int = 64
    waiting_per_token: int = 4096
    vaults: int = 1000
    requests_s: float = 500.0
    burst: int = 2000
    longest_wait_s: float = 300.0
    drain_s: float = 20.0


@dataclass(slots=True)
class _Account:
    allowance: float
    at: float
    transfers: int = 0
    waiting: int = 0


class Turnstile:
    """Counts what each token does. Only tokens that exist get an entry, so attackers cannot fill it."""

    def __init__(self, limits: Limits, *, clock: Callable[[], float] = monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._accounts: dict[str, _Account] = {}
        self.transfers = 0
        self.waiting = 0

    @contextlib.contextmanager
    def admitted(self, token_id: str, *, is_waiting: bool) -> Iterator[None]:
        """Around one request of a token; `Problem` where it would be one too many."""
        limits = self._limits
        account = self._account(token_id)
        if account.allowance < 1:
            wait_s = max(1, round((1 - account.allowance) / limits.requests_s))
            raise busy("rate-limited", "too many requests in a short time", retry_after_s=wait_s)
        account.allowance -= 1
        if is_waiting:
            if account.waiting >= limits.waiting_per_token:
                raise busy(
                    "too-many-waiting", "too many requests of this token wait for changes", retry_after_s=30
                )
            account.waiting += 1
            self.waiting += 1
        else:
            if account.transfers >= limits.transfers_per_token:
                raise busy("too-many-at-once", "too many requests of this token are under way")
            if self.transfers >= limits.transfers:
                raise busy("overloaded", "too many requests are under way", status=503)
            account.transfers += 1
            self.transfers += 1
        try:
            yield
        finally:
            if is_waiting:
                account.waiting -= 1
                self.waiting -= 1
            else:
                account.transfers -= 1
                self.transfers -= 1

    def _account(self, token_id: str) -> _Account:
        limits, now = self._limits, self._clock()
        account = self._accounts.get(token_id)
        if account is None:
            account = self._accounts[token_id] = _Account(limits.burst, now)
        earned = (now - account.at) * limits.requests_s
        account.allowance, account.at = min(limits.burst, account.allowance + earned), now
        return account

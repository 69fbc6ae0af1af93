"""The settings of namespaces: blobs without content in the namespace `.settings`, merged like any other.

A blob is named after its namespace, and its metadata are the settings. What this version does not know,
because a newer one has written it, is kept as it is and counts as not set.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from syncagent import names
from syncagent.asked import checked_bool
from syncagent.cache import blobs, settings
from syncagent.cache.db import Database
from syncagent.engine.context import Context
from syncagent.errors import ConfigError
from syncagent.model import Dedup, FetchPolicy, MetadataValue, NamespaceSettings, Version

FETCH, DEDUP, HISTORY = "fetch", "dedup", "history"
MOST_HISTORY = 1_000_000


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """What of the settings is to be set, by the names that are synced, and whether new blobs stay here."""

    synced: Mapping[str, MetadataValue]
    local_only: bool | None


def checked_change(
    *,
    fetch: FetchPolicy | str | None,
    dedup: Dedup | str | None,
    history: int | None,
    local_only: bool | None,
) -> SettingsChange:
    """A change, or `ConfigError`. None leaves a setting as it is; a history of 0 is all versions."""
    synced: dict[str, MetadataValue] = {}
    if fetch is not None:
        synced[FETCH] = _one_of(FETCH, fetch, [policy.value for policy in FetchPolicy])
    if dedup is not None:
        synced[DEDUP] = _one_of(DEDUP, dedup, [scope.value for scope in Dedup])
    if history is not None:
        if isinstance(history, bool) or not isinstance(history, int) or not 0 <= history <= MOST_HISTORY:
            raise ConfigError(f"history is a number of versions, or 0 for all of them, not {history!r}")
        synced[HISTORY] = history
    if local_only is not None:
        checked_bool(local_only, "local_only")
    return SettingsChange(synced, local_only)


def parsed(metadata: Mapping[str, MetadataValue]) -> NamespaceSettings:
    """What this version understands of a namespace's settings; anything else counts as not set."""
    fetch, dedup, history = metadata.get(FETCH), metadata.get(DEDUP), metadata.get(HISTORY)
    is_count = isinstance(history, int) and not isinstance(history, bool) and 1 <= history <= MOST_HISTORY
    return NamespaceSettings(
        fetch=next((one for one in FetchPolicy if one.value == fetch), FetchPolicy.EAGER),
        dedup=next((one for one in Dedup if one.value == dedup), Dedup.NAMESPACE),
        history=int(history) if is_count and history is not None else None,
    )


def follow(db: Database, winner: Version) -> None:
    """Let what stands in the row of a namespace follow the version of its settings that wins now."""
    if not names.is_user_namespace(winner.blob_id):
        return  # of a namespace that a newer version may have
    number = blobs.namespace_no(db, winner.blob_id)
    settings.store(db, number, NamespaceSettings() if winner.deleted else parsed(winner.metadata))


async def settle_policies(ctx: Context) -> None:
    """Where a fetch policy has changed, want or stop wanting what is known already; a slice at a time.

    Stopped anywhere, it is taken up by the next sync.
    """
    unsettled = await ctx.cache.read(settings.unsettled)
    if unsettled:
        await ctx.reads.flush(ctx.cache)
    for one in unsettled:
        after: int | None = 0
        while after is not None:
            after = await ctx.cache.write(
                partial(settings.settle_some, wanted=one, after=after, now_ms=ctx.now_ms()), background=True
            )


def _one_of(name: str, value: enum.Enum | str, known: Sequence[str]) -> str:
    wanted = value.value if isinstance(value, FetchPolicy | Dedup) else value
    for one in known:
        if wanted == one:
            return one
    raise ConfigError(f"{name} is one of {', '.join(known)}, not {value!r}")

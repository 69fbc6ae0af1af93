"""Alarms on their way to the user: kept until a report has told them, and for `status` until the next sync.

What is found once, such as a batch that contradicts another device, is kept in the very
transaction that finds it: no crash, no cancellation and no later failure of the round may
swallow it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from syncagent.cache import meta
from syncagent.cache.db import Database
from syncagent.reports import Alarm

_MOST = 100
"""A hostile remote can cause any number; a person needs only the first ones."""


@dataclass(frozen=True, slots=True)
class KeptAlarm:
    """An alarm, and whether a report has told it."""

    alarm: Alarm
    is_told: bool


def load(db: Database) -> list[KeptAlarm]:
    """Every alarm kept, in the order found."""
    text = meta.find_text(db, meta.ALARMS)
    return [] if text is None else msgspec.json.decode(text, type=list[KeptAlarm])


def keep(db: Database, found: Iterable[Alarm]) -> None:
    """Keep alarms for the next report."""
    before = load(db)
    untold = {kept.alarm: None for kept in before if not kept.is_told} | dict.fromkeys(found)
    told = [kept for kept in before if kept.alarm not in untold]
    _store(db, before, [*told, *(KeptAlarm(alarm, False) for alarm in untold)])


def tell(db: Database, found: Sequence[Alarm]) -> tuple[Alarm, ...]:
    """What the report of a round has to tell: what it found, and what no report has told yet.

    Exactly these are kept, as told. Writes nothing where nothing changes.
    """
    before = load(db)
    telling = tuple(dict.fromkeys([*found, *(kept.alarm for kept in before if not kept.is_told)]))
    _store(db, before, [KeptAlarm(alarm, True) for alarm in telling])
    return telling


def is_quiet(db: Database, found: Sequence[Alarm]) -> bool:
    """Whether telling these alarms would change nothing."""
    return load(db) == [KeptAlarm(alarm, True) for alarm in dict.fromkeys(found)][:_MOST]


def _store(db: Database, before: list[KeptAlarm], now: list[KeptAlarm]) -> None:
    if now[:_MOST] != before:
        meta.put(db, meta.ALARMS, msgspec.json.encode(now[:_MOST]).decode() if now else None)

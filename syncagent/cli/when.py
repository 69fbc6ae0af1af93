"""Times as the user writes them."""

import datetime
import re

import click

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_when(text: str, now: datetime.datetime) -> datetime.datetime:
    """`30m`, `12h`, `7d` or `2w` from now, or a date and time of ISO 8601 with its zone.

    Raises:
        click.UsageError: it is neither, or beyond the year 9999.
    """
    try:
        if found := re.fullmatch(r"([0-9]{1,9})([mhdw])", text):
            return now + datetime.timedelta(**{_UNITS[found[2]]: int(found[1])})
        at = datetime.datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        at = None
    if at is None or at.tzinfo is None:
        raise click.UsageError(f"{text!r} is no time: write 30m, 12h, 7d, 2w or 2030-12-31T12:00:00+01:00")
    return at

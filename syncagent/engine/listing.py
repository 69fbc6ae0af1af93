"""Names that the remote lists, each checked before it is used."""

from syncagent import names
from syncagent.errors import BadResponse
from syncagent.remote.base import Remote

MOST_NAMES = 1_000_000
"""Names one listing may have; a remote that lists on for ever is stopped there."""


async def list_names(remote: Remote, prefix: str, *, after: str = "") -> list[str]:
    """Every object name under a prefix, in order; each page is checked before the next is asked for."""
    found: list[str] = []
    while True:
        page = await remote.list(prefix, after=after)
        for info in page.objects:
            if not info.name.startswith(prefix) or info.name <= after or not names.is_object_name(info.name):
                raise BadResponse(f"a listing of {prefix!r} is not in order or names something else")
            after = info.name
            found.append(info.name)
        if not page.more:
            return found
        if not page.objects or len(found) > MOST_NAMES:
            raise BadResponse(f"a listing of {prefix!r} does not end")

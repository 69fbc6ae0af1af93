"""Where the vault's remote is and what lets this device in there: in the encrypted cache and nowhere else."""

from dataclasses import dataclass, field

from syncagent.cache import meta
from syncagent.cache.db import Database


@dataclass(frozen=True, slots=True)
class Place:
    """A remote's URL; for a server the token, and absolute paths of certificate files. `url` may be empty."""

    url: str
    token: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    client_cert: str | None = None


def load_place(db: Database) -> Place:
    """The place that is kept."""
    return Place(
        url=meta.find_text(db, meta.REMOTE) or "",
        token=meta.find_text(db, meta.TOKEN),
        ca_file=meta.find_text(db, meta.CA_FILE),
        client_cert=meta.find_text(db, meta.CLIENT_CERT),
    )


def store_place(db: Database, place: Place) -> None:
    """Keep a place instead of the former one. Open processes take it over before their next round."""
    meta.put(db, meta.REMOTE, place.url)
    meta.put(db, meta.TOKEN, place.token)
    meta.put(db, meta.CA_FILE, place.ca_file)
    meta.put(db, meta.CLIENT_CERT, place.client_cert)

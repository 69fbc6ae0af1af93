"""`NS/ID` as the user writes it: a namespace, and everything after the first slash."""

from dataclasses import dataclass

import click

from syncagent import names
from syncagent.cli.text import from_argument, nfc


@dataclass(frozen=True, slots=True)
class Target:
    """A blob by name, or a group of them: then `blob_id` is what their ids begin with."""

    namespace: str
    blob_id: str


def parse_blob(text: str) -> Target:
    """One blob. The id is brought to NFC, which is the only form there is.

    Raises:
        InvalidName: a part is outside its grammar.
        click.UsageError: there is no slash.
    """
    target = _split(text)
    names.check_blob_id(target.blob_id)
    return target


def parse_tree(text: str) -> Target:
    """Where a folder goes: `NS/` or `NS/PREFIX/`. Raises as `parse_blob` does."""
    target = parse_listing(text)
    if "/" not in text or (target.blob_id and not target.blob_id.endswith("/")):
        raise click.UsageError("with --recursive the target ends in a slash, as in notes/")
    return target


def parse_listing(text: str) -> Target:
    """What is listed: `NS` or `NS/PREFIX`. Raises `InvalidName`."""
    return _split(text) if "/" in text else Target(names.check_namespace(from_argument(text)), "")


def _split(text: str) -> Target:
    namespace, slash, blob_id = nfc(from_argument(text)).partition("/")
    names.check_namespace(namespace)
    if not slash:
        raise click.UsageError(f"{namespace!r} names no blob: write NAMESPACE/ID, as in notes/hello")
    return Target(namespace, blob_id)

"""A namespace of an open vault, as its users see it. What its calls do is in `blobs/`, a file a subject:
`writing.py`, `reading.py`, `listing.py`, `marking.py`, `versions.py`."""

import datetime
from collections.abc import Iterable, Mapping, Sequence

from syncagent.answers import (
    Blob,
    BlobInfo,
    BlobPage,
    Conflict,
    FlagsResult,
    GetResult,
    PrefetchResult,
    PutResult,
    VersionInfo,
)
from syncagent.blobs import holding, listing, marking, reading, settings, versions, writing
from syncagent.blobs.inside import Inside
from syncagent.blobs.reading import OpenBlob
from syncagent.blobs.writing import Request, checked_put
from syncagent.engine.context import Context
from syncagent.engine.engine import Engine
from syncagent.engine.expected import check_expected
from syncagent.engine.settings import checked_change
from syncagent.engine.sources import Source
from syncagent.model import (
    DEFAULT_PRIORITY,
    Dedup,
    FetchPolicy,
    MetadataValue,
    NamespaceSettings,
    SyncStatus,
    Version,
)


class Namespace:
    """A named group of blobs. Made by `Vault.namespace`; costs nothing to make."""

    def __init__(self, name: str, ctx: Context, engine: Engine) -> None:
        self.name = name
        self._inside = Inside(name, ctx, engine)

    async def put(
        self,
        blob_id: str | None,
        data: Source,
        *,
        metadata: Mapping[str, MetadataValue] | None = None,
        replace: bool = False,
        if_version: Version | VersionInfo | str | None = None,
        expected_sha256: bytes | str | None = None,
        expected_size: int | None = None,
        priority: int = DEFAULT_PRIORITY,
        local_only: bool | None = None,
        expires_at: datetime.datetime | None = None,
    ) -> Version:
        """Store a blob; durable in the cache on return, and sent by the next sync.

        The same bytes and metadata under an existing id are no new version: the
        existing one is returned. A path is copied in; the file is not watched.

        Args:
            blob_id: 1 to 1024 bytes of UTF-8 in NFC, without NUL. None for one made of the content: the
                hex digest of it, the same for the same content.
            data: bytes, the path of a regular file, or an async iterable of bytes.
            metadata: text keys to text, 64-bit int, finite float, bool or bytes; at most 16 KiB packed.
            replace: store a new version where the id holds other bytes or metadata.
            if_version: replace, but only this version: the blob's present one, named as for `get`. The last
                one of a blob that has expired since counts too, and so does a deletion: nobody has
                changed it, and the blob is made anew.
            expected_sha256: of the whole content, 32 bytes or hex.
            expected_size: of the content, in bytes.
            priority: 1 to 4; what is sent first has the smallest.
            local_only: True keeps the blob on this device for ever, False shares it; None leaves it as it
                is, and shares a new one. What was sent already stays sent. What waits to be sent and has a
                tag, or is part of a transaction, is sent, and True is refused.
            expires_at: when the blob is to be gone, as for `set_expiry`, in the future. None leaves it as
                it is, and a new blob never expires; if another device gives a blob of the same new id a
                time meanwhile, that holds for both.

        Raises:
            InvalidName, LimitExceeded, ConfigError: the id, size, metadata or an option cannot be used.
            BlobExists: the id holds something else and `replace` is not set.
            VersionConflict: the present version is another than `if_version`, or there is none.
            VersionNotFound: `if_version` is no id, and names none of the blob's versions.
            ContentMismatch: the content is not what was expected.
            SourceChanged: the file cannot be read or changed while it was read.
            CacheFull: the disk is full. In every case nothing was stored.
        """
        wanted = checked_put(
            self.name,
            blob_id,
            metadata=metadata,
            replace=replace,
            if_version=if_version,
            priority=priority,
            local_only=local_only,
            expires_at=expires_at,
        )
        expected = check_expected(expected_sha256, expected_size)
        return await writing.put_one(self._inside, wanted, data, expected)

    async def put_many(
        self,
        blobs: Iterable[tuple[str | None, Source] | tuple[str | None, Source, Mapping[str, MetadataValue]]],
        *,
        replace: bool = False,
        priority: int = DEFAULT_PRIORITY,
    ) -> list[PutResult]:
        """Store many blobs, each as `put` does; what failed says why, the others are stored.

        Much faster than as many calls of `put` one after another. Each blob is all or
        nothing; the whole is not (that is what a transaction is for).

        Args:
            blobs: (blob id, data) or (blob id, data, metadata); without an id, None, as for `put`.
            replace: as for `put`.
            priority: of each of them, as for `put`.

        Returns:
            One result a blob, in the order given. One that failed before it had an id has an empty one.
        """
        requests = [Request(item[0], item[1], item[2] if len(item) > 2 else {}) for item in blobs]
        return await writing.put_many(self._inside, requests, replace=replace, priority=priority)

    async def get(
        self, blob_id: str, *, version: Version | VersionInfo | str | None = None, keep: bool = True
    ) -> Blob:
        """A blob with its content in memory: local if it is here, else fetched, ahead of all that waits.

        Args:
            blob_id: the blob.
            keep: whether content that is fetched stays on this device.
            version: another version than the present one: its id or at least 8 digits of it, `~1` for the one
                before (`~2`, …), or a tag's name. A deleted blob's versions can be had too.

        Raises:
            BlobNotFound: no live blob has this id on this device.
            VersionNotFound: it has no such version here, or that is a deletion.
            InvalidName: the version's name is ambiguous, or cannot be one.
            BlobNotHere: the content is not here and cannot be fetched now; `available` is what is. Told at
                once, or where the remote is silent after some seconds: nothing is tried again.
            CacheDamaged: the local copy does not verify and no other could be had.
            Tampered, Truncated: the remote's copy does not verify and no other could be had.
        """
        name = None if version is None else str(version)
        return await reading.get_one(self._inside, blob_id, name, keep=keep)

    async def get_many(self, blob_ids: Sequence[str]) -> list[GetResult]:
        """Many blobs, each as `get` gives it, in the order asked for; what failed says why."""
        return await reading.get_many(self._inside, blob_ids)

    def open(
        self, blob_id: str, *, version: Version | VersionInfo | str | None = None, keep: bool = True
    ) -> OpenBlob:
        """Streams a blob: `async with notes.open(id) as reader`, see `BlobReader`; raises as `get` does.

        Of a blob over 256 KiB that is not here, what is read is fetched when it is read, and no more.
        """
        return OpenBlob(self._inside, blob_id, None if version is None else str(version), keep=keep)

    async def delete(self, blob_id: str) -> Version:
        """Delete a blob here at once, and everywhere by the next syncs; the tombstone.

        Raises:
            BlobNotFound: no live blob has this id on this device.
        """
        return await writing.delete_one(self._inside, blob_id)

    async def history(
        self, blob_id: str, *, before: Version | VersionInfo | str | None = None, limit: int = 100
    ) -> list[VersionInfo]:
        """The versions of a blob that this device knows, newest first, also of a deleted one.

        A version that was replaced before it was sent is dropped (folded), and is not among them.

        Args:
            blob_id: the blob.
            before: only those that come after this one in the list, for the next page.
            limit: most versions, 1 to 1,000.

        Raises:
            BlobNotFound: this device knows no blob of this id.
            VersionNotFound, InvalidName: `before` is none of its versions.
        """
        return await versions.list_versions(
            self._inside, blob_id, None if before is None else str(before), limit
        )

    async def tag(self, blob_id: str, version: Version | VersionInfo | str, name: str) -> None:
        """Put a name on a version, by which `get(version=)` finds it, on all devices; `history` shows it.

        A tagged version is kept: it is sent even where it was replaced before that.

        Args:
            blob_id: the blob.
            version: as for `get`.
            name: 1 to 256 bytes of UTF-8 without NUL; not beginning with `~`, nor 8 to 32 hex digits. On
                several versions of a blob it is a label, and names none of them.

        Raises:
            BlobNotFound, VersionNotFound: there is no such blob or version here.
            InvalidName: the name cannot be a tag's, or the version's is ambiguous.
            ConfigError: the blob stays on this device, which keeps no versions of it.
        """
        await versions.tag(self._inside, blob_id, str(version), name, is_on=True)

    async def untag(self, blob_id: str, version: Version | VersionInfo | str, name: str) -> None:
        """Take a tag off a version; no change where it has none of that name. Raises as `tag`."""
        await versions.tag(self._inside, blob_id, str(version), name, is_on=False)

    async def conflicts(self) -> list[Conflict]:
        """Every blob of which two devices have put different versions, neither knowing the other's.

        All devices that have heard of both show the same, and `get` gives the first version everywhere.
        """
        return await versions.list_conflicts(self._inside)

    async def resolve(
        self,
        blob_id: str,
        data: Source | None = None,
        *,
        version: Version | VersionInfo | str | None = None,
        metadata: Mapping[str, MetadataValue] | None = None,
        seen: Conflict | None = None,
    ) -> Version:
        """End a conflict by content, or by one of its versions; everywhere, as soon as others hear of it.

        The versions that it replaces stay in the history. Deleting the blob ends a conflict too. Where one of
        them stays on this device, so does `data`, or that version: `put` with `local_only=False` shares it.

        Args:
            blob_id: the blob.
            data: what is to stand, as for `put`; or
            version: the version whose content is to stand, as for `get`.
            metadata: what is to stand; by default that of `version`, or of the present one.
            seen: what `conflicts` gave. A version that has come since stays, and in conflict; without it,
                it is replaced unseen.

        Raises:
            VersionConflict: the blob is not in conflict any more: nothing was stored.
            BlobNotFound, VersionNotFound, InvalidName: there is no such blob or version.
            ConfigError, SourceChanged, CacheFull and others: as for `put`.
        """
        return await versions.resolve(
            self._inside, blob_id, data, version=version, metadata=metadata, seen=seen
        )

    async def set_metadata(
        self,
        blob_id: str,
        metadata: Mapping[str, MetadataValue],
        *,
        if_version: Version | VersionInfo | str | None = None,
    ) -> Version:
        """Let a blob have other metadata and the same content, which is neither read nor sent again.

        Works where the content is not on this device. The same metadata is no new version. A conflict stays.

        Args:
            blob_id: the blob.
            metadata: all of it: what is not named is gone.
            if_version: only if this is the present version; as for `get`.

        Raises:
            BlobNotFound: no live blob has this id on this device.
            VersionConflict: the present version is another.
            ConfigError, LimitExceeded: the metadata cannot be stored.
        """
        return await versions.set_metadata(self._inside, blob_id, metadata, if_version)

    async def set_expiry(
        self, blob_id: str, at: datetime.datetime | None, *, force: bool = False
    ) -> datetime.datetime | None:
        """Say when a blob is to be gone; when it is, then. None is never.

        Once said, it is only ever put off: of two times the later one stands, on all devices, and never is
        the latest. With `force` this one stands, sooner or not, and later calls put it off from there. From
        then on, by each device's own clock, `get`, `list`, `exists`, `count` and the other calls treat the
        blob as absent; put off, it is there again. A week later its content leaves this device, as by
        `evict`, if it is not pinned. Nothing is removed from the remote for it yet, and `status` still counts
        it. A put of its id makes it anew.

        Args:
            blob_id: a blob that is there, or has expired.
            at: with a time zone; or None.
            force: let it stand also where it is sooner; a time that is past lets the blob go at once.

        Raises:
            BlobNotFound: no blob of this id is here, or it was deleted.
            ConfigError: the time has no zone, or is past and not forced.
        """
        return await marking.set_expiry(self._inside, blob_id, at, force=force)

    async def stat(self, blob_id: str) -> BlobInfo:
        """A blob as `list` shows it, with its flags and metadata, without its content.

        Raises:
            BlobNotFound: no live blob has this id on this device.
        """
        return await listing.stat(self._inside, blob_id)

    async def get_flags(self, blob_id: str) -> frozenset[str]:
        """The flags of a blob, as far as this device has heard.

        Raises:
            BlobNotFound: no live blob has this id on this device. So for all calls about flags.
        """
        return await marking.get_flags(self._inside, blob_id)

    async def add_flags(self, blob_id: str, flags: Iterable[str]) -> frozenset[str]:
        """Set flags; what is set then. Durable here on return, sent by the next sync.

        A flag that one device sets while another takes it away stays set: who takes flags away means those
        that were seen. What is set already is no change. Deleting a blob takes its flags away.

        Args:
            blob_id: the blob.
            flags: each 1 to 256 bytes of UTF-8 without NUL, such as `seen` or `\\Answered`; at most 1,000
                a blob.

        Raises:
            InvalidName: one cannot be a flag.
            LimitExceeded: they would be too many. In every case the old ones are kept as they were.
        """
        return await marking.change_flags(self._inside, blob_id, add=flags)

    async def remove_flags(self, blob_id: str, flags: Iterable[str]) -> frozenset[str]:
        """Take flags away; what is set then. What is not set is no change. Raises as `add_flags`."""
        return await marking.change_flags(self._inside, blob_id, remove=flags)

    async def set_flags(self, blob_id: str, flags: Iterable[str]) -> frozenset[str]:
        """Let a blob have these flags and no others: what differs is changed. Raises as `add_flags`."""
        return await marking.set_flags(self._inside, blob_id, flags)

    async def update_flags(
        self, blob_ids: Iterable[str], *, add: Iterable[str] = (), remove: Iterable[str] = ()
    ) -> list[FlagsResult]:
        """Set and take away the same flags of many blobs, such as `seen` of 500; a result a blob, in order.

        One commit for some hundred blobs; what cannot be, a blob deleted meanwhile, stops no other. All or
        none of them is what a transaction is for.

        Raises:
            InvalidName: one cannot be a flag; nothing was changed.
        """
        return await marking.update_flags(self._inside, blob_ids, add=add, remove=remove)

    async def pin(self, blob_id: str) -> None:
        """Want a blob's content on this device, now and of later versions, whatever the fetch policy is.

        Durable on return; content that is not here is fetched by the next sync, or by `prefetch`.
        `evict` ends it. Other devices are not concerned.

        Raises:
            BlobNotFound: no live blob has this id on this device.
        """
        await holding.pin(self._inside, blob_id)

    async def prefetch(self, blob_ids: Sequence[str]) -> list[PrefetchResult]:
        """Fetch the content of some blobs together, ahead of all that waits; a result each, in order.

        What cannot be fetched now is fetched by the next sync.
        """
        return await holding.prefetch(self._inside, blob_ids)

    async def evict(self, blob_id: str) -> None:
        """Give up a blob's content on this device, of old versions too, and a pin; it is listed as before.

        Only what the remote holds is given up: each of its packs is named by a journal and is there now with
        its size. What another blob shares stays. In an eager namespace the next content is fetched again.

        Raises:
            BlobNotFound: no live blob has this id on this device.
            NotSent: it was not sent yet or never is, or the remote does not show all of it; all was kept.
            ConfigError: the namespace's fetch policy is `pinned`.
            RemoteError: the remote cannot be asked; all was kept.
        """
        await holding.evict(self._inside, blob_id)

    async def settings(
        self,
        *,
        fetch: FetchPolicy | str | None = None,
        dedup: Dedup | str | None = None,
        history: int | None = None,
        local_only: bool | None = None,
    ) -> NamespaceSettings:
        """How this namespace is kept, after a change of what is given. Durable here on return.

        All but `local_only` go to the other devices with the next sync and hold there too. Of changes on
        two devices at once, the later one stands, with all it says.

        Args:
            fetch: `eager` fetches all content, `pinned` too and lets none be evicted; `on-demand` fetches
                what is read, prefetched or pinned, and new versions of what was read here within 30 days
                and is still here. What was known before follows: what still waits to be fetched is not
                wanted any more, or what is elsewhere is wanted; what is here stays.
            dedup: among which blobs equal content is stored once: `namespace`, `vault` or `none`, for
                what strangers write. Of new blobs; the others stay as they are.
            history: how many versions to keep, 0 for all. It is kept for retention, which does not act yet.
            local_only: of this device alone: whether new blobs stay here. What there is stays as it is.

        Raises:
            ConfigError: a value that there is none of, or of another type.
        """
        change = checked_change(fetch=fetch, dedup=dedup, history=history, local_only=local_only)
        return await settings.read_or_change(self._inside, change)

    async def exists(self, blob_id: str) -> bool:
        """Whether a live blob has this id on this device, with or without its content."""
        return await reading.exists(self._inside, blob_id)

    async def count(
        self, *, prefix: str = "", status: SyncStatus | None = None, flag: str | None = None
    ) -> int:
        """How many live blobs there are, or how many match all that is given; without the remote."""
        return await listing.count(self._inside, listing.matching(self._inside, prefix, status, flag))

    async def list(
        self,
        *,
        prefix: str = "",
        status: SyncStatus | None = None,
        flag: str | None = None,
        order_by: str = "id",
        descending: bool = False,
        after: str | None = None,
        limit: int = 1000,
        details: bool = False,
    ) -> BlobPage:
        """Live blobs, a page at a time; answered without the remote.

        While pages are read, every blob that stays as it is comes exactly once. One that is changed
        meanwhile moves in a list by `changed`; by `id` it stays where it is. `docs/embedding.md` says
        which lists are fast, however many blobs there are.

        Args:
            prefix: only ids that begin with it.
            status: only blobs that show this status.
            flag: only blobs on which this flag is set.
            order_by: `id`, `changed`, `created` or `size`.
            descending: the greatest, or the latest, first.
            after: `next` of the page before, of a list with the same filter and order.
            limit: most blobs a page, 1 to 10,000.
            details: with the flags and the metadata of each blob, which takes some 30 µs a blob more.

        Raises:
            ConfigError: an order that there is none of, or `after` is of another list.
        """
        return await listing.list_page(
            self._inside,
            listing.matching(self._inside, prefix, status, flag),
            listing.checked_order(order_by, descending=descending),
            after=after,
            limit=limit,
            details=details,
        )

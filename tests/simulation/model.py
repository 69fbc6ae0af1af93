"""What must be true of all versions that were ever acknowledged, worked out without the product.

A plain dict of versions. Which of them are heads follows from what names what; a
version that is gone must have been superseded, or it is lost.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from syncagent.model import MetadataValue, Version

CHUNK = 1 << 20


class Name(NamedTuple):
    """What a blob is called."""

    namespace: str
    id: str


@dataclass(frozen=True, slots=True)
class Content:
    """What was put: of the bytes the digest of the format (`docs/format.md`), and the metadata."""

    digest: bytes
    metadata: tuple[tuple[str, MetadataValue], ...] = ()

    @classmethod
    def of(cls, data: bytes, metadata: Mapping[str, MetadataValue]) -> "Content":
        """Of what is put, or was got."""
        chunks = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
        digest = hashlib.sha256(b"".join(hashlib.sha256(chunk).digest() for chunk in chunks)).digest()
        return cls(digest, tuple(sorted(metadata.items())))

    @classmethod
    def said_by(cls, version: Version) -> "Content":
        """What a version says of itself."""
        return cls(version.content_digest, tuple(sorted(version.metadata.items())))

    @property
    def compared(self) -> tuple[object, ...]:
        """Two live heads with the same of this are no conflict."""
        return self.digest, tuple(item for item in self.metadata if not item[0].startswith("fs."))


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version as its writer was told of it, or would have been. A deletion has no content."""

    name: Name
    parents: frozenset[bytes]
    content: Content | None
    hlc: int
    group: bytes | None

    @classmethod
    def of(cls, version: Version, content: Content | None) -> "ModelVersion":
        """As the product gave it, but for the content, which the writer knows."""
        return cls(
            Name(version.namespace, version.blob_id),
            frozenset(parent.version for parent in version.parents),
            content,
            version.hlc,
            version.group,
        )


@dataclass(slots=True)
class Model:
    """Every version, and which of them nothing may lose.

    `attempted` has all content that anybody tried to put under a name, acknowledged or not.
    """

    versions: dict[bytes, ModelVersion] = field(default_factory=dict)
    sure: set[bytes] = field(default_factory=set)
    attempted: dict[Name, set[Content]] = field(default_factory=dict)
    flag_tags: dict[int, tuple[Name, str]] = field(default_factory=dict)
    """Every tag under which a flag was set, with the blob and the flag."""
    removed_tags: set[int] = field(default_factory=set)
    are_flags_sure: bool = True
    tagged: set[bytes] = field(default_factory=set)
    """Versions that somebody has put a tag on: none of them may be folded away."""

    def attempt(self, name: Name, content: Content) -> None:
        """Somebody is about to put this."""
        self.attempted.setdefault(name, set()).add(content)

    def acknowledge(self, version: Version, content: Content | None) -> None:
        """A put or a deletion has returned this."""
        assert version.deleted is (content is None), "another kind of version than was asked for"
        assert content is None or Content.said_by(version) == content, "another content than was put"
        self.versions.setdefault(version.id, ModelVersion.of(version, content))
        self.sure.add(version.id)

    def suspect(self, version: Version) -> None:
        """A version is there of which nobody was told, because the process ended."""
        content = None if version.deleted else Content.said_by(version)
        self.versions.setdefault(version.id, ModelVersion.of(version, content))

    def doubt(self, ids: Iterable[bytes]) -> None:
        """The device that had these is gone, or was set back: they may have been published, or not."""
        self.sure.difference_update(ids)
        self.tagged.clear()  # that it was tagged may be forgotten too

    def doubt_flags(self) -> None:
        """Flags have no versions: after a device has forgotten something, nobody can say which are set."""
        self.are_flags_sure = False

    def flags(self) -> set[tuple[Name, str]]:
        """The flags that are set."""
        return {named for tag, named in self.flag_tags.items() if tag not in self.removed_tags}

    def lost(self, present: Mapping[bytes, frozenset[bytes]]) -> list[Name]:
        """Names of sure versions that are neither present nor superseded by one that is.

        Args:
            present: the versions that are there, with what each names as parents.
        """
        reached = self._reached(present, with_own=True)
        return sorted(self.versions[id].name for id in self.sure if id not in present and id not in reached)

    def heads(self, present: Mapping[bytes, frozenset[bytes]]) -> set[bytes]:
        """The present versions that none of the others supersedes, also through versions that are gone."""
        return set(present) - self._reached(present, with_own=False)

    def _reached(self, present: Mapping[bytes, frozenset[bytes]], *, with_own: bool) -> set[bytes]:
        """Everything that is superseded.

        `with_own`: also by what a writer was told and what was folded since; else only by what the present
        versions say, followed through versions that are gone.
        """
        reached: set[bytes] = set()
        waiting = [(id, parent) for id in present for parent in self._named(id, present, with_own)]
        while waiting:
            source, id = waiting.pop()
            if id in reached or id == source:
                continue
            reached.add(id)
            waiting.extend((source, parent) for parent in self._named(id, present, with_own))
        return reached

    def _named(
        self, id: bytes, present: Mapping[bytes, frozenset[bytes]], with_own: bool
    ) -> frozenset[bytes]:
        said = present.get(id, frozenset())
        own = self.versions[id].parents if id in self.versions else frozenset()
        if id not in present:
            return own
        return said | own if with_own else said

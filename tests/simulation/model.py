"""What must be true of all versions that were ever acknowledged, worked out without the product.

A plain dict of versions. Which of them are heads follows from what names what; a
version that is gone must have been superseded, or it is lost.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version as its writer was told of it, or would have been. `data` is None where that is not known."""

    blob_id: str
    parents: frozenset[bytes]
    deleted: bool
    data: bytes | None
    hlc: int
    group: bytes | None


@dataclass(slots=True)
class Model:
    """Every version, and which of them nothing may lose.

    `attempted` has all content that anybody tried to put under a name, acknowledged or not.
    """

    versions: dict[bytes, ModelVersion] = field(default_factory=dict)
    sure: set[bytes] = field(default_factory=set)
    attempted: dict[str, set[bytes]] = field(default_factory=dict)
    flag_tags: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Every tag under which a flag was set, with the blob and the flag."""
    removed_tags: set[int] = field(default_factory=set)
    are_flags_sure: bool = True

    def attempt(self, blob_id: str, data: bytes) -> None:
        """Somebody is about to put this."""
        self.attempted.setdefault(blob_id, set()).add(data)

    def acknowledge(self, version_id: bytes, version: ModelVersion) -> None:
        """A put or a deletion has returned."""
        if version_id not in self.versions:
            self.versions[version_id] = version
            self.sure.add(version_id)

    def suspect(self, version_id: bytes, version: ModelVersion) -> None:
        """A put is there of which nobody was told, because the process ended."""
        self.versions.setdefault(version_id, version)

    def doubt(self, ids: Iterable[bytes]) -> None:
        """The device that had these is gone, or was set back: they may have been published, or not."""
        self.sure.difference_update(ids)

    def doubt_flags(self) -> None:
        """Flags have no versions: after a device has forgotten something, nobody can say which are set."""
        self.are_flags_sure = False

    def flags(self) -> set[tuple[str, str]]:
        """The flags that are set."""
        return {named for tag, named in self.flag_tags.items() if tag not in self.removed_tags}

    def lost(self, present: Mapping[bytes, frozenset[bytes]]) -> list[str]:
        """Names of sure versions that are neither present nor superseded by one that is.

        Args:
            present: the versions that are there, with what each names as parents.
        """
        reached = self._reached(present, with_own=True)
        return sorted(
            self.versions[id].blob_id for id in self.sure if id not in present and id not in reached
        )

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

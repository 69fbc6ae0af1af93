"""What the calls of a namespace are given: its name, and the inside of its vault."""

from dataclasses import dataclass

from syncagent.cache.chunks import ChunkSource
from syncagent.engine.context import Context
from syncagent.engine.engine import Engine


@dataclass(frozen=True, slots=True)
class Inside:
    """A namespace of an open vault."""

    name: str
    ctx: Context
    engine: Engine

    def source(self) -> ChunkSource:
        """Reads chunks that are on this device."""
        return ChunkSource(self.ctx.keys, self.ctx.profile.packs)

"""Whether a device holds exactly what it should: every id, every byte."""

from collections.abc import Mapping

import anyio.to_thread

from syncagent.cache.chunks import batched
from syncagent.cli.exit import PromiseBroken
from syncagent.cli.tree import TreeFile, read_file
from syncagent.errors import SourceChanged, SyncAgentError
from syncagent.model import SMALL_BLOB
from syncagent.namespace import Namespace

COMPARED_AT_ONCE = 64

Content = TreeFile | bytes
"""What a blob should hold: what a file holds, or these bytes."""


def size_of(content: Content) -> int:
    """Its length in bytes."""
    return len(content) if isinstance(content, bytes) else content.size


async def compare(namespace: Namespace, device: str, expected: Mapping[str, Content]) -> None:
    """Every id and every byte, or `PromiseBroken`."""
    ids = await _ids(namespace)
    if ids != sorted(expected, key=str.encode):
        raise PromiseBroken(
            f"{device} holds {len(ids)} blobs, and other ones than the {len(expected)} expected"
        )
    small = [blob_id for blob_id in ids if size_of(expected[blob_id]) <= SMALL_BLOB]
    for part in batched(small, COMPARED_AT_ONCE):
        for result in await namespace.get_many(part):
            content = expected[result.id]
            data = (
                content if isinstance(content, bytes) else await anyio.to_thread.run_sync(read_file, content)
            )
            if result.data != data:
                raise _differs(device, result.id, content)
    for blob_id in ids:
        content = expected[blob_id]
        if isinstance(content, TreeFile) and content.size > SMALL_BLOB:
            await _compare_large(namespace, device, content)


async def _compare_large(namespace: Namespace, device: str, file: TreeFile) -> None:
    async with namespace.open(file.blob_id) as reader:
        with file.path.open("rb") as stream:
            async for chunk in reader:
                if stream.read(len(chunk)) != chunk:
                    raise _differs(device, file.blob_id, file)
            if stream.read(1):
                raise _differs(device, file.blob_id, file)


def _differs(device: str, blob_id: str, content: Content) -> SyncAgentError:
    if isinstance(content, TreeFile):
        found = content.path.stat()
        if (found.st_size, found.st_mtime_ns) != (content.size, content.changed_ns):
            return SourceChanged(f"{str(content.path)!r} changed while the demo ran")
    return PromiseBroken(f"{device} gives other bytes for {blob_id!r} than were put")


async def _ids(namespace: Namespace) -> list[str]:
    ids: list[str] = []
    after: str | None = None
    while True:
        page = await namespace.list(after=after)
        ids += [blob.id for blob in page.blobs]
        after = page.next
        if after is None:
            return ids

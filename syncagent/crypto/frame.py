"""One zstd frame (RFC 8878), opened without trusting what its header claims.

zstandard allocates whatever content size the header names before it reads the
data. So the header is checked first: the size must be given and within the
caller's limit, which bounds the memory one frame can cost.
"""

import zstandard

from syncagent.errors import Tampered
from syncagent.model import CHUNK_SIZE

Bytes = bytes | memoryview
"""What may be sealed or opened without being copied first."""

MAX_FRAME_CONTENT = 64 << 20
"""Most bytes a frame may decompress to: eight times the largest batch."""


def decompress(decompressor: zstandard.ZstdDecompressor, frame: Bytes, limit: int) -> bytes:
    """The content of the one frame that `frame` consists of: 1 to `limit` bytes, or `Tampered`.

    Args:
        decompressor: reused between calls; not safe to share between threads.
        frame: exactly one frame with a known content size and no dictionary.
        limit: most bytes of content, and of window.
    """
    try:
        parameters = zstandard.get_frame_parameters(frame)
    except zstandard.ZstdError as exc:
        raise Tampered("compressed data has a broken frame header") from exc
    size = parameters.content_size
    # Unknown size is 2**64 - 1 here. Size 0 is refused because zstandard then ignores all that follows.
    if not 1 <= size <= limit:
        raise Tampered(f"compressed data claims {size} bytes of content; 1 to {limit} are allowed")
    # A frame for small content may still name a window of up to 1 MiB: the decoder never allocates it.
    if parameters.window_size > max(limit, CHUNK_SIZE):
        raise Tampered(f"compressed data asks for a window of {parameters.window_size} bytes")
    try:
        return decompressor.decompress(frame, read_across_frames=False, allow_extra_data=False)
    except zstandard.ZstdError as exc:
        # Broken; or of another size than it says; or it needs a dictionary, is skippable, or goes on.
        raise Tampered("compressed data does not decompress, or goes on after its frame") from exc

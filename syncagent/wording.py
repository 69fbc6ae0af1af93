"""Numbers in sentences for people."""


def counted(number: int, word: str, several: str | None = None) -> str:
    """`1 blob`, `2,048 blobs`; `several` where the plural has more than an s."""
    return f"{number:,} {word if number == 1 else several or word + 's'}"

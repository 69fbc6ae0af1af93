"""Sample content for tests and benchmarks: seeded, so that every run sees the same."""

import random


def text_blobs(count: int, *, seed: int = 1, median_bytes: int = 4096) -> list[tuple[str, bytes]]:
    """(blob id, content) of text-like blobs whose sizes are log-normal, as those of mail and notes are."""
    dice = random.Random(seed)
    words = ["".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=dice.randint(2, 9))) for _ in range(3000)]
    text = " ".join(dice.choices(words, k=400_000)).encode()
    blobs = []
    for number in range(count):
        size = max(1, int(median_bytes * dice.lognormvariate(0, 1)))
        start = dice.randrange(len(text) - size) if size < len(text) else 0
        blobs.append((f"mail/{number:06d}", text[start : start + size]))
    return blobs


TOKEN = "a-token-of-nobody-0123456789"

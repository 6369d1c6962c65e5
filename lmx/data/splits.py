"""Which document belongs to training, validation or test: decided by content alone.

Documents are ordered by the hash of their text; the first shares are held out. So neither the order of files nor the seed of
a run moves a document, and the same text never stands on both sides.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path

from lmx.data.files import SPLITS
from lmx.errors import DataError

HELD_OUT = SPLITS[1:]
DIGEST = 16  # bytes

Assignment = dict[str, list[int]]  # split -> numbers of its documents, in the order of their digests


def digest(text: str | bytes) -> bytes:
    return blake2b(text.encode() if isinstance(text, str) else text, digest_size=DIGEST).digest()


class Spool:
    """All documents of a source in one file: written once, then read in any order, without holding them in memory."""

    def __init__(self, path: Path):
        self.path = path
        self.file = path.open("wb")
        self.digests: list[bytes] = []
        self.named: list[str | None] = []  # the split that the file's name announced
        self.edges = [0]

    def append(self, split: str | None, text: str) -> int:
        """Bytes of the document."""
        data = text.encode()
        self.file.write(data)
        self.digests.append(digest(data))
        self.named.append(split)
        self.edges.append(self.edges[-1] + len(data))
        return len(data)

    def close(self) -> None:
        """Nothing is appended any more; now it can be read."""
        self.file.close()

    def size(self, number: int) -> int:
        """Bytes of one document."""
        return self.edges[number + 1] - self.edges[number]

    def texts(self, numbers: Sequence[int]) -> Iterator[str]:
        with self.path.open("rb") as file:
            for number in numbers:
                file.seek(self.edges[number])
                yield file.read(self.size(number)).decode()


def assign(
    digests: Sequence[bytes],
    named: Sequence[str | None],
    shares: Mapping[str, float],
    entangled: Set[bytes],
    advice: str,
) -> Assignment:
    """Documents that a file name holds out stay where it says; a split that is still empty takes its share of the others.

    `entangled` are never taken. Raises DataError when there are too few documents, ending in `advice`.
    """
    order = sorted(range(len(digests)), key=lambda number: digests[number])
    result: Assignment = {split: [number for number in order if named[number] == split] for split in HELD_OUT}
    free = [number for number in order if named[number] not in HELD_OUT]
    starts = [place for place in range(len(free)) if place == 0 or digests[free[place]] != digests[free[place - 1]]]
    groups = [free[start:stop] for start, stop in pairwise([*starts, len(free)])]  # the same text, several times
    missing = [split for split in HELD_OUT if not result[split]]
    candidates = [group for group in groups if digests[group[0]] not in entangled]
    if len(groups) < 1 + len(missing) or len(candidates) < len(missing):
        raise DataError(
            f"data must hold at least {1 + len(missing)} different documents to be split by document, got {len(groups)}. {advice}"
        )
    taken: set[int] = set()
    for split in missing:
        count = max(1, round(len(groups) * shares[split]))
        for group in candidates[:count]:
            result[split] += group
            taken.update(group)
        candidates = candidates[count:]
    return result | {"train": [number for number in free if number not in taken]}


def apart(digests: Sequence[Sequence[bytes]], assignments: Sequence[Assignment]) -> None:
    """Drop, over all sources, documents of training that are held out too, and of validation that are in test too."""
    seen: set[bytes] = set()
    for split in ("test", "validation", "train"):
        found: set[bytes] = set()
        for names, assignment in zip(digests, assignments, strict=True):
            assignment[split] = [number for number in assignment[split] if names[number] not in seen]
            found.update(names[number] for number in assignment[split] if split != "train")
        seen |= found

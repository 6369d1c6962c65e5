"""Best-fit-decreasing bins: whole documents, longest first, each into the fullest bin that has room (Ding et al. 2024,
arXiv:2404.10830).

With bins of 5 tokens and documents of 4, 3, 2 and 1:

    bin 0    4 1
    bin 1    3 2

Documents longer than a bin are cut into full bins and a rest, which is packed like a document.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Bins:
    """Pieces of documents, those of a bin after each other."""

    numbers: np.ndarray  # [k] the document of each piece
    begins: np.ndarray  # [k] its first token
    sizes: np.ndarray  # [k] its tokens
    edges: np.ndarray  # [bins + 1] where the pieces of each bin begin

    def __len__(self) -> int:
        return len(self.edges) - 1

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Documents, first tokens and sizes of the pieces of one bin."""
        piece = slice(self.edges[index], self.edges[index + 1])
        return self.numbers[piece], self.begins[piece], self.sizes[piece]

    def size(self, index: int) -> int:
        """Tokens in one bin."""
        return int(self.sizes[self.edges[index] : self.edges[index + 1]].sum())

    @classmethod
    def pack(cls, offsets: np.ndarray, capacity: int) -> "Bins":
        """All documents, `offsets` [n + 1] where each begins, in bins of `capacity` tokens."""
        lengths = np.diff(offsets)
        counts = -(-lengths // capacity)  # pieces of each document
        numbers = np.repeat(np.arange(len(lengths)), counts)
        nth = np.arange(len(numbers)) - np.repeat(np.cumsum(counts) - counts, counts)
        begins = offsets[:-1][numbers] + nth * capacity
        sizes = np.minimum(capacity, offsets[1:][numbers] - begins)
        longest = np.argsort(-sizes, kind="stable")
        bins = np.empty(len(sizes), dtype=np.int64)
        bins[longest] = best_fit(sizes[longest].tolist(), capacity)
        order = np.argsort(bins, kind="stable")
        edges = np.searchsorted(bins[order], np.arange(bins.max() + 2))
        return cls(numbers=numbers[order], begins=begins[order], sizes=sizes[order], edges=edges)


def best_fit(sizes: list[int], capacity: int) -> list[int]:
    """The bin of each piece, in the sequence given; sizes at most `capacity`.

    Bins lie on a stack for each size of their rest, and a bit says whether the stack holds any, so that a piece costs the
    same however many bins are open.
    """
    open_bins: list[list[int]] = [[] for _ in range(capacity + 1)]
    some = 0  # bit r: there is a bin with room for r
    bins, count = [], 0
    for size in sizes:
        fitting = some >> size
        if fitting:
            room = size + (fitting & -fitting).bit_length() - 1
            number = open_bins[room].pop()
            if not open_bins[room]:
                some &= ~(1 << room)
        else:
            room, number, count = capacity, count, count + 1
        bins.append(number)
        if room > size:
            open_bins[room - size].append(number)
            some |= 1 << (room - size)
    return bins

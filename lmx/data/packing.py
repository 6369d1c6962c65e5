"""From documents to samples: an endless stream, cut into what each sample consumes.

Every epoch puts all documents after each other in an order drawn from (seed, epoch); sample i consumes the next `raw_lengths[i]`
tokens. With documents 5 6 7 and 8 9, end of document 1, four tokens a sample and one of lookahead:

    stream      5 6 7 1 8 9 1 | 8 9 1 5 6 7 1 | ...        two epochs
    sample 0    5 6 7 1 [8]     concat: one segment; docmask: segments 0 0 0 0 [1]
    sample 1    8 9 1 8 [9]

`bestfit` packs whole documents into bins instead (best fit, longest first; Ding et al. 2024, arXiv:2404.10830): nothing is cut that
fits into a bin, and a bin is one sample.
"""

from bisect import bisect_right, insort
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from lmx.data.corpus import Documents
from lmx.data.noise import Keys, generator
from lmx.errors import LmxError

Packing = Literal["concat", "docmask", "bestfit"]
BLOCK = 4096  # samples between two entries of the seek table


@dataclass(frozen=True)
class Sample:
    """What an objective poses one question about."""

    tokens: np.ndarray  # [n] int64, raw tokens; every document ends with EOS
    segment: np.ndarray  # [n] int64, which document within the sample, from 0; all 0 where documents may see each other
    documents: np.ndarray  # [k] int64, index in the corpus of each document touched, in order


class Samples:
    """Any sample by its index: a pure function of (documents, seed), without state."""

    def __init__(
        self,
        documents: Documents,
        raw_lengths: Callable[[Keys], np.ndarray],
        lookahead: int,
        *,
        seed: int,
        packing: Packing,
        purpose: str,
        shuffle: bool,
    ):
        self.documents, self.raw_lengths, self.lookahead = documents, raw_lengths, lookahead
        self.seed, self.packing, self.purpose, self.shuffle = seed, packing, purpose, shuffle
        self.sums = [0]  # tokens consumed before sample 0, BLOCK, 2 BLOCK, ...
        first = raw_lengths(self.keys(0, 64))
        self.constant = int(first[0]) if (first == first[0]).all() and (raw_lengths(self.keys(10**6, 64)) == first[0]).all() else None
        self.bins = pack(documents, self.bin_size()) if packing == "bestfit" else None

    def bin_size(self) -> int:
        if self.constant is None:
            raise LmxError("packing must be concat or docmask for an objective whose samples differ in length, got bestfit.")
        return self.constant + self.lookahead

    def keys(self, first: int, count: int) -> Keys:
        return Keys(seed=self.seed, purpose=self.purpose, sample=np.arange(first, first + count, dtype=np.int64))

    def read(self, first: int, count: int) -> list[Sample]:
        """Samples `first` to `first + count`. Without shuffling there is one epoch, and its last sample may be shorter."""
        if self.bins is not None:
            return [self.bin(index) for index in range(first, first + count)]
        edges = self.offsets(first, count)
        return [self.cut(start, stop - start) for start, stop in zip(edges[:-1], edges[1:], strict=True)]

    def consumed(self, first: int, count: int) -> int:
        """Corpus tokens that these samples consume, without lookahead."""
        if self.bins is not None:
            return sum(len(sample.tokens) for sample in self.read(first, count))
        start, stop = self.offset(first), self.offset(first + count)
        return stop - start if self.shuffle else min(stop, self.documents.num_tokens) - min(start, self.documents.num_tokens)

    def epoch(self, index: int) -> float:
        """How many epochs the samples before `index` make."""
        if self.bins is not None:
            return index / len(self.bins)
        return self.offset(index) / self.documents.num_tokens

    def __len__(self) -> int:
        """Samples in one epoch; a rest too short to ask about is not counted."""
        if self.bins is not None:
            return len(self.bins)
        need = self.documents.num_tokens - self.lookahead
        index = 0
        if self.constant is not None:
            return max(0, need // self.constant)
        while self.offset(index + 1) <= need:
            index += 1
        return index

    def offset(self, index: int) -> int:
        """Where sample `index` begins in the endless stream."""
        if self.constant is not None:
            return index * self.constant
        while len(self.sums) <= index // BLOCK:
            start = (len(self.sums) - 1) * BLOCK
            self.sums.append(self.sums[-1] + int(self.raw_lengths(self.keys(start, BLOCK)).sum()))
        block, rest = divmod(index, BLOCK)
        return self.sums[block] + (int(self.raw_lengths(self.keys(block * BLOCK, rest)).sum()) if rest else 0)

    def offsets(self, first: int, count: int) -> list[int]:
        start = self.offset(first)
        return [start, *(start + np.cumsum(self.raw_lengths(self.keys(first, count)))).tolist()]

    def cut(self, start: int, size: int) -> Sample:
        """`size` tokens from `start` of the endless stream, and the lookahead."""
        parts, numbers, stop = [], [], start + size + self.lookahead
        if not self.shuffle:
            stop = min(stop, self.documents.num_tokens)
        while start < stop:
            epoch, place = divmod(start, self.documents.num_tokens)
            order, edges = self.order(epoch)
            rank = int(np.searchsorted(edges, place, side="right")) - 1
            begin = self.documents.offsets[order[rank]] + place - edges[rank]
            take = min(stop - start, int(edges[rank + 1]) - place)
            parts.append(np.asarray(self.documents.tokens[begin : begin + take], dtype=np.int64))
            numbers.append(int(order[rank]))
            start += take
        tokens = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
        segment = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        if self.packing == "concat":
            segment = np.zeros_like(segment)
        return Sample(tokens=tokens, segment=segment, documents=np.array(numbers, dtype=np.int64))

    def order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The documents of an epoch [n] and where each begins in it [n + 1]."""
        return epoch_order(self.documents, self.seed, epoch) if self.shuffle else epoch_order(self.documents, None, 0)

    def bin(self, index: int) -> Sample:
        epoch, place = divmod(index, len(self.bins))
        if self.shuffle:
            place = int(bin_order(len(self.bins), self.seed, epoch)[place])
        pieces = self.bins[place]
        tokens = [np.asarray(self.documents.tokens[start : start + size], dtype=np.int64) for _, start, size in pieces]
        return Sample(
            tokens=np.concatenate(tokens),
            segment=np.repeat(np.arange(len(tokens)), [len(part) for part in tokens]),
            documents=np.array([document for document, _, _ in pieces], dtype=np.int64),
        )


@lru_cache(maxsize=4)
def epoch_order(documents: Documents, seed: int | None, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    count = len(documents)
    order = np.arange(count) if seed is None else generator(seed, "documents", epoch).permutation(count)
    sizes = np.diff(documents.offsets)[order]
    return order, np.concatenate([[0], np.cumsum(sizes)])


@lru_cache(maxsize=4)
def bin_order(count: int, seed: int, epoch: int) -> np.ndarray:
    return generator(seed, "bins", epoch).permutation(count)


def pack(documents: Documents, size: int) -> list[list[tuple[int, int, int]]]:
    """Bins of (document, first token, tokens): best fit, longest first. Documents longer than a bin are cut into full bins and a
    rest, which is packed like a document."""
    pieces = [
        (index, start, min(size, int(stop) - start))
        for index, (begin, stop) in enumerate(zip(documents.offsets[:-1], documents.offsets[1:], strict=True))
        for start in range(int(begin), int(stop), size)
    ]
    pieces.sort(key=lambda piece: -piece[2])
    bins: list[list[tuple[int, int, int]]] = []
    free: list[tuple[int, int]] = []  # (room left, bin), sorted
    for piece in pieces:
        place = bisect_right(free, (piece[2] - 1, len(pieces)))
        if place == len(free):
            bins.append([piece])
            room, number = size, len(bins) - 1
        else:
            room, number = free.pop(place)
            bins[number].append(piece)
        if room > piece[2]:
            insort(free, (room - piece[2], number))
    return bins

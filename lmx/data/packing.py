"""From documents to samples: an endless stream, cut into what each sample consumes.

Every epoch puts all documents after each other in an order drawn from (seed, epoch); sample i consumes the next `raw_lengths[i]`
tokens. With documents 5 6 7 and 8 9, end of document 1, four tokens a sample and one of lookahead:

    stream      5 6 7 1 8 9 1 | 8 9 1 5 6 7 1 | ...        two epochs
    sample 0    5 6 7 1 [8]     concat: one segment; docmask: segments 0 0 0 0 [1]
    sample 1    8 9 1 8 [9]

Without shuffling there is one epoch, in the order of the corpus, and sample 1 is 8 9 1.

`bestfit` packs whole documents into bins instead (lmx/data/bins.py), and a bin is one sample.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from threading import Lock
from typing import Literal

import numpy as np

from lmx.data.bins import Bins
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
    """Any sample by its index: a pure function of (documents, seed). What it keeps are caches, and threads may share them."""

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
        """`lookahead` more tokens than it consumes are in each sample. Raises LmxError for lengths that cannot be packed."""
        self.documents, self.raw_lengths, self.lookahead = documents, raw_lengths, lookahead
        self.seed, self.packing, self.purpose, self.shuffle = seed, packing, purpose, shuffle
        self.sums = [0]  # tokens consumed before sample 0, BLOCK, 2 BLOCK, ...
        self.growing = Lock()
        self.edges = lru_cache(maxsize=4)(self.edges)
        self.bins = Bins.pack(documents.offsets, self.capacity()) if packing == "bestfit" else None

    def capacity(self) -> int:
        """Tokens that a bin holds."""
        lengths = self.raw_lengths(self.keys(0, BLOCK))
        if (lengths != lengths[0]).any():
            raise LmxError(
                "packing must be concat or docmask for an objective whose samples differ in length, got bestfit."
            )
        return int(lengths[0]) + self.lookahead

    def keys(self, first: int, count: int) -> Keys:
        return Keys(seed=self.seed, purpose=self.purpose, sample=np.arange(first, first + count, dtype=np.int64))

    def read(self, first: int, count: int) -> list[Sample]:
        """Samples `first` to `first + count`. Raises IndexError beyond the one epoch that there is without shuffling."""
        if not self.shuffle and first + count > len(self):
            raise IndexError(f"samples {first} to {first + count} of {len(self)}")
        if self.bins is not None:
            return [self.bin(index) for index in range(first, first + count)]
        edges = [self.offset(index) for index in range(first, first + count + 1)]
        return self.cut(edges) if count else []

    def consumed(self, first: int, count: int) -> int:
        """Corpus tokens that these samples consume, without lookahead."""
        if self.bins is not None:
            return sum(self.bins.size(self.place(index)) for index in range(first, first + count))
        start, stop = self.offset(first), self.offset(first + count)
        return (
            stop - start
            if self.shuffle
            else min(stop, self.documents.num_tokens) - min(start, self.documents.num_tokens)
        )

    def epoch(self, index: int) -> float:
        """How many epochs the samples before `index` make."""
        if self.bins is not None:
            return index / len(self.bins)
        return self.offset(index) / self.documents.num_tokens

    def __len__(self) -> int:
        """Samples that cover one epoch. Without shuffling the last may be shorter, but has more than its lookahead."""
        if self.bins is not None:
            return len(self.bins)
        need = self.documents.num_tokens - (0 if self.shuffle else self.lookahead)
        block = 0
        while self.offset((block + 1) * BLOCK) < need:
            block += 1
        return block * BLOCK + int(np.searchsorted(self.edges(block), need))

    def offset(self, index: int) -> int:
        """Where sample `index` begins in the endless stream."""
        block, rest = divmod(index, BLOCK)
        return int(self.edges(block)[rest])

    def edges(self, block: int) -> np.ndarray:
        """[BLOCK + 1] where the samples of a block begin, and where the last one ends."""
        with self.growing:
            while len(self.sums) <= block:
                self.sums.append(self.sums[-1] + int(self.lengths(len(self.sums) - 1).sum()))
            return np.concatenate([[self.sums[block]], self.sums[block] + np.cumsum(self.lengths(block))])

    def lengths(self, block: int) -> np.ndarray:
        return np.asarray(self.raw_lengths(self.keys(block * BLOCK, BLOCK)), dtype=np.int64)

    def cut(self, edges: Sequence[int]) -> list[Sample]:
        """The samples between the edges, each with its lookahead."""
        origin, end = edges[0], edges[-1] + self.lookahead
        end = end if self.shuffle else min(end, self.documents.num_tokens)
        numbers, begins, sizes = self.runs(origin, end)
        run = np.repeat(np.arange(len(sizes)), sizes)  # of each token
        inside = np.arange(end - origin) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        tokens = self.documents.tokens[begins[run] + inside].astype(np.int64)
        samples = []
        for start, stop in pairwise(edges):
            piece = slice(start - origin, stop - origin + self.lookahead)
            segment = run[piece] - run[start - origin]
            documents = numbers[run[start - origin] : run[start - origin] + segment[-1] + 1]
            together = self.packing == "concat"
            samples.append(Sample(tokens[piece], np.zeros_like(segment) if together else segment, documents))
        return samples

    def runs(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The stretches of documents that make the stream from `start` to `stop`: [k] documents, first tokens, sizes."""
        total = self.documents.num_tokens
        parts = []
        for epoch in range(start // total, -(-stop // total)):
            order, edges = epoch_order(self.documents, self.seed if self.shuffle else None, epoch)
            low, high = max(start - epoch * total, 0), min(stop - epoch * total, total)
            ranks = np.arange(np.searchsorted(edges, low, side="right") - 1, np.searchsorted(edges, high))
            begin, end = np.maximum(edges[ranks], low), np.minimum(edges[ranks + 1], high)
            parts.append((order[ranks], self.documents.offsets[order[ranks]] + begin - edges[ranks], end - begin))
        numbers, begins, sizes = (np.concatenate(column) for column in zip(*parts, strict=True))
        return numbers, begins, sizes

    def place(self, index: int) -> int:
        """The bin of sample `index`; bins are packed longest document first, so that any few must be drawn, validation's too."""
        assert self.bins is not None
        epoch, rank = divmod(index, len(self.bins))
        return int(bin_order(len(self.bins), self.seed, epoch)[rank])

    def bin(self, index: int) -> Sample:
        assert self.bins is not None
        numbers, begins, sizes = self.bins[self.place(index)]
        pieces = [self.documents.tokens[begin : begin + size] for begin, size in zip(begins, sizes, strict=True)]
        return Sample(np.concatenate(pieces).astype(np.int64), np.repeat(np.arange(len(sizes)), sizes), numbers)


@lru_cache(maxsize=4)
def epoch_order(documents: Documents, seed: int | None, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The documents of an epoch [n], as they are without a seed, and where each begins in it [n + 1]."""
    count = len(documents)
    order = np.arange(count) if seed is None else generator(seed, "documents", epoch).permutation(count)
    return order, np.concatenate([[0], np.cumsum(np.diff(documents.offsets)[order])])


@lru_cache(maxsize=4)
def bin_order(count: int, seed: int, epoch: int) -> np.ndarray:
    return generator(seed, "bins", epoch).permutation(count)

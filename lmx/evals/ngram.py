"""What counting words would reach on the same tokens: the unigram, and the bigram interpolated with it (Witten and Bell 1991).

A model whose bits per byte are above the unigram's has not started to learn; above the bigram's, it has not learned order yet.
"""

from dataclasses import dataclass

import numpy as np

TRAINING_TOKENS = 20_000_000  # counted at most


@dataclass(frozen=True)
class Ngrams:
    """Counts of a training stream [N] over a vocabulary of `size`."""

    unigram: np.ndarray  # [V] probabilities, add one
    pairs: np.ndarray  # sorted codes first * V + second
    counts: np.ndarray  # of each pair
    seen: np.ndarray  # [V] how often a token has a successor
    kinds: np.ndarray  # [V] how many different successors

    @classmethod
    def count(cls, stream: np.ndarray, size: int) -> "Ngrams":
        stream = np.asarray(stream[:TRAINING_TOKENS], dtype=np.int64)
        frequency = np.bincount(stream, minlength=size) + 1.0
        pairs, counts = np.unique(stream[:-1] * size + stream[1:], return_counts=True)
        seen = np.bincount(pairs // size, weights=counts, minlength=size)
        kinds = np.bincount(pairs // size, minlength=size)
        return cls(frequency / frequency.sum(), pairs, counts, seen, kinds)

    def unigram_nats(self, targets: np.ndarray) -> float:
        """Summed over the targets."""
        return float(-np.log(self.unigram[targets]).sum())

    def bigram_nats(self, before: np.ndarray, targets: np.ndarray) -> float:
        """Summed over the targets, each after the token before it: (c(ab) + T(a) p(b)) / (c(a) + T(a))."""
        code = before * len(self.unigram) + targets
        place = np.minimum(np.searchsorted(self.pairs, code), len(self.pairs) - 1)
        together = np.where(self.pairs[place] == code, self.counts[place], 0)
        kinds = np.maximum(self.kinds[before], 1)
        probability = (together + kinds * self.unigram[targets]) / (self.seen[before] + kinds)
        return float(-np.log(probability).sum())

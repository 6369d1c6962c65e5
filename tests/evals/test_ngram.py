"""The n-gram references are proper distributions, equal to counting by hand, and above their own training text's entropy."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from lmx.evals.ngram import Ngrams

SIZE = 7


def stream(seed: int, length: int = 400) -> np.ndarray:
    """A chain with memory, so that the bigram has something to know."""
    rng = np.random.default_rng(seed)
    tokens = [0]
    for _ in range(length - 1):
        tokens.append((tokens[-1] + int(rng.integers(1, 3))) % SIZE if rng.random() < 0.8 else int(rng.integers(SIZE)))
    return np.array(tokens)


def test_each_is_a_distribution():
    ngrams = Ngrams.count(stream(0), SIZE)
    every = np.arange(SIZE)
    assert math.fsum(math.exp(-ngrams.unigram_nats(np.array([t]))) for t in every) == pytest.approx(1)
    for before in range(SIZE):
        total = math.fsum(math.exp(-ngrams.bigram_nats(np.array([before]), np.array([t]))) for t in every)
        assert total == pytest.approx(1), before


def test_equal_to_counting_by_hand():
    train, held_out = stream(0).tolist(), stream(1)
    ones, pairs = Counter(train), Counter(itertools.pairwise(train))

    def unigram(token):
        return (ones[token] + 1) / (len(train) + SIZE)

    def bigram(a, b):
        seen = sum(count for (first, _), count in pairs.items() if first == a)
        kinds = sum(first == a for first, _ in pairs)
        return (pairs[a, b] + kinds * unigram(b)) / (seen + kinds)

    ngrams = Ngrams.count(np.array(train), SIZE)
    assert ngrams.unigram_nats(held_out) == pytest.approx(-sum(math.log(unigram(t)) for t in held_out.tolist()))
    wanted = -sum(math.log(bigram(a, b)) for a, b in zip(held_out.tolist(), held_out[1:].tolist(), strict=False))
    assert ngrams.bigram_nats(held_out[:-1], held_out[1:]) == pytest.approx(wanted)
    assert wanted / (len(held_out) - 1) < ngrams.unigram_nats(held_out) / len(held_out)


def test_a_token_without_successors_falls_back_to_the_unigram():
    ngrams = Ngrams.count(np.array([1, 2, 1, 2, 3]), SIZE)
    assert ngrams.bigram_nats(np.array([5]), np.array([1])) == pytest.approx(ngrams.unigram_nats(np.array([1])))

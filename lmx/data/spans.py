"""Span arithmetic of T5 and UL2 (Raffel et al. 2020, arXiv:1910.10683; Tay et al. 2023, arXiv:2205.05131).

Of n tokens N = round(n x rate) are noise, in K = round(N / mean) spans; a sentinel stands for each span in the input and
before it in the target, and both end with EOS:

    inputs   n - N + K + 1        targets   N + K + 1

`counts` is the only place where they are computed, with Python's rounding of float64, so that lengths and masks agree.
"""

import numpy as np


def counts(length: int, rate: float, mean: float) -> tuple[int, int]:
    """(noise tokens, spans) of a text of at least 2 tokens: at least one of each, and a token before every span."""
    noise = min(max(round(length * rate), 1), length - 1)
    return noise, max(1, min(round(noise / mean), noise, length - noise))


def sizes(length: int, rate: float, mean: float) -> tuple[int, int]:
    """(inputs, targets), EOS included."""
    noise, spans = counts(length, rate, mean)
    return length - noise + spans + 1, noise + spans + 1


def longest_encoded(length: int, rate: float, mean: float) -> int:
    """The longest text whose inputs fill an encoder of `length`, as T5 searches it: upwards from length - 1."""
    text = max(length - 1, 2)
    while sizes(text + 1, rate, mean)[0] <= length:
        text += 1
    inputs, targets = sizes(text, rate, mean)
    return text - 1 if rate == 0.5 and targets > inputs else text  # "so that both are equal"


def longest_joined(length: int, rate: float, mean: float) -> int:
    """The longest text whose inputs and targets, with a mode token and one EOS, fit into one stack of `length`."""
    text = 2 * length
    while text > 2 and 1 + sum(sizes(text, rate, mean)) - 1 > length:
        text -= 1
    return text


def composition(total: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """[parts] positive integers that add up to `total`, every such list with the same probability."""
    cuts = np.sort(rng.permutation(total - 1)[: parts - 1]) + 1
    return np.diff(np.concatenate([[0], cuts, [total]]))


def random_spans(length: int, rate: float, mean: float, rng: np.random.Generator) -> np.ndarray:
    """[length] bool, True is noise: text first, noise last, exactly `counts` of both."""
    noise, spans = counts(length, rate, mean)
    sizes = np.empty(2 * spans, dtype=np.int64)
    sizes[1::2] = composition(noise, spans, rng)
    sizes[::2] = composition(length - noise, spans, rng)
    return np.repeat(np.arange(2 * spans) % 2 == 1, sizes)


def runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each run of True begins and ends: ([K], [K])."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]])))
    return edges[::2], edges[1::2]

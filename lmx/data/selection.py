"""Which tokens of a sequence are hidden: the selection rules of the masked language models, as pure functions.

Every rule takes `eligible` [n] bool (no special token, no padding), `starts` [n] bool (first token of a word), the rate
and a generator, and returns [n] bool. Sources: bernoulli, Hugging Face and ModernBERT; fixed_round and whole_word,
BERT; with_replacement, ELECTRA; fixed_prob_round, fairseq's RoBERTa; ngram, ALBERT (arXiv:1909.11942); span_geometric, SpanBERT
(arXiv:1907.10529).
"""

from collections.abc import Callable, Sequence

import numpy as np

Rule = Callable[[np.ndarray, np.ndarray, float, int | None, np.random.Generator], np.ndarray]
LONGEST_NGRAM = 3  # words; P(n) is proportional to 1/n
LONGEST_SPAN = 10  # words; P(n) is proportional to 0.2 * 0.8^(n - 1)


def bernoulli(eligible, starts, rate, most, rng) -> np.ndarray:
    """Each eligible token by itself; with `most`, the first so many in random order."""
    chosen = eligible & (rng.random(len(eligible)) < rate)
    return without_replacement(chosen, most, rng) if most is not None and chosen.sum() > most else chosen


def fixed_round(eligible, starts, rate, most, rng) -> np.ndarray:
    """max(1, round(rate x n)) tokens, n counting the special ones too, as BERT does."""
    return without_replacement(eligible, budget(len(eligible), rate, most), rng)


def with_replacement(eligible, starts, rate, most, rng) -> np.ndarray:
    """As many draws as fixed_round has tokens, from all each time: the same token twice is one token (ELECTRA)."""
    places = np.flatnonzero(eligible)
    chosen = np.zeros(len(eligible), dtype=bool)
    if len(places):
        chosen[places[rng.integers(len(places), size=budget(len(eligible), rate, most))]] = True
    return chosen


def fixed_prob_round(eligible, starts, rate, most, rng) -> np.ndarray:
    """int(rate x n + u) tokens with u uniform: the mean is exactly rate x n (fairseq)."""
    count = int(rate * len(eligible) + rng.random())
    return without_replacement(eligible, count if most is None else min(count, most), rng)


def whole_word(eligible, starts, rate, most, rng) -> np.ndarray:
    """Whole words in random order while they fit the budget of fixed_round; one that does not fit is passed over."""
    groups = words(eligible, starts)
    return fit(groups, rng.permutation(len(groups)), len(eligible), budget(len(eligible), rate, most))


def ngram(eligible, starts, rate, most, rng) -> np.ndarray:
    """Runs of 1 to 3 words, P(n) ~ 1/n; a run that overflows the budget is tried shorter, then passed over."""
    groups, limit = words(eligible, starts), budget(len(eligible), rate, most)
    odds = 1 / np.arange(1, LONGEST_NGRAM + 1)
    lengths = rng.choice(LONGEST_NGRAM, size=len(groups), p=odds / odds.sum()) + 1
    chosen = np.zeros(len(eligible), dtype=bool)
    for first, length in zip(rng.permutation(len(groups)), lengths, strict=True):
        for shorter in range(length, 0, -1):
            run = stretch(groups, first, shorter)
            if not chosen[run].any() and chosen.sum() + len(run) <= limit:
                chosen[run] = True
                break
    return chosen


def span_geometric(eligible, starts, rate, most, rng) -> np.ndarray:
    """Spans of words, lengths geometric (0.2) up to 10, renormalised (mean 3.8); the last is cut at the budget."""
    groups, limit = words(eligible, starts), budget(len(eligible), rate, most)
    odds = 0.8 ** np.arange(LONGEST_SPAN)
    lengths = rng.choice(LONGEST_SPAN, size=len(groups), p=odds / odds.sum()) + 1
    chosen = np.zeros(len(eligible), dtype=bool)
    for first, length in zip(rng.permutation(len(groups)), lengths, strict=True):
        if chosen.sum() >= limit:
            break
        if not chosen[groups[first]].any():
            run = stretch(groups, first, length)
            run = run[~chosen[run]]
            chosen[run[: limit - chosen.sum()]] = True
    return chosen


def given(places: Sequence[int]) -> Rule:
    """The rule that always selects these of the eligible tokens, counted from 0."""

    def rule(eligible, starts, rate, most, rng) -> np.ndarray:
        chosen = np.zeros(len(eligible), dtype=bool)
        there = np.flatnonzero(eligible)
        chosen[there[[place for place in places if place < len(there)]]] = True
        return chosen

    return rule


def budget(length: int, rate: float, most: int | None) -> int:
    count = max(1, round(length * rate))
    return count if most is None else min(count, most)


def without_replacement(eligible: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """[n] bool, `count` of the eligible ones, or all if there are fewer."""
    places = np.flatnonzero(eligible)
    chosen = np.zeros(len(eligible), dtype=bool)
    chosen[rng.permutation(places)[:count]] = True
    return chosen


def words(eligible: np.ndarray, starts: np.ndarray) -> list[np.ndarray]:
    """The indices of each word: a run of eligible tokens, begun by a start or after something that is not eligible."""
    begins = eligible & (starts | ~np.append(False, eligible[:-1]))
    places = np.flatnonzero(eligible)
    return np.split(places, np.flatnonzero(begins[places])[1:]) if len(places) else []


def stretch(groups: list[np.ndarray], first: int, count: int) -> np.ndarray:
    """The indices of `count` words from `first`, fewer where something that is not eligible comes between."""
    last = first + 1
    while last < min(first + count, len(groups)) and groups[last][0] == groups[last - 1][-1] + 1:
        last += 1
    return np.concatenate(groups[first:last])


def fit(groups: list[np.ndarray], sequence: np.ndarray, length: int, limit: int) -> np.ndarray:
    """[length] bool: the groups in the given sequence that fit into `limit` places."""
    chosen = np.zeros(length, dtype=bool)
    for number in sequence:
        if chosen.sum() + len(groups[number]) <= limit:
            chosen[groups[number]] = True
    return chosen


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (bernoulli, fixed_round, with_replacement, fixed_prob_round, whole_word, ngram, span_geometric)
}

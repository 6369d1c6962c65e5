"""T5's noise: its invariants for any length, rate and mean, its profile at the edges, and bugs that are caught."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmx.data import spans

RATES = st.floats(0.02, 0.9)
MEANS = st.floats(1.0, 64.0)


def check(mask, length, rate, mean):
    noise, number = spans.counts(length, rate, mean)
    begins, ends = spans.runs(mask)
    assert len(mask) == length
    assert mask.sum() == noise
    assert len(begins) == number
    assert not mask[0]
    assert mask[-1]
    assert (ends > begins).all()


@given(st.integers(2, 700), RATES, MEANS, st.integers(0, 2**32))
def test_masks_have_exactly_their_counts(length, rate, mean, seed):
    check(spans.random_spans(length, rate, mean, np.random.default_rng(seed)), length, rate, mean)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 2**32))
def test_compositions_are_positive_and_add_up(total, parts, seed):
    parts = min(parts, total)
    sizes = spans.composition(total, parts, np.random.default_rng(seed))
    assert len(sizes) == parts
    assert sizes.sum() == total
    assert sizes.min() >= 1


@given(st.integers(2, 3000), RATES, MEANS)
def test_lengths_fill_what_they_are_for(length, rate, mean):
    length = max(length, 8)
    text = spans.longest_encoded(length, rate, mean)
    assert spans.sizes(text, rate, mean)[0] <= max(length, spans.sizes(max(length - 1, 2), rate, mean)[0])
    joined = spans.longest_joined(length, rate, mean)
    assert 1 + sum(spans.sizes(joined, rate, mean)) - 1 <= length or joined == 2


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_runs_are_those_of_a_loop(flags):
    wanted, start = [], None
    for place, flag in enumerate([*flags, False]):
        if flag and start is None:
            start = place
        if not flag and start is not None:
            wanted.append((start, place))
            start = None
    begins, ends = spans.runs(np.array(flags))
    assert list(zip(begins.tolist(), ends.tolist(), strict=True)) == wanted


def test_the_profile_at_the_edges_is_t5_s():
    """Of 568 tokens with rate .15 and mean 3: never the first, always the last, .146 in the middle."""
    rng = np.random.default_rng(0)
    share = np.mean([spans.random_spans(568, 0.15, 3.0, rng) for _ in range(6000)], axis=0)
    assert share[:5] == pytest.approx([0, 0.054, 0.085, 0.110, 0.126], abs=0.015)
    assert share[-5:] == pytest.approx([0.272, 0.350, 0.480, 0.678, 1.0], abs=0.025)
    assert share[200:360].mean() == pytest.approx(0.146, abs=0.004)


def test_one_span_is_always_the_end():
    """(64, .15) at 512: T5's mask is no accident, the last 90 of 600 tokens every time."""
    masks = [spans.random_spans(600, 0.15, 64.0, np.random.default_rng(seed)) for seed in range(5)]
    assert all((mask == (np.arange(600) >= 510)).all() for mask in masks)


def noise_first(length, rate, mean, rng):
    return ~spans.random_spans(length, 1 - rate, mean, rng)


def one_short(length, rate, mean, rng):
    mask = spans.random_spans(length, rate, mean, rng)
    mask[np.flatnonzero(mask)[0]] = False
    return mask


def bernoulli(length, rate, mean, rng):
    return rng.random(length) < rate


@pytest.mark.parametrize("bug", [noise_first, one_short, bernoulli])
def test_seeded_bugs_are_caught(bug):
    masks = [bug(100, 0.15, 3.0, np.random.default_rng(seed)) for seed in range(20)]
    with pytest.raises(AssertionError):
        [check(mask, 100, 0.15, 3.0) for mask in masks]

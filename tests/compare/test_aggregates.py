"""Aggregates against scipy's and against their definitions; their intervals against simulated runs."""

import numpy as np
import pytest
from scipy import stats

from lmx.compare.aggregates import (
    aggregate,
    interquartile_mean,
    item_error,
    multi_bootstrap,
    normalized,
    probability_of_improvement,
    resampled,
)


def test_normalized():
    scores = np.array([[0.5, 0.25], [1.0, 1.0], [0.75, 0.1]])
    assert normalized(scores, np.array([0.5, 0.25]), 1.0).tolist() == [[0, 0], [1, 1], [0.5, pytest.approx(-0.2)]]


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (10, 6)])
def test_interquartile_mean_is_the_trimmed_mean(shape):
    scores = np.random.default_rng(0).exponential(size=(4, *shape))
    known = [stats.trim_mean(one, 0.25, axis=None) for one in scores]
    assert interquartile_mean(scores).tolist() == pytest.approx(known)


def test_one_wild_run_does_not_move_it():
    scores = np.random.default_rng(1).normal(size=(6, 6))
    wild = scores.copy()
    wild[np.unravel_index(scores.argmax(), scores.shape)] = 1e9
    assert interquartile_mean(wild) == interquartile_mean(scores)


def test_probability_of_improvement_is_mann_whitneys():
    rng = np.random.default_rng(2)
    ours, theirs = rng.integers(0, 5, size=(6, 4)), rng.integers(0, 4, size=(8, 4))
    known = [stats.mannwhitneyu(a, b).statistic / 48 for a, b in zip(ours.T, theirs.T, strict=True)]
    assert probability_of_improvement(ours, theirs) == pytest.approx(np.mean(known))
    assert probability_of_improvement(ours, theirs) + probability_of_improvement(theirs, ours) == pytest.approx(1)
    assert probability_of_improvement(ours, ours) == pytest.approx(0.5)


def test_a_runs_luck_is_shared_by_its_tasks():
    """10 runs, 8 tasks, a truth of 0: resampling whole runs covers about .9; runs of each task apart, half of that or so."""
    rng = np.random.default_rng(3)
    whole = apart = 0
    for _ in range(200):
        scores = rng.normal(size=(10, 1)) + 0.3 * rng.normal(size=(10, 8))
        ends = resampled(lambda drawn: drawn.mean(axis=(-2, -1)), scores)
        whole += ends.low <= 0 <= ends.high
        rows = rng.integers(10, size=(500, 10, 8))
        low, high = np.quantile(scores[rows, np.arange(8)].mean(axis=(1, 2)), [0.025, 0.975])
        apart += low <= 0 <= high
    assert 170 <= whole <= 195
    assert apart < 130


def test_arms_are_resampled_together():
    """What all arms of a seed share leaves their difference: drawn apart, it would not."""
    rng = np.random.default_rng(4)
    luck = rng.normal(size=(8, 1))
    ours, theirs = luck + 0.1 + 0.01 * rng.normal(size=(8, 6)), luck + 0.01 * rng.normal(size=(8, 6))
    found = resampled(lambda a, b: interquartile_mean(a) - interquartile_mean(b), ours, theirs)
    assert 0.05 < found.low < found.high < 0.15


def test_few_tasks_or_seeds_have_a_plain_mean():
    scores = np.random.default_rng(5).normal(size=(5, 5))
    full, few = aggregate(scores), aggregate(scores[:4])
    assert full.name == "IQM"
    assert full.interval is not None
    assert full.interval.low < full.value < full.interval.high
    assert (few.name, few.value, few.interval) == ("mean", pytest.approx(scores[:4].mean()), None)


def test_multi_bootstrap_has_both_variances():
    """Seeds and items: their variances add. Of one seed's luck alone, or of the items' alone, it would be narrower."""
    rng = np.random.default_rng(6)
    seeds, items = 1.0 * rng.normal(size=(40, 1)), 3.0 * rng.normal(size=(1, 200))
    d = seeds + items
    found = multi_bootstrap(d)
    error = np.hypot(seeds.std() / np.sqrt(40), items.std() / np.sqrt(200))
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.08)
    assert item_error(d) == pytest.approx(items.std(ddof=1) / np.sqrt(200))

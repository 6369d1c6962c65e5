"""Each function against scipy's own or against simulated comparisons whose truth is known."""

import numpy as np
import pytest
from scipy import stats

from lmx.compare import statistics
from lmx.compare.statistics import (
    DRAWS,
    FEW,
    bootstrap_bounds,
    bootstrap_t,
    bounds,
    effect,
    equivalent,
    false_discovery,
    holm,
    p_below,
    p_equivalent,
    p_value,
    paired,
    sign_flip,
    t_bounds,
)

COMPARISONS = 10_000  # simulated: the share of a 95 % interval that covers has a standard error of .0022


def seeded(name: str) -> np.random.Generator:
    print("seed", seed := sum(name.encode()))
    return np.random.default_rng(seed)


def in_parts(function, d: np.ndarray, *more) -> list[np.ndarray]:
    """`function` of [comparisons, n], as many as fit the memory at once."""
    parts = [function(part, *more) for part in np.array_split(d, max(len(d) // 250, 1))]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def coverage(function, d: np.ndarray, truth: float, confidence: float = 0.95) -> float:
    low, high = in_parts(function, d, confidence)
    return float(((low <= truth) & (truth <= high)).mean())


def exponential(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.exponential(size=(COMPARISONS, n)) - 1


def test_effect_is_scipys_paired_t():
    rng = seeded("paired t")
    ours, theirs = rng.normal(size=(2, 7))
    known, found = stats.ttest_rel(ours, theirs), effect(ours - theirs)
    assert found.p == pytest.approx(known.pvalue)
    assert (found.interval.low, found.interval.high) == pytest.approx(tuple(known.confidence_interval()))
    assert (found.mean, found.sd, found.n) == pytest.approx((np.mean(ours - theirs), np.std(ours - theirs, ddof=1), 7))


def test_pairs_are_of_one_seed():
    """In the order of the seeds, whatever the order in which runs ended, and only those that both have."""
    ours, theirs = {64: 1.0, 1: 5.0, 7: 2.0}, {7: 1.5, 64: 2.0, 9: 7.0}
    assert paired(ours, theirs).tolist() == [0.5, -1.0]
    assert paired(ours, theirs, better="lower").tolist() == [-0.5, 1.0]


def test_pairing_takes_the_seed_out():
    """Seeds that differ by far more than arms do: paired, the difference is found; side by side it drowns."""
    rng = seeded("pairing")
    luck = rng.normal(size=8)
    ours, theirs = luck + 0.1 + 0.01 * rng.normal(size=8), luck
    assert effect(paired(dict(enumerate(ours)), dict(enumerate(theirs)))).p < 1e-5
    assert stats.ttest_ind(ours, theirs).pvalue > 0.5


@pytest.mark.parametrize("n", [3, 5, 10, 29])
def test_interval_covers(n):
    d = seeded(f"covers {n}").normal(0.3, 2.0, size=(COMPARISONS, n))
    assert coverage(bounds, d, 0.3) == pytest.approx(0.95, abs=0.01)
    assert coverage(bounds, d, 0.3, 0.8) == pytest.approx(0.8, abs=0.02)


def test_bootstrap_t_covers_where_t_does_not():
    """30 pairs of skewed differences: t covers .92 of them, a percentile bootstrap less, bootstrap-t .95."""
    d = exponential(seeded("skew"), FEW)
    assert coverage(bounds, d, 0.0) == pytest.approx(0.95, abs=0.01)
    assert coverage(t_bounds, d, 0.0) < 0.935
    assert coverage(percentile, d, 0.0) < 0.93


def test_percentile_bootstrap_covers_too_little_at_ten():
    """Why there are none of them in a verdict."""
    d = seeded("ten").normal(size=(COMPARISONS, 10))
    assert coverage(percentile, d, 0.0) < 0.92
    assert coverage(bounds, d, 0.0) == pytest.approx(0.95, abs=0.01)


def percentile(d: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    means = np.sort(d @ statistics.resamples(d.shape[-1]), axis=-1)
    place = round((DRAWS + 1) * (1 - confidence) / 2) - 1
    return means[..., place], means[..., -1 - place]


def test_bootstrap_t_is_the_textbooks():
    """Some t* against scipy's t of the resample written out; the ends against the quantiles of all."""
    d = seeded("textbook").exponential(size=40)
    known = [
        stats.ttest_1samp(np.repeat(d, np.rint(40 * share).astype(int)), d.mean()).statistic
        for share in statistics.resamples(40).T[::50]
    ]
    drawn = bootstrap_t(d)
    assert drawn[::50] == pytest.approx(np.array(known))
    error = d.std(ddof=1) / np.sqrt(40)
    low, high = d.mean() - error * np.quantile(drawn, 0.975), d.mean() - error * np.quantile(drawn, 0.025)
    assert bootstrap_bounds(d, 0.95) == pytest.approx((low, high), abs=0.01 * error)


@pytest.mark.parametrize("n", [5, FEW])
def test_equal_arms_raise_false_alarms_at_the_nominal_rate(n):
    """A/A: the same arm twice, with other seeds."""
    rng = seeded(f"A/A {n}")
    d = rng.normal(size=(COMPARISONS, n)) - rng.normal(size=(COMPARISONS, n))
    p = np.concatenate([p_value(part) for part in np.array_split(d, 40)])
    for level in (0.01, 0.05, 0.2):
        assert (p <= level).mean() == pytest.approx(level, abs=3.5 * np.sqrt(level / COMPARISONS) + 0.001)


@pytest.mark.parametrize("n", [6, FEW])
def test_p_and_interval_agree(n):
    d = seeded(f"agree {n}").exponential(size=(500, n)) - 0.75
    low, high = bounds(d)
    outside = (low > 0) | (high < 0)
    assert 0.05 < outside.mean() < 0.95
    assert ((p_value(d) <= 0.05) == outside).all()


@pytest.mark.parametrize("n", [6, FEW])
def test_equivalence_is_the_inner_interval(n):
    d = seeded(f"inner {n}").normal(0.2, 1.0, size=(300, n))
    low, high = bounds(d, 0.9)
    inside = (low > -0.7) & (high < 0.7)
    assert 0.05 < inside.mean() < 0.95
    assert ((p_equivalent(d, 0.7) < 0.05) == inside).all()
    assert [equivalent(row, 0.7) for row in d[:20]] == inside[:20].tolist()
    assert ((p_below(d, 0.7) < 0.05) == (high < 0.7)).all()


@pytest.mark.parametrize("truth", [0.5, -0.5])
def test_equivalence_is_rarely_declared_of_arms_a_margin_apart(truth):
    d = seeded("margin").normal(truth, 0.3, size=(COMPARISONS, 10))
    assert (p_equivalent(d, 0.5) <= 0.05).mean() == pytest.approx(0.05, abs=0.01)


def test_equivalence_is_scipys_two_one_sided_tests():
    d = seeded("one-sided").normal(size=9)
    below, above = (
        stats.ttest_1samp(d, at, alternative=side).pvalue for at, side in ((1.2, "less"), (-1.2, "greater"))
    )
    assert p_equivalent(d, 1.2) == pytest.approx(max(below, above))
    assert p_below(d, 1.2) == pytest.approx(below)


@pytest.mark.parametrize("n", [3, 5, 8])
def test_sign_flip_is_scipys(n):
    d = seeded(f"signs {n}").normal(0.5, 1.0, size=n)
    known = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip(d) == pytest.approx(known.pvalue)


def test_three_pairs_cannot_be_significant_without_a_distribution():
    assert [sign_flip(np.arange(1, n + 1)) for n in (3, 4, 5, 6, 8)] == [0.25, 0.125, 0.0625, 0.03125, 0.0078125]


def test_sign_flip_of_many_is_near_the_t_test():
    d = seeded("many signs").normal(0.4, 1.0, size=40)
    assert sign_flip(d) == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.01)


def test_equal_differences_are_judged_by_their_signs():
    """Accuracies over few items do that. No spread is not certainty, and rounding is not a spread."""
    assert effect([0.2, 0.2]).p == 0.5
    assert effect([0.1 + 0.2 - 0.3 + 0.5, 0.5, 0.5]).p == 0.25
    assert effect([0.2] * 6).p == pytest.approx(0.03125)
    assert effect([0.0] * 5).p == 1.0


@pytest.mark.parametrize("d", [[1.0], [], [1.0, np.nan], [1.0, np.inf, 2.0]])
def test_no_effect_of_one_pair_or_a_diverged_run(d):
    with pytest.raises(ValueError):
        effect(d)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_keeps_the_family_wise_error():
    """Five primaries of equal arms that share their runs: uncorrected, .2 of all families have a false alarm."""
    rng = seeded("family")
    families, n, m = 4000, 6, 5
    d = rng.normal(size=(families, m, n)) + 0.5 * rng.normal(size=(families, 1, n))
    p = p_value(d)
    wrong = np.array([min(holm(row)) <= 0.05 for row in p]).mean()
    assert 0.03 < wrong < 0.06
    assert (p.min(axis=1) <= 0.05).mean() > 0.15


def test_holm_finds_more_than_bonferroni():
    p = [0.001, 0.012, 0.02, 0.5]
    assert [one <= 0.05 for one in holm(p)] == [True, True, True, False]
    assert sum(4 * one <= 0.05 for one in p) == 2


def test_false_discovery_by_hand():
    assert false_discovery([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert false_discovery([]) == []


def test_same_numbers_again():
    d = seeded("again").exponential(size=35)
    first = effect(d)
    statistics.resamples.cache_clear()
    assert effect(d) == first

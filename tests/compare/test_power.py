"""Power against scipy's noncentral t where that is a number, and against simulated comparisons."""

import numpy as np
import pytest
from scipy import stats

from lmx.compare.power import detectable, equivalence_power, pairs_needed, power, provable
from lmx.compare.statistics import p_equivalent, p_value


@pytest.mark.parametrize("n", [2, 3, 5, 10, 30])
@pytest.mark.parametrize("size", [0.0, 0.3, 1.0, 1.5])
def test_power_is_the_noncentral_ts(n, size):
    critical, shift = stats.t.ppf(0.975, n - 1), size * np.sqrt(n)
    known = stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift)
    assert power(size, n) == pytest.approx(known, abs=1e-6)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_detectable_difference_is_found_four_times_in_five(n):
    print("seed", n)
    d = np.random.default_rng(n).normal(detectable(n, sd=2.0), 2.0, size=(10_000, n))
    assert (p_value(d) <= 0.05).mean() == pytest.approx(0.8, abs=0.015)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_provable_margin_is_proved_four_times_in_five(n):
    print("seed", n)
    d = np.random.default_rng(n).normal(0.0, 2.0, size=(10_000, n))
    margin = provable(n, sd=2.0)
    assert (p_equivalent(d, margin) <= 0.05).mean() == pytest.approx(0.8, abs=0.015)
    assert equivalence_power(margin / 2.0, n) == pytest.approx(0.8)


def test_published_table():
    """In standard deviations of a difference, two-sided .05, four times in five."""
    known = {3: 3.27, 4: 2.13, 5: 1.68, 6: 1.44, 8: 1.15, 10: 1.00, 12: 0.89, 16: 0.75, 20: 0.66}
    assert {n: detectable(n) for n in known} == pytest.approx(known, abs=0.015)
    known = {3: 2.65, 5: 1.61, 10: 1.01, 20: 0.68}
    assert {n: provable(n) for n in known} == pytest.approx(known, abs=0.015)


@pytest.mark.parametrize("n", range(2, 41))
def test_any_number_of_pairs_has_an_answer(n):
    assert power(detectable(n), n) == pytest.approx(0.8)


@pytest.mark.parametrize(("difference", "sd"), [(0.5, 1.0), (1.68, 1.0), (-0.02, 0.01), (0.05, 1.0)])
def test_fewest_pairs(difference, sd):
    n = pairs_needed(difference, sd)
    assert n is not None
    assert power(abs(difference) / sd, n) >= 0.8 > power(abs(difference) / sd, n - 1)


def test_pairs_that_nobody_will_train():
    assert pairs_needed(0.0, 1.0) is None
    assert pairs_needed(0.001, 1.0) is None
    assert pairs_needed(0.1, 0.0) == 2

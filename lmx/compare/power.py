"""What n pairs can find: power of the paired t-test and of the equivalence test, and how many pairs would do."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy import optimize, stats

MOST = 10_000  # pairs that are worth naming
LARGEST = 1e3  # standard deviations, more than two pairs need


@lru_cache(maxsize=64)
def spreads(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Values of s / sigma over n pairs, and their probabilities: Gauss-Legendre over the quantiles of chi(n - 1)."""
    x, weights = nodes()
    return np.sqrt(stats.chi2.ppf((x + 1) / 2, n - 1) / (n - 1)), weights / 2


@lru_cache(maxsize=1)
def nodes() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(200)


def power(effect_size: float, n: int, alpha: float = 0.05) -> float:
    """Of the two-sided paired t-test, for a true mean of `effect_size` standard deviations.

    The noncentral t's tails by their definition, as a mean over s: scipy's own are NaN for some large effects.
    """
    ratio, weights = spreads(n)
    limit, shift = stats.t.ppf(1 - alpha / 2, n - 1) * ratio, effect_size * np.sqrt(n)
    return float(weights @ (stats.norm.cdf(shift - limit) + stats.norm.cdf(-shift - limit)))


def detectable(n: int, sd: float = 1.0, alpha: float = 0.05, wanted: float = 0.8) -> float:
    """The smallest true difference that n pairs find with the `wanted` power."""
    return sd * root(lambda size: power(size, n, alpha) - wanted)


def pairs_needed(
    difference: float, sd: float, alpha: float = 0.05, wanted: float = 0.8, most: int = MOST
) -> int | None:
    """The fewest pairs that find a true `difference` with the `wanted` power; None beyond `most`."""
    if difference == 0:
        return None
    if sd == 0:
        return 2
    size, low, high = abs(difference) / sd, 1, 2
    while high <= most and power(size, high, alpha) < wanted:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(size, middle, alpha) >= wanted else (middle, high)
    return high if high <= most else None


def equivalence_power(margin: float, n: int, alpha: float = 0.05) -> float:
    """Of two one-sided tests within -+ `margin` standard deviations, where there is no difference at all."""
    ratio, weights = spreads(n)
    room = margin * np.sqrt(n) - stats.t.ppf(1 - alpha, n - 1) * ratio
    return float(weights @ np.maximum(0.0, 2 * stats.norm.cdf(room) - 1))


def provable(n: int, sd: float = 1.0, alpha: float = 0.05, wanted: float = 0.8) -> float:
    """The narrowest margin within which n pairs of equal arms are shown to be equivalent with the `wanted` power."""
    return sd * root(lambda margin: equivalence_power(margin, n, alpha) - wanted)


def root(rising: Callable[[float], float]) -> float:
    """Where it crosses zero, in standard deviations."""
    return float(optimize.brentq(rising, 0.0, LARGEST))  # type: ignore[arg-type]

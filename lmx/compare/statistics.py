"""Paired comparisons of few runs: intervals, tests, power, aggregates over tasks. Arrays in, numbers out.

The unit of replication is a training run, and arms are paired by seed: everything is about the differences d of n pairs, with
mean m, standard deviation s (n - 1) and standard error s / sqrt(n).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import optimize, stats

FEW = 30  # pairs, below which the t distribution is used: percentile bootstraps cover too little (.91 at 10)
DRAWS = 9999  # of a bootstrap or a random sign flip
EXACT = 14  # pairs up to which all sign flips are counted


@dataclass(frozen=True, kw_only=True)
class Interval:
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A mean difference over n pairs."""

    mean: float
    sd: float
    n: int
    interval: Interval  # two-sided, of `confidence`
    confidence: float
    p: float  # two-sided, of no difference


def effect(differences: Sequence[float] | np.ndarray, confidence: float = 0.95) -> Effect:
    """Paired t below FEW pairs, bootstrap-t from there on. Raises ValueError for fewer than two pairs."""
    d = np.asarray(differences, dtype=float)
    if len(d) < 2:
        raise ValueError(f"an effect needs two pairs, got {len(d)}")
    mean, sd = float(d.mean()), float(d.std(ddof=1))
    t = standardized(d) if len(d) >= FEW else None
    interval = bootstrap_interval(d, t, confidence) if t is not None else t_interval(d, confidence)
    return Effect(mean=mean, sd=sd, n=len(d), interval=interval, confidence=confidence, p=p_value(d, t))


def t_interval(d: np.ndarray, confidence: float) -> Interval:
    """m -+ t(n - 1) s / sqrt(n)"""
    half = stats.t.ppf((1 + confidence) / 2, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d))
    return Interval(low=float(d.mean() - half), high=float(d.mean() + half))


def standardized(d: np.ndarray, seed: int = 0) -> np.ndarray:
    """[DRAWS] of (m* - m) / (s* / sqrt(n)), resampling pairs (Efron and Tibshirani 1993, section 12.5)."""
    rng = np.random.default_rng(seed)
    drawn = d[rng.integers(len(d), size=(DRAWS, len(d)))]
    errors = drawn.std(axis=1, ddof=1) / np.sqrt(len(d))
    return (drawn.mean(axis=1) - d.mean()) / np.where(errors > 0, errors, np.inf)


def bootstrap_interval(d: np.ndarray, t: np.ndarray, confidence: float) -> Interval:
    """m - t*(upper) s / sqrt(n), m - t*(lower) s / sqrt(n)"""
    error = d.std(ddof=1) / np.sqrt(len(d))
    low, high = np.quantile(t, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(low=float(d.mean() - high * error), high=float(d.mean() - low * error))


def p_value(d: np.ndarray, t: np.ndarray | None = None) -> float:
    """Two-sided, of a mean of zero. Differences that are all the same and not zero have no spread: p is 0."""
    error = d.std(ddof=1) / np.sqrt(len(d))
    if error == 0:
        return float(d[0] == 0)
    here = d.mean() / error
    if t is None:
        return float(2 * stats.t.sf(abs(here), len(d) - 1))
    below, above = (1 + (t <= here).sum()) / (len(t) + 1), (1 + (t >= here).sum()) / (len(t) + 1)
    return float(min(1, 2 * min(below, above)))


def sign_flip(d: Sequence[float] | np.ndarray) -> float:
    """Two-sided p of the mean under random signs, exact up to EXACT pairs: at least 2 / 2^n."""
    d = np.asarray(d, dtype=float)
    if len(d) <= EXACT:
        signs = np.array(list(product((-1, 1), repeat=len(d))))
        return float((np.abs(signs @ d) >= abs(d.sum()) - 1e-12 * np.abs(d).sum()).mean())
    signs = np.random.default_rng(0).choice((-1, 1), size=(DRAWS, len(d)))
    return float((1 + (np.abs(signs @ d) >= abs(d.sum())).sum()) / (DRAWS + 1))


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values: the k-th smallest of m times m - k + 1, made monotone (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    worst = 0.0
    for rank, place in enumerate(order):
        worst = max(worst, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = worst
    return adjusted.tolist()


def power(effect_size: float, n: int, alpha: float = 0.05) -> float:
    """Of the two-sided paired t-test, for a true mean of `effect_size` standard deviations: the noncentral t."""
    critical, shift = stats.t.ppf(1 - alpha / 2, n - 1), effect_size * np.sqrt(n)
    return float(stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift))


def detectable(n: int, sd: float = 1.0, alpha: float = 0.05, wanted: float = 0.8) -> float:
    """The smallest true difference that n pairs find with the `wanted` power."""
    return sd * float(optimize.brentq(lambda size: power(size, n, alpha) - wanted, 1e-6, 100.0))


def pairs_needed(
    difference: float, sd: float, alpha: float = 0.05, wanted: float = 0.8, most: int = 10_000
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


def equivalent(differences: Sequence[float] | np.ndarray, margin: float, alpha: float = 0.05) -> bool:
    """Two one-sided tests (Schuirmann 1987): whether the 1 - 2 alpha interval lies within -+ margin."""
    inner = effect(differences, 1 - 2 * alpha).interval
    return -margin < inner.low and inner.high < margin


def interquartile_mean(scores: Sequence[float] | np.ndarray) -> float:
    """The mean of the middle half (Agarwal et al. 2021, arXiv:2108.13264)."""
    return float(stats.trim_mean(np.ravel(scores), 0.25))


def probability_of_improvement(ours: np.ndarray, theirs: np.ndarray) -> float:
    """P(a run of ours scores higher than one of theirs), ties half, the mean over tasks; [seeds, tasks] each (ibid.)"""
    above = (ours[:, None] > theirs[None]).mean(axis=(0, 1)) + 0.5 * (ours[:, None] == theirs[None]).mean(axis=(0, 1))
    return float(above.mean())

"""Paired comparisons of few runs: intervals, tests and corrections. Arrays in, numbers out.

The unit of replication is a training run, and arms are paired by seed: everything is about the differences d of n pairs, with
mean m, standard deviation s (n - 1) and standard error s / sqrt(n). Functions of `d: [..., n]` work on the last axis.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from scipy import stats

FEW = 30  # pairs, below which the t distribution is used: percentile bootstraps cover too little (.90 of 95 at 10)
DRAWS = 9999  # of a bootstrap or of random signs: (DRAWS + 1) times any usual level is a whole number
EXACT = 14  # pairs up to which all signs are counted
FLAT = 1e-12  # of the largest difference: less spread than that is rounding


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


def paired(ours: Mapping[int, float], theirs: Mapping[int, float], *, better: str = "higher") -> np.ndarray:
    """Differences by seed, over the seeds that both have, in their order; positive where ours is better."""
    sign = {"higher": 1.0, "lower": -1.0}[better]
    return np.array([sign * (ours[seed] - theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())])


def effect(differences: Sequence[float] | np.ndarray, confidence: float = 0.95) -> Effect:
    """Paired t below FEW pairs, bootstrap-t from there on. Raises ValueError for fewer than two pairs, and what is not finite."""
    d = np.asarray(differences, dtype=float)
    if d.ndim != 1 or len(d) < 2:
        raise ValueError(f"an effect needs two pairs, got {len(d)}")
    if not np.isfinite(d).all():
        raise ValueError("an effect needs finite differences: a run that diverged is flagged, not averaged")
    low, high = bounds(d, confidence)
    return Effect(
        mean=float(d.mean()),
        sd=float(d.std(ddof=1)),
        n=len(d),
        interval=Interval(low=float(low), high=float(high)),
        confidence=confidence,
        p=float(p_value(d)),
    )


def bounds(d: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """[..., n] -> ends of the interval of the mean, [...] each."""
    return (t_bounds if d.shape[-1] < FEW else bootstrap_bounds)(d, confidence)


def standard_error(d: np.ndarray) -> np.ndarray:
    """s / sqrt(n), and exactly 0 where all differences are the same but for rounding."""
    error = d.std(axis=-1, ddof=1) / np.sqrt(d.shape[-1])
    return np.where(error > FLAT * np.abs(d).max(axis=-1), error, 0.0)


def t_bounds(d: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """m -+ t(n - 1) s / sqrt(n)"""
    half = stats.t.ppf((1 + confidence) / 2, d.shape[-1] - 1) * standard_error(d)
    return d.mean(axis=-1) - half, d.mean(axis=-1) + half


def bootstrap_bounds(d: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """m - t*(upper) s / sqrt(n), m - t*(lower) s / sqrt(n): t*'s tails change sides, which is what corrects for skew."""
    t, error = bootstrap_t(d), standard_error(d)
    place = max(round((DRAWS + 1) * (1 - confidence) / 2), 1) - 1
    t = np.partition(t, (place, DRAWS - 1 - place), axis=-1)
    ends = (d.mean(axis=-1) - np.where(error > 0, t[..., at] * error, 0.0) for at in (DRAWS - 1 - place, place))
    low, high = ends
    return low, high


def bootstrap_t(d: np.ndarray) -> np.ndarray:
    """[..., n] -> [..., DRAWS] of (m* - m) / (s* / sqrt(n)), resampling pairs (Efron and Tibshirani 1993, section 12.5)."""
    n = d.shape[-1]
    centred = d - d.mean(axis=-1, keepdims=True)
    often = resamples(n)
    means = centred @ often
    variances = (centred**2 @ often - means**2) * n / (n - 1)
    flat = variances <= FLAT * centred.var(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = means / np.sqrt(np.where(flat, 0.0, variances) / n)
    return np.nan_to_num(t, nan=0.0, posinf=np.inf, neginf=-np.inf)


@lru_cache(maxsize=4)
def resamples(n: int) -> np.ndarray:
    """[n, DRAWS]: the share of each pair in each resample. Always the same, so that a report can be made again."""
    return np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=DRAWS).T / n


def tails(d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One-sided p-values, [...] each, of a mean of zero: that it is lower, that it is higher.

    Differences that are all the same give no spread to judge them by (scores of few items do that): their signs alone are tested.
    """
    n, mean, error = d.shape[-1], d.mean(axis=-1), standard_error(d)
    here = np.divide(mean, error, out=np.zeros_like(mean), where=error > 0)
    if n < FEW:
        lower, higher = stats.t.cdf(here, n - 1), stats.t.sf(here, n - 1)
    else:
        drawn = bootstrap_t(d)
        lower = (1 + (drawn <= here[..., None]).sum(axis=-1)) / (DRAWS + 1)
        higher = (1 + (drawn >= here[..., None]).sum(axis=-1)) / (DRAWS + 1)
    signs = 0.5**n
    lower = np.where(error > 0, lower, np.where(mean < 0, signs, 1.0))
    higher = np.where(error > 0, higher, np.where(mean > 0, signs, 1.0))
    return lower, higher


def p_value(d: np.ndarray) -> np.ndarray:
    """Two-sided, of a mean of zero: at most alpha where the 1 - alpha interval leaves zero out."""
    return np.minimum(1.0, 2 * np.minimum(*tails(d)))


def p_below(differences: Sequence[float] | np.ndarray, margin: float) -> np.ndarray:
    """Non-inferiority: one-sided p of a mean of `margin` or more, against a lower one."""
    return tails(np.asarray(differences, dtype=float) - margin)[0]


def p_equivalent(differences: Sequence[float] | np.ndarray, margin: float) -> np.ndarray:
    """Two one-sided tests (Schuirmann 1987): at most alpha where the 1 - 2 alpha interval lies within -+ margin."""
    d = np.asarray(differences, dtype=float)
    return np.maximum(tails(d - margin)[0], tails(d + margin)[1])


def equivalent(differences: Sequence[float] | np.ndarray, margin: float, alpha: float = 0.05) -> bool:
    return bool(p_equivalent(differences, margin) < alpha)


def sign_flip(d: Sequence[float] | np.ndarray) -> float:
    """Two-sided p of the mean under random signs, exact up to EXACT pairs: at least 2 / 2^n, .25 with three."""
    d = np.asarray(d, dtype=float)
    least = abs(d.sum()) - FLAT * np.abs(d).sum()
    if len(d) <= EXACT:
        return float((np.abs(np.array(list(product((-1, 1), repeat=len(d)))) @ d) >= least).mean())
    signs = np.random.default_rng(0).choice((-1, 1), size=(DRAWS, len(d)))
    return float((1 + (np.abs(signs @ d) >= least).sum()) / (DRAWS + 1))


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values: the k-th smallest of m times m - k + 1, made monotone (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    worst = 0.0
    for rank, place in enumerate(order):
        worst = max(worst, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = worst
    return adjusted.tolist()


def false_discovery(p: Sequence[float]) -> list[float]:
    """Adjusted p-values of exploratory rows (Benjamini and Hochberg 1995)."""
    return stats.false_discovery_control(p).tolist() if len(p) else []

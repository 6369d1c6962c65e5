"""Many tasks in one number, and how far it may be trusted (rliable: Agarwal et al. 2021, arXiv:2108.13264).

Scores are [..., seeds, tasks], normalised so that tasks may be averaged. Intervals here are percentiles of a bootstrap: they
are shown, and cover too little with few seeds, so that no verdict rests on them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lmx.compare.statistics import Interval

ENOUGH = 5  # tasks, and seeds, from which the middle half means something
DRAWS = 1999


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    name: str  # IQM, or mean where there are too few tasks or seeds
    value: float
    interval: Interval | None  # for display; none for a mean of few


def normalized(scores: np.ndarray, floor: np.ndarray | float, ceiling: np.ndarray | float) -> np.ndarray:
    """0 at chance, 1 at the best there can be; [tasks] or one for all."""
    return (np.asarray(scores, dtype=float) - floor) / (np.asarray(ceiling, dtype=float) - floor)


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """The mean of the middle half of all runs of all tasks together: [..., seeds, tasks] -> [...]"""
    scores = np.asarray(scores, dtype=float)
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    return flat[..., cut : flat.shape[-1] - cut].mean(axis=-1)


def probability_of_improvement(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """P(a run of ours scores higher than one of theirs), ties half, the mean over tasks: [..., seeds, tasks] -> [...]"""
    ours, theirs = np.asarray(ours)[..., :, None, :], np.asarray(theirs)[..., None, :, :]
    return ((ours > theirs) + 0.5 * (ours == theirs)).mean(axis=(-3, -2, -1))


def resampled(statistic: Callable[..., np.ndarray], *arms: np.ndarray, confidence: float = 0.95) -> Interval:
    """Percentiles over resampled seeds, the same of every arm, each with all its tasks.

    rliable draws the runs of each task by themselves, since there each run is of one task. Here a run is measured on all tasks:
    drawn apart, its luck would average out over tasks, and the interval would be far too narrow.
    """
    rng = np.random.default_rng(0)
    seeds = rng.integers(len(arms[0]), size=(DRAWS, len(arms[0])))
    drawn = statistic(*(np.asarray(arm)[seeds] for arm in arms))
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(low=float(low), high=float(high))


def aggregate(scores: np.ndarray) -> Aggregate:
    """One arm's [seeds, tasks]: IQM from ENOUGH seeds and tasks on, the plain mean of fewer."""
    scores = np.asarray(scores, dtype=float)
    if min(scores.shape) < ENOUGH:
        return Aggregate(name="mean", value=float(scores.mean()), interval=None)
    value = float(interquartile_mean(scores))
    return Aggregate(name="IQM", value=value, interval=resampled(interquartile_mean, scores))


def item_error(scores: np.ndarray) -> float:
    """Standard error of the mean over items, [seeds, items]: what other items would change, and other seeds not."""
    means = np.asarray(scores, dtype=float).mean(axis=0)
    return float(means.std(ddof=1) / np.sqrt(len(means)))


def multi_bootstrap(differences: np.ndarray, confidence: float = 0.95) -> Interval:
    """Of a mean over [seeds, items], resampling both (Sellam et al. 2022, arXiv:2106.16163, paired form).

    Items are the same for all seeds, so that they are drawn once for all of them.
    """
    d = np.asarray(differences, dtype=float)
    rng = np.random.default_rng(0)
    seeds, items = (rng.multinomial(n, np.full(n, 1 / n), size=DRAWS) / n for n in d.shape)
    low, high = np.quantile(((seeds @ d) * items).sum(axis=-1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(low=float(low), high=float(high))

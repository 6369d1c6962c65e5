"""How many FLOPs an arm needs for a score of another: a ratio with an interval over seeds, or nothing where it is not known.

The weaker arm's last score is the target. The other has reached it at the evaluation from which on it stays there, by a line
in log FLOPs. Arms that are flagged or at their floor, a single seed, and a seed that is there at its first evaluation or never:
no ratio.
"""

import math
from collections.abc import Set
from itertools import combinations

import numpy as np

from lmx.compare.statistics import effect
from lmx.report.curves import Curve, Panel

FEWEST = 3  # evaluations of a curve


def sentences(panel: Panel, flagged: Set[str]) -> list[str]:
    """One for every two arms whose ratio is known."""
    if panel.reason is not None or panel.better == "neither":
        return []
    fit = [one for one in panel.curves if one.arm not in flagged]
    return [told for pair in combinations(fit, 2) if (told := sentence(panel, *pair))]


def sentence(panel: Panel, one: Curve, other: Curve) -> str | None:
    sign = 1.0 if panel.better == "higher" else -1.0
    seeds = sorted(one.seeds.keys() & other.seeds.keys())
    ahead = sum(sign * (one.seeds[seed][-1, 1] - other.seeds[seed][-1, 1]) for seed in seeds)
    ours, theirs = (one, other) if ahead > 0 else (other, one)
    ratios = [ratio(ours.seeds[seed], theirs.seeds[seed], sign) for seed in seeds]
    known = [math.log(found) for found in ratios if found is not None]
    if ahead == 0 or len(known) < max(2, len(seeds)):
        return None
    found = effect(known)
    q, low, high = (math.exp(value) for value in (found.mean, found.interval.low, found.interval.high))
    return (
        f"{panel.title}: {ours.arm} needs {q:.2f}x [{low:.2f}, {high:.2f}] of {theirs.arm}'s FLOPs for what {theirs.arm} has at "
        f"its end, {len(known)} seeds."
    )


def ratio(ours: np.ndarray, theirs: np.ndarray, sign: float) -> float | None:
    """[N, 2] of FLOPs and value, twice -> FLOPs to reach their last value over their FLOPs; None where not known."""
    gaps = sign * (ours[:, 1] - theirs[-1, 1])
    below = np.flatnonzero(gaps < 0)
    if len(gaps) < FEWEST or not len(below) or below[-1] == len(gaps) - 1:
        return None
    before = below[-1]
    share = -gaps[before] / (gaps[before + 1] - gaps[before])
    start, stop = np.log(ours[before : before + 2, 0])
    return float(np.exp(start + share * (stop - start)) / theirs[-1, 0])

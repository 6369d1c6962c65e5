"""The tasks of a yardstick in one number an arm, and how often one arm is ahead of another: described, not tested.

Each task is put on a scale from 0, its floor, to 1, all right, so that tasks may be averaged. From five seeds and tasks on it is
the mean of the middle half, with an interval; below that the plain mean, without one.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from lmx.compare.aggregates import ENOUGH, aggregate, normalized, probability_of_improvement, resampled

Row = Mapping[str, Any]


def overall(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Of each yardstick and metric with ENOUGH ranked tasks that are shares and have floors: lmx.compare.aggregates."""
    found = []
    for yardstick, metric in dict.fromkeys((row["yardstick"], row["metric"]) for row in rows):
        some = [row for row in rows if (row["yardstick"], row["metric"]) == (yardstick, metric) and fits(row)]
        if len(some) >= ENOUGH:
            found.append({"yardstick": yardstick, "metric": metric, "tasks": len(some)} | over(some))
    return found


def fits(row: Row) -> bool:
    """A task on which every arm was measured, with a floor below 1."""
    return bool(
        row["task"]
        and row["ranked"]
        and row["unit"] == "share"
        and row["better"] == "higher"
        and all(cell and cell["floor"] is not None and cell["floor"] < 1 for cell in row["cells"])
    )


def over(rows: Sequence[Row]) -> dict[str, Any]:
    """`arms` have a value each; `pairs` the probability that a run of `arm` is ahead of one of `against`, ties half."""
    columns = list(zip(*(row["cells"] for row in rows), strict=True))
    scores = {cells[0]["arm"]: scored(cells) for cells in columns}
    arms = []
    for name, one in scores.items():
        known = aggregate(one)
        low, high = (known.interval.low, known.interval.high) if known.interval else (None, None)
        arms.append(
            {"arm": name, "seeds": len(one), "name": known.name, "value": known.value, "low": low, "high": high}
        )
    return {"arms": arms, "pairs": [ahead(one, other) for other, one in combinations(columns, 2)]}


def scored(cells: Sequence[Row]) -> np.ndarray:
    """-> [seeds, tasks]"""
    return np.stack([normalized(np.array(cell["values"]), cell["floor"], 1.0) for cell in cells], axis=-1)


def ahead(one: Sequence[Row], other: Sequence[Row]) -> dict[str, Any]:
    """Nothing of single seeds; an interval from ENOUGH seeds on, which are resampled together."""
    ours, theirs = scored(one), scored(other)
    probability = float(probability_of_improvement(ours, theirs)) if min(len(ours), len(theirs)) > 1 else None
    paired = one[0]["seeds"] == other[0]["seeds"] and len(ours) >= ENOUGH
    ends = resampled(probability_of_improvement, ours, theirs) if paired else None
    low, high = (ends.low, ends.high) if ends else (None, None)
    return {"arm": one[0]["arm"], "against": other[0]["arm"], "probability": probability, "low": low, "high": high}

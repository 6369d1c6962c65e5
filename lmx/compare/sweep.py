"""A sweep's table: that of a comparison of all points, and where along the axes the best of each score lies.

Points are held against the best that was seen. It may be chosen by what was seen because all are tested against all, and p-values
corrected for that many tests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from lmx.compare.claims import ALPHA
from lmx.compare.points import numeric, seen, values
from lmx.compare.results import Results
from lmx.compare.statistics import effect
from lmx.compare.verdicts import Primary, contrasts, floors, listed, row_name, scope, unlike_places, unlike_seeds

OWN = ("validation", "", "loss")  # the row of own losses, where all points have one task


@dataclass(frozen=True)
class Sweep:
    """`broken` has points that cannot be, and why; `pruned` those that were given up."""

    keys: Sequence[str]
    broken: Mapping[str, str]
    pruned: Sequence[str] = ()


def swept(table: dict[str, Any], arms: Sequence[Results], sweep: Sweep) -> dict[str, Any]:
    """The table with `sweep`: the keys, each point's values, own losses where they mean the same, and the best of each score."""
    points = {arm.name: values(arm.runs[0].config, sweep.keys) for arm in arms}
    flagged = {name for name, found in table["flags"].items() if found}
    rows = [*table["rows"], *own(arms, flagged)]
    found = [best(row, points, sweep.keys, flagged) for row in rows if row["primary"]]
    found = [one for one in found if one]
    for row in rows:
        chosen = next((one["arm"] for one in found if one["row"] == row["key"]), None)
        row["contrasts"] = [one for one in row["contrasts"] if chosen in (one["arm"], one["against"])]
    refused = [f"{name} cannot be: {reason}" for name, reason in sweep.broken.items()]
    told = [sentence for sentences in table["flags"].values() for sentence in sentences]
    told = [*refused, *told, *unlike_seeds(arms), *unlike_places(arms), *floors(rows)]
    pruned = [f"Given up early, so not shown: {listed(sweep.pruned)}."] if sweep.pruned else []
    return table | {
        "sweep": {"keys": list(sweep.keys), "points": points, "own": rows[len(table["rows"]) :], "best": found},
        "failed": table["failed"] | dict(sweep.broken),
        "cautions": told,
        "words": [*told, *pruned, *(one["words"] for one in found), scope(arms)],
    }


def own(arms: Sequence[Results], flagged: set[str]) -> list[dict[str, Any]]:
    """A row of held-out losses, where objective, model inputs and text are one for all points; otherwise none."""
    tasks = [
        {key: arm.runs[0].config[key] for key in ("objective", "tokenizer", "length", "data", "packing")}
        for arm in arms
    ]
    cells = [cell(arm) for arm in arms]
    if any(task != tasks[0] for task in tasks) or None in cells:
        return []
    found = contrasts([Primary(OWN, "lower", cells)], flagged)
    return [
        {
            "key": " ".join(filter(None, OWN)), "yardstick": OWN[0], "task": "", "metric": OWN[2], "unit": "nats",
            "better": "lower", "ranked": True, "reason": None, "primary": True, "cells": cells, "contrasts": found[OWN],
        }
    ]  # fmt: skip


def cell(arm: Results) -> dict[str, Any] | None:
    losses = [result.validation[-1].get("loss") if result.validation else None for result in arm.runs]
    if None in losses or not all(map(isfinite, losses)):  # type: ignore[arg-type]: no None is left
        return None
    return {
        "arm": arm.name, "scorer": "own loss", "comparability": "X", "seeds": arm.seeds, "values": losses,
        "mean": sum(losses) / len(losses), "error": None, "items": None, "floor": None, "floor_name": None,  # type: ignore[arg-type]
        "unit": "nats", "better": "lower", "above_floor": None,
    }  # fmt: skip


def best(
    row: Mapping[str, Any], points: Mapping[str, Mapping[str, Any]], keys: Sequence[str], flagged: set[str]
) -> dict[str, Any] | None:
    """The best point of a row, and those that are not clearly worse: between them lies the best. None where none is fit."""
    cells = [one for one in row["cells"] if one and one["arm"] not in flagged and one["above_floor"] is not False]
    if not cells:
        return None
    sign = 1.0 if row["better"] == "higher" else -1.0
    first = max(cells, key=lambda one: sign * one["mean"])
    fit = {one["arm"] for one in cells}
    clearly = {
        name
        for one in row["contrasts"]
        if first["arm"] in (one["arm"], one["against"]) and one["p_holm"] is not None and one["p_holm"] <= ALPHA
        for name in (one["arm"], one["against"])
    } - {first["arm"]}
    possible = [one["arm"] for one in cells if one is not first and one["arm"] in fit - clearly]
    ends = effect(first["values"]).interval if len(first["values"]) > 1 else None
    found = {
        "row": row["key"], "arm": first["arm"], "mean": first["mean"], "seeds": len(first["seeds"]),
        "low": ends and ends.low, "high": ends and ends.high, "possible": possible,
        "between": between(first["arm"], possible, points, keys),
    }  # fmt: skip
    return found | {"words": sentence(row, found, points, keys)}


def between(
    first: str, possible: Sequence[str], points: Mapping[str, Mapping[str, Any]], keys: Sequence[str]
) -> list[float] | None:
    """The ends of what the best value may be, where one number is swept."""
    if len(keys) > 1 or not numeric(point[keys[0]] for point in points.values()):
        return None
    chosen = [points[name][keys[0]] for name in (first, *possible)]
    return [min(chosen), max(chosen)]


def sentence(
    row: Mapping[str, Any], found: Mapping[str, Any], points: Mapping[str, Mapping[str, Any]], keys: Sequence[str]
) -> str:
    label, at = row_name(row), f"{found['arm']}, {found['mean']:.3f}"
    if found["seeds"] < 2:
        side = "highest" if row["better"] == "higher" else "lowest"
        return f"{label}: {side} at {at}; one seed, so no verdict."
    said = f"{label}: best at {at} [{found['low']:.3f}, {found['high']:.3f}] over {found['seeds']} seeds; "
    said += f"not clearly worse: {listed(found['possible'])}" if found["possible"] else "all others are clearly worse"
    if (ends := found["between"]) and ends[0] < ends[1]:
        said += f". The best {keys[0]} lies between {ends[0]:g} and {ends[1]:g} as far as this shows"
    return said + edge(found["arm"], points, keys) + "."


def edge(arm: str, points: Mapping[str, Mapping[str, Any]], keys: Sequence[str]) -> str:
    """Where the best is the last that was tried on a side."""
    said = []
    for key in keys:
        tried = list(seen(points, key))
        if len(tried) > 2 and numeric(tried) and points[arm][key] in (min(tried), max(tried)):
            said.append(f"; {key}={points[arm][key]:g} is the last that was tried, a better one may lie beyond")
    return "".join(said)

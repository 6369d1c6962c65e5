"""Rows: what all arms were measured by, side by side, and which of it may be ranked.

Native losses are never ranked, nor are bounds, pseudo-likelihoods or expenses; a row is ranked where all arms have an exact
likelihood of the same text, or the score of a task.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lmx.compare.results import Results

PREFERRED = "ADBC"  # of an arm's several scorers, the first of these
CLEAR = 2.0  # standard errors over items that a score must be better than its floor
Key = tuple[str, str, str]  # yardstick, task, metric


def aligned(arms: Sequence[Results]) -> list[dict[str, Any]]:
    """One row for each yardstick, task and metric that two arms or more have, in the order of the yardsticks.

    `primary` are those that are tested: whole yardsticks that are ranked, or the tasks where there is no whole one.
    """
    keys: dict[Key, None] = {}
    for name in dict.fromkeys(name for arm in arms for name in arm.runs[0].wanted):
        for arm in arms:
            keys |= dict.fromkeys((name, row["task"], row["metric"]) for row in arm.runs[0].rows(name))
    rows = [joined(key, [cell(arm, key) for arm in arms]) for key in keys]
    rows = [row for row in rows if sum(one is not None for one in row["cells"]) > 1]
    tested = [row for row in rows if row["ranked"] and not row["task"]] or [row for row in rows if row["ranked"]]
    return [row | {"primary": row in tested} for row in rows]


def cell(arm: Results, key: Key) -> dict[str, Any] | None:
    """An arm's values of a key by seed, by the scorer that means most; None where it has none, or not in every run."""
    fitting = [[row for row in result.rows(key[0]) if (row["task"], row["metric"]) == key[1:]] for result in arm.runs]
    if not all(fitting):
        return None
    scorer = min(fitting[0], key=lambda row: PREFERRED.find(row["comparability"]) % 10)["scorer"]
    chosen = [next((row for row in rows if row["scorer"] == scorer), None) for rows in fitting]
    if any(row is None or row["value"] is None for row in chosen):
        return None
    first: dict[str, Any] = chosen[0]  # type: ignore[assignment]
    values = [row["value"] for row in chosen if row]
    found = {
        "arm": arm.name,
        "scorer": scorer,
        "comparability": first["comparability"],
        "seeds": arm.seeds,
        "values": values,
        "mean": sum(values) / len(values),
        "error": first["error"],
        "items": first["items"],
        "floor": first["floor"],
        "floor_name": first["floor_name"],
        "unit": first["unit"],
        "better": first["better"],
    }
    return found | {"above_floor": above_floor(found)}


def above_floor(cell: Mapping[str, Any]) -> bool | None:
    """Whether a score is better than its floor by more than other items would change; None where there is no floor."""
    if cell["floor"] is None or cell["better"] == "neither":
        return None
    sign = 1.0 if cell["better"] == "higher" else -1.0
    return sign * (cell["mean"] - cell["floor"]) > CLEAR * (cell["error"] or 0.0)


def joined(key: Key, cells: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    there = [one for one in cells if one]
    reason = why_not(there)
    return {
        "key": key,
        "yardstick": key[0],
        "task": key[1],
        "metric": key[2],
        "unit": there[0]["unit"] if there else "",
        "better": there[0]["better"] if there else "neither",
        "ranked": reason is None,
        "reason": reason,
        "cells": list(cells),
    }


def why_not(cells: Sequence[Mapping[str, Any]]) -> str | None:
    """Why a row is not ranked."""
    classes = {cell["comparability"] for cell in cells}
    if not cells or cells[0]["better"] == "neither":
        return "a description, not a score"
    if "X" in classes:
        return "an objective's own loss means something else for each"
    if "B" in classes:
        return "a bound: the likelihood may be better than shown"
    if "C" in classes:
        return "a pseudo-likelihood is no likelihood"
    if "E" in classes:
        return "an expense, not a score"
    if len(classes) > 1:
        return "arms were asked for different things"
    return None

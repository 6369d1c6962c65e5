"""What grew while arms trained, as panels of curves: means over seeds, the range of seeds around them, lines to beat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lmx.compare.results import NATIVE, Result, Results, native_terms, unit

AXES = {"flops": "FLOPs", "tokens": "tokens", "targets": "targets", "seconds": "seconds of training"}
OWN = (*NATIVE, "constant")  # what a key begins with that is no yardstick's


@dataclass(frozen=True, kw_only=True)
class Curve:
    """`points` have every axis, `mean`, `low` and `high`; `seeds` has seed -> [N, 2] of FLOPs and value."""

    arm: str
    scorer: str = ""
    points: Sequence[Mapping[str, float]]
    seeds: Mapping[int, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Panel:
    title: str
    unit: str
    curves: Sequence[Curve]
    lines: Mapping[str, float] = field(default_factory=dict)  # label -> height
    better: str = "neither"
    reason: str | None = None  # why its curves are not ranked


def native_panels(arms: Sequence[Results]) -> list[Panel]:
    """What each arm says of itself, a panel for each term, since terms of different objectives mean different things."""
    found = []
    for arm in arms:
        last = arm.runs[0].validation[-1] if arm.runs[0].validation else {}
        for term, key in native_terms(last).items():
            one = curve(arm, key)
            if one is None:
                continue
            constant = mean(arm, f"constant/{term}")
            if constant is None and term == "loss" and last.get("targets"):
                constant = mean(arm, "unigram_nats")
            name = arm.name if term == "loss" else f"{arm.name}: {term}"
            lines = {} if constant is None else {"best constant": constant}
            found.append(Panel(title=name, unit=unit(key), curves=[one], lines=lines))
    return found


def bits_panel(arms: Sequence[Results]) -> Panel | None:
    """Bits per byte of the arms whose own loss measures text; ranked where all of it is the same bytes."""
    curves = [one for arm in arms if (one := curve(arm, "bits_per_byte"))]
    if not curves:
        return None
    there = [arm for arm in arms if any(one.arm == arm.name for one in curves)]
    sizes = {result.validation[-1].get("bytes") for arm in there for result in arm.runs}
    lines = {name: mean(there[0], f"{name}_bits_per_byte") for name in ("unigram", "bigram")}
    return Panel(
        title="validation",
        unit="bits/byte",
        curves=curves,
        lines={name: value for name, value in lines.items() if value is not None},
        better="lower",
        reason=None if len(sizes) == 1 else "arms are measured on texts of different size",
    )


def yardstick_panels(arms: Sequence[Results], rows: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """Yardsticks that were measured in the loop: `NAME/[TASK/]METRIC/SCORER` in evals/validation.jsonl."""
    known = {row["key"]: row for row in rows}
    keys: dict[str, dict[str, list[str]]] = {}  # name of a row -> arm -> keys
    for arm in arms:
        for key in arm.runs[0].validation[-1] if arm.runs[0].validation else {}:
            parts = key.split("/")
            if len(parts) > 2 and parts[0] not in OWN:
                keys.setdefault(" ".join(parts[:-1]), {}).setdefault(arm.name, []).append(key)
    found = []
    for title, having in keys.items():
        row = known.get(title, {})
        chosen = {cell["arm"]: cell["scorer"] for cell in row.get("cells", ()) if cell}
        curves = []
        for arm in arms:
            fitting = having.get(arm.name, [])
            key = next((one for one in fitting if one.endswith(f"/{chosen.get(arm.name)}")), next(iter(fitting), None))
            one = curve(arm, key, key.rpartition("/")[2]) if key else None
            curves += [one] if one else []
        if curves:
            found.append(
                Panel(
                    title=title,
                    unit=row.get("unit", ""),
                    curves=curves,
                    lines=floors(row),
                    better=row.get("better", "neither"),
                    reason=row.get("reason", "measured in the loop alone"),
                )
            )
    return found


def floors(row: Mapping[str, Any]) -> dict[str, float]:
    """Those that are the same for all arms."""
    pairs = {(cell["floor_name"], cell["floor"]) for cell in row.get("cells", ()) if cell and cell["floor"] is not None}
    names = [name for name, _ in pairs]
    return {name: value for name, value in sorted(pairs) if names.count(name) == 1}


def curve(arm: Results, key: str, scorer: str = "") -> Curve | None:
    """Evaluations are joined by their number, which is a share of the budget; those that some seed lacks are left out."""
    lines = [result.validation for result in arm.runs]
    places = [
        place
        for place in range(min(map(len, lines), default=0))
        if all(one[place].get(key) is not None for one in lines)
    ]
    if not places:
        return None
    spent = {result.seed: axes(result) for result in arm.runs}
    values = {
        result.seed: np.array([one[place][key] for place in places])
        for result, one in zip(arm.runs, lines, strict=True)
    }
    points = []
    for number, place in enumerate(places):
        here = [float(value[number]) for value in values.values()]
        where = {axis: float(np.mean([one[axis][place] for one in spent.values()])) for axis in AXES}
        points.append(where | {"mean": float(np.mean(here)), "low": min(here), "high": max(here)})
    seeds = {seed: np.stack([spent[seed]["flops"][places], value], axis=-1) for seed, value in values.items()}
    return Curve(arm=arm.name, scorer=scorer, points=points, seeds=seeds)


def axes(result: Result) -> dict[str, np.ndarray]:
    """What was spent at each evaluation; targets, which are logged less often, lie on a line between logged steps."""
    lines = result.validation
    steps = [0.0, *(line["step"] for line in result.metrics)]
    targets = [0.0, *(line["targets"] for line in result.metrics)]
    found = {axis: np.array([line[axis] for line in lines]) for axis in AXES if axis != "targets"}
    return found | {"targets": np.interp([line["step"] for line in lines], steps, targets)}


def mean(arm: Results, key: str) -> float | None:
    """Over seeds, at the last evaluation."""
    values = [result.validation[-1].get(key) for result in arm.runs if result.validation]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None

"""A/A: an arm held against itself under other seeds, which differs by nothing but luck. What says more is not to be believed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lmx.compare.alignment import cell
from lmx.compare.arms import Arm
from lmx.compare.claims import ALPHA
from lmx.compare.gates import Flag, unequal_twins
from lmx.compare.power import detectable
from lmx.compare.results import Results
from lmx.compare.statistics import Effect, effect, paired

OTHER = 20_000  # added to a seed: those of arms count from 0, tuning has one of its own


def twin(arm: Arm) -> Arm:
    """The same arm under as many other seeds."""
    seeds = [config["seed"] + OTHER for config in arm.configs]
    return Arm(
        name=f"{arm.name} again",
        configs=[dict(config) | {"seed": seed} for config, seed in zip(arm.configs, seeds, strict=True)],
        overrides=[[*typed[:-1], f"seed={seed}"] for typed, seed in zip(arm.overrides, seeds, strict=True)],
    )


def effects(rows: Sequence[Mapping[str, Any]], arm: Results, again: Results) -> dict[str, Effect]:
    """By tested row, arm - twin, paired in the order of their seeds; nothing of fewer than two pairs."""
    found = {}
    for row in rows:
        ours, theirs = cell(arm, row["key"]), cell(again, row["key"])
        if not row["primary"] or ours is None or theirs is None:
            continue
        shifted = [seed - OTHER for seed in theirs["seeds"]]
        differences = paired(
            dict(zip(ours["seeds"], ours["values"], strict=True)), dict(zip(shifted, theirs["values"], strict=True)),
            better=row["better"],
        )  # fmt: skip
        if len(differences) > 1:
            found[" ".join(filter(None, row["key"]))] = effect(differences)
    return found


def control(arm: Results, again: Results, found: Mapping[str, Effect]) -> dict[str, Any]:
    """What is written of it; `detectable` counts, as the comparison does, that there are several rows."""
    level = ALPHA / max(1, len(found))
    rows = [{"row": row} | asdict(one) | {"detectable": detectable(one.n, one.sd, level)} for row, one in found.items()]
    return {"arm": arm.name, "seeds": again.seeds, "runs": [result.run.name for result in again.runs], "rows": rows}


def flags(arm: str, found: Mapping[str, Effect]) -> list[Flag]:
    level = ALPHA / max(1, len(found))
    return [flag for row, one in found.items() for flag in unequal_twins(arm, row, one, level)]


def told(control: Mapping[str, Any], flagged: bool) -> list[str]:
    """A sentence where there is nothing to take back."""
    pairs = sorted({row["n"] for row in control["rows"]})
    if flagged or not pairs:
        return []
    return [
        f"A/A: {control['arm']} under other seeds ({' or '.join(map(str, pairs))} pairs) differs from itself in no tested row by "
        "what could be detected."
    ]

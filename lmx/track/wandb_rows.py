"""What W&B is told of a run. Names are the same for every objective, so that arms lie side by side.

    tokens, flops, seconds, step, epoch, …     what was spent: the axes
    train/loss, speed/tokens_per_second, …     of a training step
    validation/loss, validation/bits_per_byte  of an evaluation in the loop; validation/loss/TERM and
                                               validation/share/TERM are an objective's own
    validation/YARDSTICK/[TASK/]METRIC         a yardstick in the loop
    yardsticks/YARDSTICK/[TASK/]METRIC         a yardstick after training
    scorers/YARDSTICK/METRIC                   how the model was asked: part of a result, and another one for each objective

A yardstick's further scorers in the loop have their name behind METRIC.
"""

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from lmx.runs import Run

METERS = ("tokens", "flops", "seconds")  # x axes: what a run has spent
COUNTS = (*METERS, "step", "epoch", "progress", "positions", "targets", "unique_tokens", "skipped")
SPEEDS = ("tokens_per_second", "flops_per_second", "peak_share")
NOT_YARDSTICKS = ("validation", "samples")
PREFERRED = "ADBC"  # of several scorers' comparability, as in a comparison: lmx/compare/alignment.py
SCORE = (
    "task", "metric", "scorer", "value", "error", "floor", "floor_name", "unit", "better", "comparability", "items",
)  # fmt: skip

Score = dict[str, Any]


def train_row(line: Mapping[str, Any]) -> dict[str, Any]:
    train = {
        f"train/{key}": value
        for key, value in line.items()
        if key in ("loss", "lr", "grad_norm") or key.startswith(("loss/", "share/"))
    }
    speeds = {f"speed/{key}": line[key] for key in SPEEDS if line.get(key) is not None}
    return {key: line[key] for key in COUNTS} | train | speeds


def validation_row(line: Mapping[str, Any], yardsticks: Container[str]) -> dict[str, Any]:
    """The first scorer of a yardstick gives its name away, further ones keep theirs."""
    found = {key: line[key] for key in (*METERS, "step", "progress")}
    seen: set[str] = set()
    for key, value in line.items():
        name, _, _ = key.rpartition("/")
        if key.partition("/")[0] in yardsticks and name not in seen:
            seen.add(name)
            key = name
        if key not in found and value is not None:
            found[f"validation/{key}"] = value
    return found


def scores(run: Run, wanted: Mapping[str, Mapping[str, Any]]) -> list[Score]:
    """A line for each number that yardsticks found of the newest model they examined, with these knobs.

    Names of knobs that are not `wanted` may be the same: they come first, and what comes later counts.
    """
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for file in sorted((run.path / "evals").glob("*.jsonl")):
        for line in run.lines(f"evals/{file.name}") if file.stem not in NOT_YARDSTICKS else ():
            key = (file.stem, json.dumps(line.get("knobs"), sort_keys=True))
            if line["step"] >= newest.get(key, line)["step"]:
                newest[key] = line
    order = sorted(newest, key=lambda key: (newest[key].get("knobs") == wanted.get(key[0]), newest[key]["step"]))
    return [
        {"yardstick": name} | {key: row[key] for key in SCORE} | {"step": newest[name, knobs]["step"], "knobs": knobs}
        for name, knobs in order
        for row in newest[name, knobs]["rows"]
    ]


def summarised(found: Sequence[Score]) -> Iterator[tuple[str, Any]]:
    """Names and values, of each name by the scorer that means most."""
    for (yardstick, _), lines in groupby(found, key=lambda score: (score["yardstick"], score["knobs"])):
        by_name: dict[tuple[str, str], list[Score]] = {}
        for score in lines:
            by_name.setdefault((score["task"], score["metric"]), []).append(score)
        for (task, metric), some in by_name.items():
            best = min(some, key=lambda score: PREFERRED.find(score["comparability"]) % 10)
            yield "/".join(filter(None, ["yardsticks", yardstick, task, metric])), best["value"]
            yield f"scorers/{yardstick}/{metric}", best["scorer"]

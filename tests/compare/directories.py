"""Runs of a comparison as training and yardsticks leave them, without training."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from lmx.compare.comparison import build_table
from lmx.compare.results import Result, Results
from lmx.config import plain
from lmx.runs import Run

STEPS = 100
FLOPS = 10**9  # a step
BUDGET = f"budget.flops={STEPS * FLOPS}"
KNOBS = {"minimal_pairs": {"pairs": 50}}
DATA = "words/train/held"
LEARNED, STUCK = 4.0, 6.4  # nats, beside a constant of 6.5


def run(
    folder: Path,
    objective: str = "clm",
    seed: int = 0,
    *overrides: str,
    rows: Sequence[dict[str, Any]] = (),
    loss: float | None = LEARNED,
    data: str = DATA,
    state: str = "done",
    **spent: float,
) -> Run:
    """A run of 100 steps, measured by `minimal_pairs`; `spent` replaces what its ledger has."""
    typed = [f"objective={objective}", *(overrides if "budget" in " ".join(overrides) else [BUDGET, *overrides])]
    config = composed(*typed) | {"seed": seed, "runs": str(folder)}
    one = Run.create(config, [*typed, f"seed={seed}"], folder)
    ledger = {"step": STEPS, "tokens": 1e5, "positions": 1e5, "targets": 1e5, "flops": STEPS * FLOPS, "seconds": 10.0}
    ledger |= {"epoch": 0.5, "skipped": 0, "progress": 1.0, "loss": 4.0, "lr": 1e-3} | spent
    ledger["tokens_per_second"] = ledger["tokens"] / ledger["seconds"]
    one.append("metrics.jsonl", ledger)
    scores = {
        "loss": loss,
        "loss/loss": loss,
        "targets": 100,
        "unigram_nats": 6.5,
        "bits_per_byte": None,
        "bytes": None,
    }
    one.append("evals/validation.jsonl", ledger | scores)
    measured(one, rows or [row()])
    if data:
        manifest = one.path / "checkpoints" / f"step-{STEPS:08}" / "manifest.json"
        manifest.parent.mkdir()
        manifest.write_text(json.dumps({"state": {"data": data}}))
    one.write_json("environment.json", {"device": "a processor", "bf16": True, "parameters": 1000})
    one.set_status(state=state, exit_code=0 if state == "done" else 6, reason=None if state == "done" else "not finite")
    return one


@cache
def composed(*typed: str) -> dict[str, Any]:
    return plain(typed)


def measured(one: Run, rows: Sequence[dict[str, Any]], *, step: int = STEPS, knobs: Any = None) -> None:
    knobs = KNOBS["minimal_pairs"] if knobs is None else knobs
    one.append("evals/minimal_pairs.jsonl", {"step": step, "knobs": knobs, "seconds": 1.0, "rows": list(rows)})


def row(value: float | None = 0.8, **changes: Any) -> dict[str, Any]:
    return {
        "metric": "accuracy", "task": "", "scorer": "causal", "value": value, "error": 0.02, "items": 60, "floor": 0.5,
        "floor_name": "chance", "unit": "share", "better": "higher", "comparability": "D",
    } | changes  # fmt: skip


def results(name: str, runs: Sequence[Run]) -> Results:
    return Results(name, [Result(one, KNOBS) for one in runs])


def arm(folder: Path, name: str, values: Sequence[float], **changes: Any) -> Results:
    """One seed for each value of the whole yardstick; `changes` are the row's."""
    words = name.split()
    return results(
        name,
        [run(folder, words[0], seed, *words[1:], rows=[row(value, **changes)]) for seed, value in enumerate(values)],
    )


def table(*arms: Results, failed: dict[str, dict[int, str]] | None = None) -> dict[str, Any]:
    return build_table("compare-test", arms, failed or {}, "lmx compare")

"""Comparisons as training and yardsticks leave them, without training: curves that are known in closed form."""

import json
from pathlib import Path
from typing import Any

from lmx.compare.comparison import build_table
from lmx.compare.results import Result, Results
from lmx.config import plain
from lmx.runs import Run

STEPS = tuple(range(10, 101, 10))
FLOPS = 10**9  # a step
PACE = {"clm": 2.0, "mlm": 1.0, "span": 1.0}  # how fast an arm gets better, in FLOPs
KNOBS: dict[str, dict[str, Any]] = {"minimal_pairs": {}, "cross": {}}
TASKS = {"a & b": 0.7, "c|d_e": 0.5}


def make(folder: Path, *, seeds: int = 3, names: tuple[str, ...] = tuple(PACE)) -> tuple[dict[str, Any], list[Results]]:
    """The table and the arms of a comparison of runs in `folder`."""
    arms = [
        Results(name, [Result(run(folder, name, seed), KNOBS) for seed in range(seeds)])
        for name in names
    ]  # fmt: skip
    return build_table("compare-toy", arms, {}, "lmx compare " + " ".join(names)), arms


def run(folder: Path, name: str, seed: int) -> Run:
    typed = [f"objective={name.split()[0]}", f"seed={seed}", "budget.flops=1e11", *name.split()[1:]]
    one = Run.create(plain(typed), typed, folder)
    for step in STEPS:
        spent = {
            "step": step,
            "tokens": step * 1024,
            "flops": step * FLOPS,
            "seconds": step / 10,
            "progress": step / 100,
        }
        more = {"positions": step * 1024, "targets": step * 512, "epoch": step / 1e3, "skipped": 0}
        one.append("metrics.jsonl", spent | more)
        one.append("evals/validation.jsonl", spent | validation(name, seed, step))
    for key, rows in yardsticks(name, seed).items():
        one.append(f"evals/{key}.jsonl", {"step": STEPS[-1], "knobs": {}, "seconds": 1.0, "rows": rows})
    one.append("evals/samples.jsonl", {"step": STEPS[-1], "prompt": "Fellow <b>", "text": " citizens </script>"})
    one.write_json("environment.json", {"lmx": "0", "device": "a processor"})
    manifest = one.path / "checkpoints" / "step-00000100" / "manifest.json"
    manifest.parent.mkdir()
    manifest.write_text(json.dumps({"state": {"data": "words/text"}}))
    one.set_status(state="done", exit_code=0)
    return one


def accuracy(name: str, seed: int, step: int) -> float:
    """A share of PACE x step alone, so that an arm that is twice as fast needs half of the FLOPs."""
    reached = PACE[name.split()[0]] * step
    return 0.5 + 0.4 * reached / (reached + 50) + 0.001 * seed


def validation(name: str, seed: int, step: int) -> dict[str, Any]:
    loss = 3 + 4 * 0.97**step + 0.01 * seed
    clm = name == "clm"
    return {
        "loss": loss, "loss/loss": loss, "targets": 100, "unigram_nats": 6.5, "bytes": 400 if clm else None,
        "bits_per_byte": loss / 3 if clm else None, "unigram_bits_per_byte": 2.3 if clm else None,
        "bigram_bits_per_byte": 1.6 if clm else None,
        "minimal_pairs/accuracy/pll": accuracy(name, seed, step),
    }  # fmt: skip


def yardsticks(name: str, seed: int) -> dict[str, list[dict[str, Any]]]:
    whole = row("", accuracy(name, seed, STEPS[-1]))
    tasks = [row(task, value + 0.01 * seed) for task, value in TASKS.items()]
    losses = {"metric": "loss", "unit": "nats", "better": "neither", "comparability": "X", "floor": 6.5}
    matrix = [row(task, value, **losses) for task, value in {"causal": 5.0, "mask 15%": 4.0 + seed}.items()]
    return {"minimal_pairs": [whole, *tasks], "cross": matrix[name == "mlm" :]}


def row(task: str, value: float, **changes: Any) -> dict[str, Any]:
    return {
        "metric": "accuracy", "task": task, "scorer": "pll", "value": value, "error": 0.02, "items": 60, "floor": 0.5,
        "floor_name": "chance", "unit": "share", "better": "higher", "comparability": "D",
    } | changes  # fmt: skip

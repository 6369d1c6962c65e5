"""Yardsticks on a checkpoint: `python -m lmx.evaluate` reads a request as JSON and appends to the run's evals/<name>.jsonl.

The request has `run`, a path; `step`, or null for the newest checkpoint; and `yardsticks`, name -> config node. What is
measured already, at the same step with the same knobs, is not measured again. How far it is comes as JSON lines. It is a
process of its own because the command line does not import torch.
"""

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from lmx.build import build
from lmx.errors import LmxError
from lmx.evals.yardstick import Yardstick
from lmx.runs import Run
from lmx.trained import load, subject


def evaluate(run: Run, step: int | None, nodes: Mapping[str, Mapping[str, Any]]) -> None:
    """One line for each yardstick that is missing."""
    loaded = load(run, step)
    missing = {name: node for name, node in nodes.items() if not known(run, name, loaded.step, node)}
    if not missing:
        return
    yardsticks: dict[str, Yardstick] = {name: build(node) for name, node in missing.items()}
    examined = subject(run, loaded, say)
    for number, (name, yardstick) in enumerate(yardsticks.items()):

        def report(phase: str, share: float | None, name: str = name, number: int = number) -> None:
            say(f"{name}: {phase}" if phase else name, (number + (share or 0.0)) / len(yardsticks))

        report("", 0.0)
        began = time.monotonic()
        torch.manual_seed(examined.seed)
        rows = [asdict(row) for row in yardstick(examined, report)]
        seconds = round(time.monotonic() - began, 3)
        run.append(
            f"evals/{name}.jsonl", {"step": loaded.step, "knobs": missing[name], "seconds": seconds, "rows": rows}
        )


def known(run: Run, name: str, step: int, node: Mapping[str, Any]) -> bool:
    return any(line["step"] == step and line.get("knobs") == node for line in run.lines(f"evals/{name}.jsonl"))


def say(phase: str, share: float | None = None) -> None:
    print(json.dumps({"phase": phase, "share": share}), flush=True)


def main() -> int:
    asked = json.load(sys.stdin)
    try:
        with torch.no_grad():
            evaluate(Run.open(asked["run"]), asked["step"], asked["yardsticks"])
    except LmxError as error:
        print(f"lmx: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Yardsticks on a checkpoint: `python -m lmx.evaluate` reads a request as JSON and appends to the run's evals/<name>.jsonl.

The request has `run`, a path, or null to read only the files that yardsticks are to be given; `step`, or null for the newest
checkpoint; and `yardsticks`, name -> config node. What is
measured already, at the same step with the same knobs, is not measured again. How far it is comes as JSON lines, and so
does what has failed. It is a process of its own because the command line does not import torch.
"""

import json
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from lmx.build import build
from lmx.errors import INTERNAL, LmxError
from lmx.evals.yardstick import Report, Subject, Yardstick
from lmx.runs import Run
from lmx.trained import load, subject


def evaluate(run: Run, step: int | None, nodes: Mapping[str, Mapping[str, Any]]) -> None:
    """One line for each yardstick that is missing; what fails is told, and the others go on."""
    loaded = load(run, step)
    missing = [name for name, node in nodes.items() if not known(run, name, loaded.step, node)]
    if not missing:
        return
    examined = subject(run, loaded, say)
    for number, name in enumerate(missing):

        def report(phase: str, share: float | None, name: str = name, number: int = number) -> None:
            say(f"{name}: {phase}" if phase else name, (number + (share or 0.0)) / len(missing), name)

        report("", 0.0)
        try:
            measured = measure(examined, nodes[name], report)
        except Exception as error:  # the others can be measured all the same
            fail(name, error)
        else:
            run.append(f"evals/{name}.jsonl", {"step": loaded.step, "knobs": nodes[name]} | measured)


def measure(examined: Subject, node: Mapping[str, Any], report: Report) -> dict[str, Any]:
    yardstick: Yardstick = build(node)
    began = time.monotonic()
    torch.manual_seed(examined.seed)
    rows = [asdict(row) for row in yardstick(examined, report)]
    return {"seconds": round(time.monotonic() - began, 3), "rows": rows}


def check(nodes: Mapping[str, Mapping[str, Any]]) -> None:
    for name, node in nodes.items():
        try:
            build(node).check()
        except Exception as error:
            fail(name, error)


def known(run: Run, name: str, step: int, node: Mapping[str, Any]) -> bool:
    return any(line["step"] == step and line.get("knobs") == node for line in run.lines(f"evals/{name}.jsonl"))


def say(phase: str, share: float | None = None, yardstick: str | None = None) -> None:
    print(json.dumps({"phase": phase, "share": share, "yardstick": yardstick}), flush=True)


def fail(name: str, error: Exception) -> None:
    """What the user can mend is a sentence; anything else is named, and its traceback goes to the log."""
    reason, code = str(error), INTERNAL
    if isinstance(error, LmxError):
        code = error.exit_code
    else:
        traceback.print_exception(error)
        reason = f"{type(error).__name__}: {reason}"
    print(json.dumps({"failed": name, "reason": " ".join(reason.split()), "code": code}), flush=True)


def main() -> int:
    """What fails before there is a model to measure fails for all yardsticks."""
    asked = json.load(sys.stdin)
    try:
        if asked["run"] is None:
            check(asked["yardsticks"])
            return 0
        with torch.no_grad():
            evaluate(Run.open(asked["run"]), asked["step"], asked["yardsticks"])
    except Exception as error:
        for name in asked["yardsticks"]:
            fail(name, error)
    return 0


if __name__ == "__main__":
    sys.exit(main())

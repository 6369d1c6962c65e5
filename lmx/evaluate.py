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
from lmx.data.corpus import prepare
from lmx.errors import CheckpointError, LmxError
from lmx.evals.yardstick import Subject, Yardstick
from lmx.experiment import examined, new_learner
from lmx.runs import Run
from lmx.train import checkpoint, device
from lmx.train.state import CHECKPOINTS, same_data


def evaluate(run: Run, step: int | None, nodes: Mapping[str, Mapping[str, Any]]) -> None:
    """One line for each yardstick that is missing."""
    loaded = checkpoint.load(run.path / CHECKPOINTS, step)
    if loaded is None:
        raise CheckpointError(f"RUN must have a checkpoint to evaluate, got {run.name}, which has none.")
    missing = {name: node for name, node in nodes.items() if not known(run, name, loaded.step, node)}
    if not missing:
        return
    yardsticks: dict[str, Yardstick] = {name: build(node) for name, node in missing.items()}
    subject = subject_of(run, loaded)
    for number, (name, yardstick) in enumerate(yardsticks.items()):

        def report(phase: str, share: float | None, name: str = name, number: int = number) -> None:
            say(f"{name}: {phase}" if phase else name, (number + (share or 0.0)) / len(yardsticks))

        report("", 0.0)
        began = time.monotonic()
        torch.manual_seed(subject.seed)
        rows = [asdict(row) for row in yardstick(subject, report)]
        seconds = round(time.monotonic() - began, 3)
        run.append(
            f"evals/{name}.jsonl", {"step": loaded.step, "knobs": missing[name], "seconds": seconds, "rows": rows}
        )


def known(run: Run, name: str, step: int, node: Mapping[str, Any]) -> bool:
    return any(line["step"] == step and line.get("knobs") == node for line in run.lines(f"evals/{name}.jsonl"))


def subject_of(run: Run, loaded: checkpoint.Loaded) -> Subject:
    """The run's model with the checkpoint's weights. Raises LmxError when the data are no longer those it was trained on."""
    config = run.config()
    place = device.pick(config["device"])
    corpus = prepare(build(config["data"]), build(config["tokenizer"]), say)
    same_data(loaded, corpus.fingerprint)
    learner = new_learner(config, corpus)
    learner.load_state_dict(loaded.tensors["model"])
    return examined(config, corpus, learner.to(place).eval(), place)


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

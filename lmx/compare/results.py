"""What one arm's runs have measured, read from their directories alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lmx.runs import Run

NATIVE = {"loss": "nats", "share": "share"}  # how keys begin of what an objective says of itself -> unit
LEDGER = ("tokens", "positions", "targets", "flops", "seconds", "steps", "epochs")


@dataclass(frozen=True)
class Result:
    """A run, and the yardsticks that it was to be measured by: name -> knobs, each in evals/<name>.jsonl."""

    run: Run
    wanted: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def config(self) -> dict[str, Any]:
        return self.run.config()

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        return self.run.lines("metrics.jsonl")

    @cached_property
    def validation(self) -> list[dict[str, Any]]:
        return self.run.lines("evals/validation.jsonl")

    @cached_property
    def ledger(self) -> dict[str, float]:
        """What was spent, by name; nothing before the first line of metrics."""
        if not self.metrics:
            return {}
        last = self.metrics[-1]
        return {name: float(last[{"steps": "step", "epochs": "epoch"}.get(name, name)]) for name in LEDGER}

    @cached_property
    def measured(self) -> dict[str, dict[str, Any]]:
        """name -> the newest line with the wanted knobs at the last step: none of other knobs, or of an earlier model."""
        step = self.metrics[-1]["step"] if self.metrics else None
        found = {}
        for name, knobs in self.wanted.items():
            for line in self.run.lines(f"evals/{name}.jsonl"):
                if line["step"] == step and line.get("knobs") == knobs:
                    found[name] = line
        return found

    def rows(self, yardstick: str) -> Sequence[dict[str, Any]]:
        """None where it was not measured, or the model could not be asked."""
        return self.measured[yardstick]["rows"] if yardstick in self.measured else ()

    @cached_property
    def fingerprint(self) -> str:
        """Of vocabulary, training and held-out tokens, as the newest checkpoint has it: lmx/data/corpus.py."""
        manifests = sorted((self.run.path / "checkpoints").glob("step-*/manifest.json"))
        return json.loads(manifests[-1].read_text())["state"]["data"] if manifests else ""

    @property
    def currency(self) -> str:
        """What the budget is stated in."""
        return next(key for key, value in self.config["budget"].items() if key != "_target_" and value is not None)

    @property
    def done(self) -> bool:
        return self.run.status().get("state") == "done"

    @property
    def seed(self) -> int:
        return int(self.config["seed"])


@dataclass(frozen=True)
class Results:
    """One arm's finished runs, ordered by seed."""

    name: str
    runs: Sequence[Result]

    @property
    def seeds(self) -> list[int]:
        return [result.seed for result in self.runs]

    def spent(self, key: str) -> float:
        """The mean over seeds."""
        return sum(result.ledger[key] for result in self.runs) / len(self.runs)


def native_terms(line: Mapping[str, Any]) -> dict[str, str]:
    """Term of an objective's own -> its key in a line of metrics or of validation."""
    split = [(key, *key.partition("/")[::2]) for key in line]
    return {term: key for key, first, term in split if first in NATIVE and term}


def unit(key: str) -> str:
    """Of what `native_terms` found"""
    return NATIVE[key.partition("/")[0]]

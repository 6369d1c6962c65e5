"""What one arm's runs have measured, read from their directories alone."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lmx.runs import Run

LEDGER = ("tokens", "positions", "targets", "flops", "seconds", "steps", "epochs")


@dataclass(frozen=True)
class Result:
    """A run. Lines of evals/<name>.jsonl that have rows are a yardstick's."""

    run: Run

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
    def yardsticks(self) -> dict[str, dict[str, Any]]:
        """name -> its newest line of the last step."""
        found = {}
        for path in sorted((self.run.path / "evals").glob("*.jsonl")):
            lines = [line for line in self.run.lines(f"evals/{path.name}") if "rows" in line]
            if lines:
                found[path.stem] = max(enumerate(lines), key=lambda item: (item[1]["step"], item[0]))[1]
        return found

    @cached_property
    def fingerprint(self) -> str:
        """`<vocabulary>/<tokens>` of the corpus, as the newest checkpoint has it."""
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

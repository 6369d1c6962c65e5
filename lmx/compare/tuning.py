"""A learning rate for each arm: the same grid, the same short budget, on a seed that reports nothing.

Selected by an arm's own validation loss, which is fair within an arm (claims of one objective about itself).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmx.compare.arms import Arm, arm
from lmx.compare.results import Result
from lmx.errors import LmxError

SEED = 10_000  # of tuning runs; reporting seeds count from 0
TUNABLE = ("optim.", "trainer.")
SHARE = 0.25  # of the budget, for each value of the grid


@dataclass(frozen=True, kw_only=True)
class Choice:
    """`losses` by value, in the order of the grid; None where a run failed or diverged."""

    key: str
    value: float
    losses: Mapping[float, float | None]

    @property
    def edge(self) -> bool:
        """Whether a value beyond the grid might be better still."""
        grid = sorted(self.losses)
        return len(grid) > 1 and self.value in (grid[0], grid[-1])


def grid(typed: str) -> tuple[str, list[float]]:
    """`optim.lr=0.003,0.01,0.03` -> key and values, ascending. Raises LmxError for anything else."""
    key, _, text = typed.partition("=")
    try:
        values = sorted({float(value) for value in text.split(",")})
    except ValueError:
        values = []
    if len(values) < 2 or not key.strip():
        raise LmxError(
            f"--tune must be a key and at least two numbers, got '{typed}'. Type e.g. --tune optim.lr=0.005,0.01,0.02."
        )
    if not key.strip().startswith(TUNABLE):
        raise LmxError(
            f"--tune must be a key of optim or trainer, got {key.strip()}: an arm's own loss chooses, and "
            "other keys may make it another task's. Name them as arms instead."
        )
    return key.strip(), values


def trials(word: str, shared: Sequence[str], key: str, values: Sequence[float]) -> list[Arm]:
    """One arm for each value, of a SHARE of the budget."""
    (budget,) = [setting for setting in shared if setting.startswith("budget.")]
    name, _, amount = budget.partition("=")
    others = [setting for setting in shared if setting != budget]
    short = (
        f"{name}={float(amount) * SHARE:g}"
        if name != "budget.steps"
        else f"{name}={max(1, round(float(amount) * SHARE))}"
    )
    return [arm(f"{word} {key}={value:g}", [*others, short], [SEED]) for value in values]


def chosen(key: str, values: Sequence[float], runs: Sequence[Result]) -> Choice:
    """The value with the lowest validation loss. Raises LmxError when none has one."""
    losses: dict[float, float | None] = {}
    for value, result in zip(values, runs, strict=True):
        last: dict[str, Any] = result.validation[-1] if result.done and result.validation else {}
        losses[value] = last.get("loss")
    there = {value: loss for value, loss in losses.items() if loss is not None}
    if not there:
        raise LmxError(
            f"--tune must leave a run that ends, got none of {key}={','.join(f'{value:g}' for value in values)}."
        )
    return Choice(key=key, value=min(there, key=lambda value: there[value]), losses=losses)

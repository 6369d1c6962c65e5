"""How much a run may spend, and how far it is: progress = spent / budget, from counts that are known before a step."""

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, Gt

from lmx.errors import LmxError

CALIBRATION = 20  # steps after which a budget of seconds becomes a number of steps


@dataclass
class Ledger:
    """What a run has spent, over all ranks. Seconds are those of training steps alone."""

    step: int = 0
    tokens: int = 0  # of text, read
    positions: int = 0  # of the model, padding included
    targets: int = 0  # scored
    flops: int = 0  # of the model, forward and backward
    seconds: float = 0.0
    skipped: int = 0  # steps not applied because something was not finite

    def state(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Cost:
    """What one step will spend, known before it runs."""

    tokens: int = 0
    positions: int = 0
    targets: int = 0
    flops: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(a + b for a, b in zip(self.row(), other.row(), strict=True)))

    def row(self) -> list[int]:
        return [self.tokens, self.positions, self.targets, self.flops]


@dataclass(kw_only=True)
class Budget:
    """Exactly one of five currencies. A run stops at the step nearest to it."""

    tokens: Annotated[int, Gt(0)] | None
    flops: Annotated[float, Gt(0)] | None
    targets: Annotated[int, Gt(0)] | None
    seconds: Annotated[float, Gt(0)] | None
    steps: Annotated[int, Ge(1)] | None
    frozen_steps: int | None = field(default=None, init=False)  # what `seconds` came to on this machine
    frozen_at: int | None = field(
        default=None, init=False
    )  # after which step; saved at once, so that no kill changes it

    def __post_init__(self) -> None:
        given = [name for name in ("tokens", "flops", "targets", "seconds", "steps") if getattr(self, name) is not None]
        if len(given) != 1:
            raise LmxError(
                f"budget must have exactly one key, got {', '.join(given) or 'none'}. Type e.g. budget.steps=1000."
            )
        self.currency: str = given[0]
        self.amount: float = getattr(self, given[0])

    @property
    def spends_steps(self) -> bool:
        return self.currency == "steps" or self.frozen_steps is not None

    def spent(self, ledger: Ledger) -> float:
        return ledger.step if self.spends_steps else getattr(ledger, self.currency)

    def price(self, ledger: Ledger, cost: Cost) -> float:
        """What the next step takes from the budget; in seconds, what a step took so far."""
        if self.spends_steps:
            return 1
        if self.currency == "seconds":
            return ledger.seconds / ledger.step if ledger.step else 0.0
        return getattr(cost, self.currency)

    @property
    def total(self) -> float:
        return self.frozen_steps or self.amount

    def progress(self, ledger: Ledger, cost: Cost | None = None) -> float:
        """In [0, 1]: before the step that `cost` prices, its middle; without one, now."""
        ahead = self.price(ledger, cost) / 2 if cost else 0
        return min(1.0, (self.spent(ledger) + ahead) / self.total)

    def share(self, ledger: Ledger, cost: Cost | None = None) -> float:
        """In [0, 1]: what is spent, with `cost` after that step too. For schedules of the data, which is made ahead of time:
        so a budget of seconds counts as unspent until it is a number of steps."""
        if self.currency == "seconds" and not self.spends_steps:
            return 0.0
        return min(1.0, (self.spent(ledger) + (self.price(ledger, cost) if cost else 0)) / self.total)

    def exhausted(self, ledger: Ledger, cost: Cost) -> bool:
        """Whether stopping now is nearer to the budget than after one step more."""
        return self.total - self.spent(ledger) < self.price(ledger, cost) / 2

    def freeze(self, ledger: Ledger) -> None:
        """Turn seconds into steps, once: from then on time no longer changes what is computed."""
        if self.currency == "seconds" and self.frozen_steps is None and ledger.step >= CALIBRATION:
            self.frozen_at = ledger.step
            self.frozen_steps = max(ledger.step, round(self.amount * ledger.step / ledger.seconds))

"""Learning-rate schedules: functions of progress = spent / budget and of nothing else.

So a run that was stopped and resumed, or cut into other steps, sees the same rates. `warmup` and `decay` are shares of the
budget; the result multiplies every peak rate.
"""

from abc import ABC, abstractmethod
from math import cos, pi
from typing import Annotated

from annotated_types import Interval

Share = Annotated[float, Interval(ge=0, le=1)]


class Schedule(ABC):
    stable_until = (
        0.0  # the share of the budget up to which the rate, once warm, stays at its peak: a run can be branched there
    )

    def __init__(self, *, warmup: Share):
        self.warmup = warmup

    def __call__(self, progress: float) -> float:
        """The factor at `progress` in [0, 1]."""
        if progress < self.warmup:
            return progress / self.warmup
        return self.after_warmup(min(progress, 1.0))

    @abstractmethod
    def after_warmup(self, progress: float) -> float: ...

    def share(self, progress: float) -> float:
        """How much of the time after warm-up has passed."""
        return (progress - self.warmup) / max(1 - self.warmup, 1e-12)


class WSD(Schedule):
    """Warm-up, stable, decay (Hu et al. 2024, arXiv:2404.06395), with a linear decay to zero (Hägele et al. 2024)."""

    RULES = {"warmup + decay <= 1": "optim.schedule.warmup + optim.schedule.decay must be at most 1"}

    def __init__(self, *, warmup: Share, decay: Share):
        super().__init__(warmup=warmup)
        self.decay = decay
        self.stable_until = 1 - decay

    def after_warmup(self, progress: float) -> float:
        return min(1.0, (1 - progress) / self.decay) if self.decay else 1.0


class Cosine(Schedule):
    """Half a cosine down to `floor` (Loshchilov and Hutter 2017, arXiv:1608.03983)."""

    def __init__(self, *, warmup: Share, floor: Share):
        super().__init__(warmup=warmup)
        self.floor = floor

    def after_warmup(self, progress: float) -> float:
        return self.floor + (1 - self.floor) * (1 + cos(pi * self.share(progress))) / 2


class Linear(Schedule):
    """Straight down to zero (BERT)."""

    def after_warmup(self, progress: float) -> float:
        return 1 - self.share(progress)


class InverseSqrt(Schedule):
    """With 1 / sqrt(progress) from the end of warm-up (Vaswani et al. 2017, T5)."""

    RULES = {"warmup > 0": "optim.schedule.warmup must be above 0 for inverse_sqrt"}

    def after_warmup(self, progress: float) -> float:
        return (self.warmup / progress) ** 0.5

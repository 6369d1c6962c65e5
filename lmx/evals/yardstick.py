"""What every yardstick has: a model to examine, rows of numbers with what it takes to read them, one file and one YAML each.

A yardstick is a class of a file in lmx/evals and a file in conf/eval/yardstick; listing that folder is the registry.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from lmx.data.corpus import Corpus
from lmx.train.learner import Learner

Report = Callable[[str, float | None], None]  # what is being done, and how far it is in [0, 1]

# May two objectives' values be compared? A: exact log-probability of the same text. B: a bound of it. C: pseudo-likelihood, which
# ranks within a pair only. D: a task's score. E: an expense, which says nothing about quality. X: an objective's own loss, never.
Comparability = Literal["A", "B", "C", "D", "E", "X"]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A trained model in evaluation mode, with all it was trained with."""

    learner: Learner
    corpus: Corpus
    device: torch.device
    length: int  # positions a sequence
    seed: int  # of its training
    untrained: Callable[[], Learner]  # the same model with the weights it began with: a floor


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number about one model. `task`, `metric` and `scorer` name it: rows of equal name are compared, across models."""

    metric: str  # accuracy, bits_per_byte, …
    task: str = ""  # a part of the yardstick; "" is all of it
    scorer: str  # how the model was asked: part of the result
    value: float
    error: float | None = None  # standard error over items
    items: int
    floor: float | None = None  # what `floor_name` has, on the same items
    floor_name: str = ""
    unit: str  # share, bits/byte, nats, …
    better: Literal["higher", "lower", "neither"]
    comparability: Comparability

    @property
    def name(self) -> str:
        return "/".join(filter(None, [self.task, self.metric, self.scorer]))


class Yardstick(ABC):
    """Subclasses have knobs. They are deterministic: the same model gives the same rows."""

    @abstractmethod
    def __call__(self, subject: Subject, report: Report) -> Sequence[Row]:
        """No rows where the model cannot be asked. Raises LmxError for files that a user named and that cannot be used."""

    def check(self) -> None:  # noqa: B027 most read no files
        """Raises LmxError for files that a user named and that cannot be read: asked before anything is trained."""

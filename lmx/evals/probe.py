"""Frozen linear probes: what can be read off a model's hidden states, at the layer that shows it best (Alain and Bengio 2016,
arXiv:1610.01644).

The layer and the strength of regularisation are chosen on a development split; the row `layer` says which layer it was. The floor
is the best of: always the most frequent class, the same probe on a bag of words, the same probe on the model before training.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
import torch
from annotated_types import Interval

from lmx.evals import classify
from lmx.evals.features import joined, means, words
from lmx.evals.labelled import Column, check, labelled
from lmx.evals.tasks import Task, embedded
from lmx.evals.yardstick import Report, Row, Subject, Yardstick
from lmx.train.learner import Learner

SCORER = "linear"
STRENGTHS = (1.0, 0.1, 0.01)  # of features that are standardised
WORD_STRENGTHS = (1e-2, 1e-3, 1e-4)  # of tf-idf, which is small


class Probe(Yardstick):
    def __init__(
        self,
        *,
        path: str | None,
        text: Column,
        pair: Column | None,
        label: Column,
        items: Annotated[int, Interval(ge=8, le=2**20)],
        tokens: Annotated[int, Interval(ge=8, le=2**20)],
    ):
        self.path, self.items, self.tokens = path, items, tokens
        self.columns: dict[str, Column | None] = {"text": text, "pair": pair, "label": label}

    def __call__(self, subject: Subject, report: Report) -> Sequence[Row]:
        report("reading tasks", None)
        if self.path is None:
            tasks = embedded(subject, self.items, self.tokens)
        else:
            tasks = labelled(subject, "probe", self.path, self.columns, self.items, self.tokens)
        untrained = subject.untrained()
        rows: list[Row] = []
        for number, task in enumerate(tasks):

            def step(phase: str, share: float | None, task: Task = task, number: int = number) -> None:
                report(f"{task.name}, {phase}", (number + (share or 0.0)) / len(tasks))

            rows += self.measure(subject, untrained, task, step)
        return rows

    def check(self) -> None:
        if self.path is not None:
            check("probe", self.path, self.columns)

    def measure(self, subject: Subject, untrained: Learner, task: Task, report: Report) -> Iterator[Row]:
        def half(first: bool) -> Report:
            return lambda phase, share: report(phase, ((share or 0.0) + (not first)) / 2)

        found, layer = probed(subject.learner, subject.device, task, half(True))
        floors = baselines(subject, task)
        floors["untrained"] = probed(untrained, subject.device, task, half(False))[0]
        yield from rows_of(task, found, SCORER, floors)
        yield Row(
            task=task.name, metric="layer", scorer=SCORER, value=layer, items=len(found), unit="layer", better="neither",
            comparability="D",
        )  # fmt: skip


def probed(learner: Learner, device: torch.device, task: Task, report: Report) -> tuple[np.ndarray, int]:
    """[N] the classes of the test split, and the layer they were read off."""
    parts = {}
    for number, (split, items) in enumerate(task.splits.items()):

        def share(phase: str, done: float | None, number: int = number) -> None:
            report(phase, 0.5 * (number + (done or 0.0)) / len(task.splits))

        parts[split] = joined(means(learner, device, items, share))
    labels = [items.labels for items in task.splits.values()]
    depth, chosen = len(parts["train"]), []
    for layer in range(depth):
        report("probing", 0.5 + 0.5 * layer / depth)
        chosen.append(classify.probe([x[layer] for x in parts.values()], labels, task.classes, STRENGTHS))
    best = max(range(depth), key=lambda layer: chosen[layer].accuracy)  # the lowest of the best
    return chosen[best].test, best


def baselines(subject: Subject, task: Task) -> dict[str, np.ndarray]:
    """name -> [N] the classes of the test split, of what needs no model"""
    train, size = task.splits["train"], subject.corpus.vocabulary.size
    bags = [joined(words(items, train, size)) for items in task.splits.values()]
    labels = [items.labels for items in task.splits.values()]
    return {
        "majority": classify.majority(train.labels, task.splits["test"].labels),
        "bag of words": classify.probe(bags, labels, task.classes, WORD_STRENGTHS, scale=False).test,
    }


def rows_of(task: Task, found: np.ndarray, scorer: str, floors: dict[str, np.ndarray]) -> Iterator[Row]:
    """Each metric of one classification of the test split, beside the highest of the floors."""
    test = task.splits["test"]
    for metric in task.metrics:
        heights = {name: classify.score(metric, floor, test.labels) for name, floor in floors.items()}
        highest = max(heights, key=lambda name: heights[name])
        yield Row(
            task=task.name,
            metric=metric,
            scorer=scorer,
            value=classify.score(metric, found, test.labels),
            error=classify.error(found, test.labels, test.group) if metric == "accuracy" else None,
            items=len(test),
            floor=heights[highest],
            floor_name=highest,
            unit="correlation" if metric == "mcc" else "share",
            better="higher",
            comparability="D",
        )

"""Fine-tuning: a copy of the whole model learns a task with a linear head on top (Devlin et al. 2019, arXiv:1810.04805).

The head reads what the objective names as a text's summary: the last position of a model that reads from left to right, the
first one where that is none of the text, else the mean of the text. Hyper-parameters are the same for all models. Training is
repeated with several seeds (of head and order): the value is their mean and the error is over them, as single runs differ by
several points (Mosbach et al. 2021, arXiv:2006.04884). The floor is the best of: the most frequent class, a bag of words, and the
model before training, fine-tuned in the same way.
"""

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Gt, Interval
from torch import Tensor, nn

from lmx.batch import IGNORE, PADDING, Batch, trimmed
from lmx.data.noise import generator, torch_seed
from lmx.evals import classify
from lmx.evals.features import POSITIONS, Items
from lmx.evals.labelled import check, labelled
from lmx.evals.probe import baselines
from lmx.evals.records import Column
from lmx.evals.scoring import batched
from lmx.evals.tasks import Task, embedded
from lmx.evals.yardstick import Report, Row, Subject, Yardstick
from lmx.objectives.objective import Summary
from lmx.train.learner import Learner

EMBEDDED = ("era", "next_passage")  # a task of single texts and one of pairs; the others are the probe's
WARMUP = 0.1  # share of the steps
DECAY = 0.01  # of weights
CLIP = 1.0  # norm of the gradient


class Finetune(Yardstick):
    def __init__(
        self,
        *,
        path: str | None,
        text: Column,
        pair: Column | None,
        label: Column,
        items: Annotated[int, Interval(ge=8, le=2**20)],
        tokens: Annotated[int, Interval(ge=8, le=2**20)],
        seeds: Annotated[int, Interval(ge=1, le=1000)],
        epochs: Annotated[int, Interval(ge=1, le=10000)],
        batch: Annotated[int, Interval(ge=1, le=2**16)],
        lr: Annotated[float, Gt(0)],
    ):
        self.path, self.items, self.tokens = path, items, tokens
        self.columns: dict[str, Column | None] = {"text": text, "pair": pair, "label": label}
        self.seeds, self.epochs, self.batch, self.lr = seeds, epochs, batch, lr

    def __call__(self, subject: Subject, report: Report) -> Sequence[Row]:
        report("reading tasks", None)
        if self.path is None:
            tasks = [task for task in embedded(subject, self.items, self.tokens) if task.name in EMBEDDED]
        else:
            tasks = labelled(subject, "finetune", self.path, self.columns, self.items, self.tokens)
            tasks = [task for task in tasks if len(task.splits["test"].texts) == len(task.splits["test"])]  # no words
        untrained = subject.untrained()
        rows: list[Row] = []
        for number, task in enumerate(tasks):

            def step(phase: str, share: float | None, task: Task = task, number: int = number) -> None:
                report(f"{task.name}, {phase}", (number + (share or 0.0)) / len(tasks))

            rows += self.measure(subject, untrained, task, step)
        return rows

    def check(self) -> None:
        if self.path is not None:
            check("finetune", self.path, self.columns)

    def measure(self, subject: Subject, untrained: Learner, task: Task, report: Report) -> Iterator[Row]:
        runs = [*[(subject.learner, seed) for seed in range(self.seeds)], (untrained, 0)]
        found = []
        for number, (learner, seed) in enumerate(runs):
            report(f"seed {seed}" if learner is subject.learner else "the model before training", number / len(runs))
            found.append(self.tuned(learner, subject.device, task, seed))
        labels = task.splits["test"].labels
        floors = baselines(subject, task) | {"untrained": found.pop()}
        for metric in task.metrics:
            values = [classify.score(metric, one, labels) for one in found]
            heights = {name: classify.score(metric, floor, labels) for name, floor in floors.items()}
            highest = max(heights, key=lambda name: heights[name])
            yield Row(
                task=task.name,
                metric=metric,
                scorer="finetuned",
                value=float(np.mean(values)),
                error=float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None,
                items=len(labels),
                floor=heights[highest],
                floor_name=highest,
                unit="correlation" if metric == "mcc" else "share",
                better="higher",
                comparability="D",
            )

    def tuned(self, learner: Learner, device: torch.device, task: Task, seed: int) -> np.ndarray:
        """[N] the classes of the test split, by a copy that has learnt the training split."""
        train, cuda = task.splits["train"], [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda), torch.enable_grad():
            torch.manual_seed(torch_seed(seed, "finetune", task.name))
            classifier = Classifier(deepcopy(learner), task.classes).to(device).train()
            order = generator(seed, f"finetune/{task.name}")
            steps = self.epochs * math.ceil(len(train) / self.batch)
            optimizer = torch.optim.AdamW(classifier.parameters(), lr=self.lr, weight_decay=DECAY)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: ramp(step, steps))
            for _ in range(self.epochs):
                for chosen in np.array_split(order.permutation(len(train)), math.ceil(len(train) / self.batch)):
                    labels = torch.from_numpy(train.labels[chosen]).to(device)
                    loss = F.cross_entropy(classifier(*posed(learner, train, chosen.tolist(), device)), labels)
                    optimizer.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(classifier.parameters(), CLIP)
                    optimizer.step()
                    schedule.step()
        return classes(classifier.eval(), task.splits["test"], device)


class Classifier(nn.Module):
    """A model and a linear head on the summary of what it reads."""

    def __init__(self, learner: Learner, number: int):
        super().__init__()
        self.learner = learner.requires_grad_()
        self.head = nn.Linear(learner.model.width, number)

    def forward(self, batch: Batch, own: Tensor) -> Tensor:
        """[B, classes]; `own` [B, L] bool, which positions are the text's"""
        hidden = self.learner.objective.layers(self.learner.model, batch)[-1]
        return self.head(summary(hidden, batch, own, self.learner.objective.summary)).float()


def summary(hidden: Tensor, batch: Batch, own: Tensor, kind: Summary) -> Tensor:
    """[B, L, D] -> [B, D]"""
    if kind == "mean":
        return (hidden * (own / own.sum(1, keepdim=True))[:, :, None]).sum(1)
    place = (batch.document != PADDING).sum(1) - 1 if kind == "last" else torch.zeros_like(batch.document[:, 0])
    return hidden[torch.arange(len(hidden), device=hidden.device), place]


def posed(learner: Learner, items: Items, chosen: Sequence[int], device: torch.device) -> tuple[Batch, Tensor]:
    """The batch of some items, and which positions are theirs."""
    cuts = items.cuts
    texts = [items.texts[items.owner[one]] for one in chosen]
    batch = trimmed(learner.objective.reading(texts, cuts and [cuts[one] for one in chosen]))
    batch = replace(batch, capacity=0).to(device)
    return batch, batch.targets != IGNORE


@torch.no_grad()
def classes(classifier: Classifier, items: Items, device: torch.device) -> np.ndarray:
    found = np.zeros(len(items), dtype=np.int64)
    order = sorted(range(len(items)), key=lambda one: len(items.texts[items.owner[one]]))
    for part in batched(order, [len(items.texts[owner]) for owner in items.owner], POSITIONS):
        found[part] = classifier(*posed(classifier.learner, items, part, device)).argmax(1).cpu().numpy()
    return found


def ramp(step: int, steps: int) -> float:
    """Up over WARMUP of the steps, then down to 0, in straight lines."""
    warm = max(1, round(WARMUP * steps))
    return min((step + 1) / warm, (steps - step) / max(1, steps - warm + 1))

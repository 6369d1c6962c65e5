"""Each cell of the matrix is the loss of one naive question at a time, about the same tokens for every model."""

from typing import Any

import numpy as np
import pytest
import torch

from lmx.batch import IGNORE
from lmx.evals.cross import Cross, wanted
from lmx.evals.texts import passages

KNOBS: dict[str, Any] = {
    "passages": 4,
    "tokens": 20,
    "prefixes": [0, 0.5],
    "masks": [0.2],
    "spans": [[0.2, 2], [0.5, 8]],
}
FOLLOWED, HIDDEN = ["causal", "prefix 50%"], ["mask 20%", "span 20%/2", "span 50%/8"]


@pytest.mark.parametrize(
    ("objective", "tasks"),
    [
        ("clm", FOLLOWED),
        ("prefix_lm", FOLLOWED),
        ("mlm", HIDDEN),
        ("mlm_uniform", HIDDEN),
        ("span", FOLLOWED + HIDDEN),
        ("ul2", FOLLOWED + HIDDEN),
        ("glm", FOLLOWED + HIDDEN),
        ("electra", []),
    ],
)
def test_tasks_that_can_be_asked(new_subject, silent, objective, tasks):
    rows = Cross(**KNOBS)(new_subject(objective), silent)
    assert [row.task for row in rows] == tasks
    assert all((row.comparability, row.better) == ("X", "neither") for row in rows)


@pytest.mark.parametrize("objective", ["clm", "mlm", "span"])
@torch.no_grad()
def test_cells_are_those_of_a_naive_loop(new_subject, silent, objective):
    subject = new_subject(objective)
    model, asks = subject.learner.model, subject.learner.objective
    cross = Cross(**KNOBS)
    texts = passages(subject, KNOBS["passages"], KNOBS["tokens"])
    tasks = (cross.followed(texts) if asks.follows else {}) | (cross.hidden(texts) if asks.hides else {})
    rows = cross(subject, silent)
    assert len(rows) == len(tasks)
    for row, questions in zip(rows, tasks.values(), strict=True):
        total, number = 0.0, 0
        for question in questions:
            if question.hidden is None:
                batch = asks.following([question.text], [question.context])
            else:
                batch = asks.hiding([question.text], [question.hidden])
            logits = asks.logits(model, asks.hidden(model, batch))[0].log_softmax(-1)
            places = (batch.targets[0] != IGNORE).nonzero()[:, 0]
            assert batch.targets[0, places].tolist() == wanted(question).tolist()
            total -= float(sum(logits[place, batch.targets[0, place]] for place in places))
            number += len(places)
        assert row.value == pytest.approx(total / number, rel=1e-6)


def test_noise_is_of_the_passage(new_subject):
    cross, texts = Cross(**KNOBS), passages(new_subject("mlm"), 4, 20)
    one, two = cross.hidden(texts), cross.hidden(texts[:2])
    for task, count in {"mask 20%": 4, "span 20%/2": 4, "span 50%/8": 10}.items():
        ours, theirs = (np.array([question.hidden for question in found[task]]) for found in (one, two))
        assert (ours[:2] == theirs).all()
        assert (ours.sum(1) == count).all()
        assert task == "span 50%/8" or (ours != ours[0]).any(), "a single span stands at the end"


def test_who_knows_nothing(ignorant, silent):
    subject = ignorant("ul2")
    for row in Cross(**KNOBS)(subject, silent):
        assert row.value == pytest.approx(np.log(subject.corpus.vocabulary.size))
        assert row.floor is not None

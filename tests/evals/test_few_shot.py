"""Problems have one answer that their text gives away; who knows nothing has chance, who knows the rule is always right."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from lmx.evals.few_shot import FewShot, judged, mapping, place, recall, same
from lmx.evals.texts import symbols

OPTIONS = {"mapping": 4, "place": 3, "same": 2, "recall": 4, "recall 2 pairs": 2}
KNOBS: dict[str, Any] = {"problems": 5, "shots": [1, 3], "pairs": [2, 6]}


@pytest.mark.parametrize("objective", ["clm", "mlm", "mlm_uniform", "prefix_lm", "ul2", "electra"])
def test_who_knows_nothing_has_chance(ignorant, silent, objective):
    rows = FewShot(**KNOBS)(ignorant(objective, length=64), silent)
    assert {row.task for row in rows} == {
        *(f"{rule} {shots} shots" for rule in ("mapping", "place", "same") for shots in (1, 3)),
        *(f"recall {pairs} pairs" for pairs in (2, 6)),
    }
    assert "bound" not in {row.scorer for row in rows}
    for row in rows:
        assert row.value == pytest.approx(row.floor), row.name
        options = OPTIONS[row.task if row.task in OPTIONS else row.task.split()[0]]
        assert row.floor == pytest.approx(math.log(options) if row.unit == "nats" else 1 / options)


def draws(new_subject, make, size):
    known = symbols(new_subject("clm"))
    return [make(np.random.default_rng(seed), known, size) for seed in range(40)]


def test_mapping(new_subject):
    """Four shots show all inputs: the one that was asked has the answer that it had."""
    for problem in draws(new_subject, mapping, 4):
        text = problem.prompt.tolist()
        shown = dict(zip(text[0:-2:4], text[2:-2:4], strict=True))
        assert len(shown) == 4
        assert shown[text[-2]] == problem.options[problem.answer]


def test_place(new_subject):
    for problem in draws(new_subject, place, 3):
        rows = problem.prompt[:18].reshape(3, 6)
        where = {row[:3].tolist().index(row[4]) for row in rows}
        assert where == {problem.answer}
        assert problem.prompt[18:21].tolist() == problem.options.tolist()
        assert len(set(problem.prompt[[3, 9, 15, 21]])) == 1


def test_same(new_subject):
    for problem in draws(new_subject, same, 4):
        rows = problem.prompt[:20].reshape(4, 5)
        for one, other, _, label, _ in rows:
            assert label == problem.options[int(one == other)]
        assert sum(row[0] == row[1] for row in rows) == 2
        assert problem.answer == int(problem.prompt[-3] == problem.prompt[-2])


def test_recall(new_subject):
    lengths = set()
    for problem in draws(new_subject, recall, 6):
        text = problem.prompt.tolist()
        pairs = dict(zip(text[:12:2], text[1:12:2], strict=True))
        assert len(pairs) == 6
        assert all(pairs[key] == value for key, value in zip(text[12:-1:2], text[13:-1:2], strict=True))
        assert pairs[text[-1]] == problem.options[problem.answer]
        assert text[-1] not in text[12:-1]
        assert len(set(problem.options)) == 4
        lengths.add(len(text))
    assert lengths == set(range(13, 25, 2))


def test_judged(new_subject):
    problems = draws(new_subject, same, 2)[:2]
    sure = [np.where(np.arange(2) == problem.answer, 1.0, 1000.0) for problem in problems]
    accuracy, nats = judged("same", "causal", problems, sure)
    assert (accuracy.value, nats.value) == (1, 0)
    accuracy, nats = judged("same", "causal", problems, [sure[0], 1001 - sure[1]])
    assert (accuracy.value, accuracy.error) == (0.5, 0.5)
    assert nats.value == pytest.approx(999 / 2)


def test_who_recalls_is_right(new_subject, silent, monkeypatch):
    """A model for which the token after the last occurrence of the one before is certain, as an induction head has it."""
    subject = new_subject("clm", length=64)
    asked = subject.learner.objective

    def induction(model, batch):
        nats = torch.zeros(batch.targets.shape)
        for row, (tokens, targets) in enumerate(zip(batch.tokens.tolist(), batch.targets.tolist(), strict=True)):
            last = max(number for number, target in enumerate(targets) if target >= 0)
            before = [number for number in range(last) if tokens[number] == tokens[last]]
            nats[row, last] = 0.0 if before and tokens[before[-1] + 1] == targets[last] else 5.0
        return nats

    monkeypatch.setattr(asked, "nats", induction)
    rows = {row.name: row for row in FewShot(**KNOBS)(subject, silent)}
    assert rows["recall 6 pairs/accuracy/causal"].value == 1
    assert rows["recall 6 pairs/answer_nats/causal"].value < 0.05


def test_what_does_not_fit_is_not_asked(new_subject, silent):
    tasks = {row.task for row in FewShot(**{**KNOBS, "pairs": [2, 12]})(new_subject("clm", length=32), silent)}
    assert "recall 2 pairs" in tasks
    assert "recall 12 pairs" not in tasks
    assert not FewShot(**KNOBS)(new_subject("clm", length=8), silent)

"""Variety counted by hand; continuations are deterministic, of text alone, and cost a forward a token."""

from typing import Any

import numpy as np
import pytest
import torch

from lmx.evals.generation import Generation, continued, distinct, repetition
from lmx.evals.texts import passages

KNOBS: dict[str, Any] = {"texts": 3, "prompt": 4, "tokens": 12}


def test_distinct_and_repetition():
    texts = np.array([[1, 2, 1, 2, 1], [1, 2, 3, 4, 5]])
    assert distinct(texts, 1) == 5 / 10
    assert distinct(texts, 2) == 5 / 8  # 12 21 23 34 45
    assert repetition(texts, 2) == pytest.approx((2 / 4 + 0) / 2)
    assert repetition(np.zeros((2, 8), dtype=int), 4) == pytest.approx(4 / 5)
    assert distinct(np.arange(20).reshape(2, 10), 3) == 1


def test_rows(new_subject, silent):
    subject = new_subject("clm")
    rows = {row.metric: row for row in Generation(**KNOBS)(subject, silent)}
    assert list(rows) == [
        "forwards_per_token", "seconds_per_token", "distinct_1", "distinct_2", "distinct_3", "repetition_4",
    ]  # fmt: skip
    assert rows["forwards_per_token"].value == 1
    assert rows["seconds_per_token"].items == 3 * 12
    text = np.stack(passages(subject, 3, 16))[:, 4:]
    assert rows["distinct_2"].floor == distinct(text, 2)
    again = {row.metric: row.value for row in Generation(**KNOBS)(subject, silent)}
    assert all(again[metric] == row.value for metric, row in rows.items() if metric != "seconds_per_token")


def test_who_does_not_write_has_no_rows(new_subject, silent):
    assert not Generation(**KNOBS)(new_subject("mlm"), silent)


def test_what_is_written(new_subject, silent, monkeypatch):
    """A model that only ever says one token, and once a special one, which nobody wants."""
    subject = new_subject("clm")
    token, special = int(subject.corpus.vocabulary.ordinary[7]), subject.corpus.vocabulary.eos

    def says(model, hidden):
        logits = torch.full((len(hidden), subject.corpus.vocabulary.size), -1e4)
        logits[:, token], logits[:, special] = 0, 100
        return logits

    monkeypatch.setattr(subject.learner.objective, "logits", says)
    written, forwards = continued(subject, np.full((2, 3), 9), 6, silent)
    assert written.tolist() == [[token] * 6] * 2
    assert forwards == 6
    rows = {row.metric: row.value for row in Generation(**KNOBS)(subject, silent)}
    assert rows["distinct_1"] == pytest.approx(1 / 36)
    assert rows["repetition_4"] == pytest.approx(8 / 9)


def test_short_models_read_less(new_subject, silent):
    rows = Generation(**KNOBS | {"tokens": 100, "prompt": 100})(new_subject("clm"), silent)
    assert rows[1].items == 3 * 12, "half of the 24 tokens is given"

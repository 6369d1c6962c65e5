"""Every token but the first is asked exactly once, after the tokens before it; and the bugs that would break this are caught."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmx.batch import IGNORE
from lmx.data.noise import Keys
from lmx.data.packing import Sample
from lmx.objectives import clm as module
from lmx.objectives.clm import CLM
from tests.conftest import trunk

documents = st.lists(st.lists(st.integers(200, 400), min_size=1, max_size=12), min_size=1, max_size=8)
END = 1


def windows(texts, length, apart):
    """The stream of documents, cut by hand: windows of length + 1, moved on by length."""
    stream = [(token, number) for number, text in enumerate(texts) for token in [*text, END]]
    for start in range(0, max(1, len(stream) - 1), length):
        part = stream[start : start + length + 1]
        segment = np.array([number for _, number in part]) if apart else np.zeros(len(part), int)
        yield (
            start,
            Sample(
                tokens=np.array([token for token, _ in part]),
                segment=segment - segment[0],
                documents=np.zeros(1, int),
            ),
        )


def check(texts, length, apart):
    objective = CLM(length=length, model=trunk(8), vocabulary=SimpleNamespace(size=448), z_loss=0.0)
    stream = [(token, number) for number, text in enumerate(texts) for token in [*text, END]]
    asked = {}
    for start, sample in windows(texts, length, apart):
        batch = objective.collate([sample], Keys(seed=0, purpose="train", sample=np.arange(1)))
        for place in range(length):
            if batch.targets[0, place] == IGNORE:
                continue
            assert start + place + 1 not in asked
            asked[start + place + 1] = int(batch.targets[0, place])
            assert int(batch.tokens[0, place]) == stream[start + place][0]
    wanted = {
        place: token
        for place, (token, number) in enumerate(stream)
        if place and (not apart or stream[place - 1][1] == number)
    }
    assert asked == wanted


@settings(max_examples=80, deadline=None)
@given(texts=documents, length=st.integers(1, 20), apart=st.booleans())
def test_each_token_is_asked_once(texts, length, apart):
    check(texts, length, apart)


def changed(change):
    """CLM.pose with its row changed."""
    pose = CLM.pose

    def wrong(self, sample):
        row = pose(self, sample)
        return row | change(row, sample, len(row["tokens"]))

    return wrong


BUGS = {
    "no shift": changed(lambda row, s, n: {"targets": row["tokens"].copy()}),
    "double shift": changed(lambda row, s, n: {"targets": np.append(row["targets"][1:], IGNORE)}),
    "last label dropped": changed(lambda row, s, n: {"targets": np.append(row["targets"][:-1], IGNORE)}),
    "label across documents": changed(lambda row, s, n: {"targets": np.append(s.tokens, IGNORE)[1 : n + 1]}),
    "ends hidden by id": changed(
        lambda row, s, n: {"targets": np.where(row["targets"] == END, IGNORE, row["targets"])}
    ),
}


@pytest.mark.parametrize("bug", sorted(BUGS))
def test_seeded_bugs_are_caught(monkeypatch, bug):
    monkeypatch.setattr(module.CLM, "pose", BUGS[bug])
    with pytest.raises(AssertionError):
        check([[205, 206, 207], [208, 209], [210]], 4, apart=True)


def test_order_and_position_make_it_causal():
    objective = CLM(length=6, model=trunk(8), vocabulary=SimpleNamespace(size=448), z_loss=0.0)
    text = Sample(tokens=np.arange(7), segment=np.array([0, 0, 0, 1, 1, 1, 1]), documents=np.zeros(2, int))
    batch = objective.collate([text], Keys(seed=0, purpose="train", sample=np.arange(1)))
    assert torch.equal(batch.order[0], torch.arange(6))
    assert batch.position[0].tolist() == [0, 1, 2, 0, 1, 2]

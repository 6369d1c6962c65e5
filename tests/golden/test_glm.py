"""GLM: the worked example of its module, span lengths, and that a blank's answer reaches nobody who is asked for it."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from lmx.batch import IGNORE
from lmx.data.noise import Keys
from lmx.errors import LmxError
from lmx.objectives import glm
from lmx.objectives.glm import GLM
from tests.conftest import texts

_ = IGNORE
KNOBS = {
    "length": 64, "rate": 0.15, "mean_span": 3.0, "modes": {"token": 1.0, "sentence": 0.0, "document": 0.0},
    "shortest_end": 0.25, "z_loss": 0.0,
}  # fmt: skip


@pytest.fixture
def make(make_model, vocabulary):
    return lambda **changes: GLM(model=make_model(), vocabulary=vocabulary, **KNOBS | changes)


def test_blocks_in_shuffled_order(make, vocabulary):
    text = vocabulary.ordinary[:6]
    row = make().pose(text, [(4, 6), (2, 3)], document=False)
    enc, mask, sop, eop = vocabulary.cls, vocabulary.mask, vocabulary.sop, vocabulary.eop
    a, b, c, d, e, f = text
    assert row["tokens"].tolist() == [enc, a, b, mask, d, mask, sop, e, f, sop, c]
    assert row["targets"].tolist() == [_] * 6 + [e, f, eop, c, eop]
    assert row["position"].tolist() == [0, 1, 2, 3, 4, 5, 5, 5, 5, 3, 3]
    assert row["block"].tolist() == [0, 0, 0, 0, 0, 0, 1, 2, 3, 1, 2]
    assert row["order"].tolist() == [0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5]


def test_a_document_s_end_has_no_end_token(make, vocabulary):
    text = vocabulary.ordinary[:6]
    row = make().pose(text, [(3, 6)], document=True)
    assert row["tokens"].tolist() == [vocabulary.cls, *text[:3], vocabulary.gmask, vocabulary.sop, *text[3:5]]
    assert row["targets"].tolist() == [_] * 5 + text[3:].tolist()


def test_lengths_of_spans_are_the_cut_poisson_s():
    rng = np.random.default_rng(0)
    lengths = np.concatenate([[end - begin for begin, end in glm.token_spans(4000, 600, 3.0, rng)] for _ in range(60)])
    assert lengths.min() >= 1
    assert lengths.mean() == pytest.approx(3.157, abs=0.06)


@pytest.mark.parametrize("length", [2, 3, 7, 30, 200])
def test_spans_leave_a_token_between_and_reach_the_rate(length):
    for seed in range(200):
        spans = glm.token_spans(length, max(1, int(0.15 * length)), 3.0, np.random.default_rng(seed))
        assert sum(end - begin for begin, end in spans) == max(1, int(0.15 * length))
        assert all(a[1] < b[0] for a, b in pairwise(spans))
        assert spans[-1][1] <= length


@pytest.mark.parametrize("mode", ["token", "sentence", "document"])
def test_the_text_can_be_put_together_again(make, vocabulary, mode):
    objective = make(modes=dict.fromkeys(glm.MODES, 0.0) | {mode: 1.0})
    full_stop = np.flatnonzero(vocabulary.ends_sentence)[0]
    for number, item in enumerate(texts(vocabulary, 30, 50)):
        item.tokens[9::10] = full_stop
        rng = np.random.default_rng(number)
        spans = objective.spans(item.tokens, mode, rng)
        order = rng.permutation(len(spans))
        row = objective.pose(item.tokens, [spans[place] for place in order], mode == "document")
        answers = row["targets"][row["targets"] != IGNORE]
        blocks = [
            part[part != vocabulary.eop] for part in np.split(answers, np.flatnonzero(answers == vocabulary.eop) + 1)
        ]
        blank = vocabulary.gmask if mode == "document" else vocabulary.mask
        size = int((row["order"] == 0).sum())
        filled = iter([blocks[place] for place in np.argsort(order)])
        shown = row["tokens"][1:size].tolist()
        text = [token for place in shown for token in (next(filled) if place == blank else [place])]
        assert text == item.tokens.tolist()


def test_nobody_sees_the_answer(make, make_model, vocabulary):
    """Another token in a block changes no prediction before it is read, in the corrupted text or in earlier blocks."""
    objective, model = make(), make_model()
    keys = Keys(seed=0, purpose="train", sample=np.arange(1))
    batch = objective.collate(texts(vocabulary, 1, 50), keys)
    place = int((batch.order[0] > 2).nonzero()[0])
    other = batch.tokens.clone()
    other[0, place] = vocabulary.ordinary[3] if other[0, place] != vocabulary.ordinary[3] else vocabulary.ordinary[4]
    with torch.no_grad():
        a, b = (objective.hidden(model, replace(batch, tokens=tokens)) for tokens in (batch.tokens, other))
    assert (a - b)[0, :place].abs().max() == 0.0
    assert (a - b)[0, place:].abs().max() > 0


def test_modes_are_complete(make):
    with pytest.raises(LmxError, match="objective.modes must give token, sentence, document a weight"):
        make(modes={"token": 1.0})

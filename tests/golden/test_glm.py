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


def test_the_place_within_a_block_is_told(make, make_model, vocabulary):
    objective, model = make(), make_model()
    batch = objective.collate(texts(vocabulary, 1, 50), Keys(seed=0, purpose="train", sample=np.arange(1)))
    inside = batch.block[0] > 0
    with torch.no_grad():
        a, b = (objective.embedded(model, replace(batch, block=block)) for block in (batch.block, batch.block * 2))
    assert inside.any()
    assert (a - b)[0, inside].abs().amax(-1).min() > 1e-4
    assert not (a - b)[0, ~inside].any()
    assert torch.equal(a[0, ~inside], model.embed(batch)[0, ~inside])
    assert float(objective.block.weight.std()) == pytest.approx(0.3 * model.width**-0.5, rel=0.1)


def test_each_row_has_a_mode_of_its_own(make, vocabulary):
    """The original draws one for a batch, so that a step's loss depends on luck."""
    objective = make(modes={"token": 1.0, "sentence": 0.0, "document": 1.0})
    batch = objective.collate(texts(vocabulary, 200, 50), Keys(seed=0, purpose="train", sample=np.arange(200)))
    ends = (batch.tokens == vocabulary.gmask).any(1)
    assert float(ends.float().mean()) == pytest.approx(0.5, abs=0.1)
    assert not (ends & (batch.tokens == vocabulary.mask).any(1)).any()


def test_blocks_come_in_any_order(make, vocabulary):
    """The blanks that they fill go up and down over the samples."""
    objective = make(rate=0.5)
    given, keys = texts(vocabulary, 40, 40), Keys(seed=0, purpose="train", sample=np.arange(40))
    batch = objective.collate(given, keys)
    assert torch.equal(batch.tokens, objective.collate(given, keys).tokens)
    steps = [np.diff(position[block == 1]) for position, block in zip(batch.position, batch.block, strict=True)]
    up, down = (sum(int((sign * step > 0).sum()) for step in steps) for sign in (1, -1))
    assert 0.35 < up / (up + down) < 0.65


def test_hidden_words_are_blanks_without_their_ends(make, vocabulary):
    """As in training, [MASK] and not [GMASK]; the [EOP] of a blank is read by nobody and not asked."""
    a, b, c, d = text = vocabulary.ordinary[:4]
    batch = make().hiding([text], [np.array([False, True, True, False])])
    assert batch.tokens.tolist() == [[vocabulary.cls, a, vocabulary.mask, d, vocabulary.sop, b, c]]
    assert batch.targets.tolist() == [[_, _, _, _, b, c, _]]


def test_ends_of_documents_have_any_length(make, vocabulary):
    """From a quarter of the text to all but one token."""
    objective, text = make(), vocabulary.ordinary[:40]
    sizes = [40 - objective.spans(text, "document", np.random.default_rng(seed))[0][0] for seed in range(2000)]
    assert (min(sizes), max(sizes)) == (10, 39)
    assert np.mean(sizes) == pytest.approx(24.5, abs=0.7)


def test_as_many_spans_as_fit():
    """Six of one token, with one between two of them, would take 11 of 8."""

    class Ones:
        def poisson(self, mean):
            return 1

        def integers(self, low, high, size):
            return np.zeros(size, dtype=int)

    assert glm.token_spans(8, 6, 1.0, Ones()) == [(0, 1), (2, 3), (4, 5), (6, 7)]


def test_lengths(make):
    """64 positions: [CLS], and two more for each of three spans."""
    assert make().raw_lengths(Keys(seed=0, purpose="train", sample=np.arange(2))).tolist() == [57, 57]

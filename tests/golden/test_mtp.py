"""Multi-token prediction: targets of two packed documents at every depth, and what each depth may know."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lmx.batch import IGNORE
from lmx.data.noise import Keys
from lmx.objectives.clm import CLM
from lmx.objectives.mtp import MTP
from tests.conftest import sample, texts

_ = IGNORE
KEYS = Keys(seed=0, purpose="train", sample=np.arange(1))
KNOBS = {"length": 7, "ahead": 3, "kind": "parallel", "weight": 1.0, "z_loss": 0.0}


@pytest.fixture
def make(make_model, vocabulary):
    def build(**changes):
        model = make_model()
        return MTP(model=model, vocabulary=vocabulary, **KNOBS | changes), model

    return build


def test_no_depth_looks_into_the_next_document(make):
    objective, _model = make()
    batch = objective.collate([sample([5, 6, 7, 8], [9, 10, 11])], KEYS)
    assert batch.tokens.tolist() == [[5, 6, 7, 8, 9, 10, 11]]
    assert batch.targets.tolist() == [[6, 7, 8, _, 10, 11, _]]
    assert objective.further(batch, 1).tolist() == [[7, 8, _, _, 11, _, _]]
    assert objective.further(batch, 2).tolist() == [[8, _, _, _, _, _, _]]
    assert {term: int(count) for term, count in objective.counts(batch).items()} == {
        "loss": 5, "depth_1": 3, "depth_2": 1,
    }  # fmt: skip


def test_a_window_has_all_depths_to_its_end(make):
    """n tokens of lookahead: the last position is asked as far as the first one, and nothing wraps around."""
    objective, _model = make(length=4)
    assert objective.lookahead == 3
    batch = objective.collate([sample([5, 6, 7, 8, 9, 10, 11])], KEYS)
    assert batch.targets.tolist() == [[6, 7, 8, 9]]
    assert objective.further(batch, 1).tolist() == [[7, 8, 9, 10]]
    assert objective.further(batch, 2).tolist() == [[8, 9, 10, 11]]


@pytest.mark.parametrize("kind", ["parallel", "linear", "sequential"])
def test_the_next_token_s_loss_is_clm_s(make, vocabulary, kind):
    objective, model = make(kind=kind, length=16)
    clm = CLM(length=16, model=model, vocabulary=vocabulary, z_loss=0.0)
    text = texts(vocabulary, 1, 19)[0]
    with torch.no_grad():
        ours = objective(model, objective.collate([text], KEYS))["loss"]
        theirs = clm(model, clm.collate([text], KEYS))["loss"]
    assert float(ours) == pytest.approx(float(theirs), rel=1e-6)


@pytest.mark.parametrize(("kind", "known"), [("parallel", 0), ("linear", 0), ("sequential", 1)])
def test_what_a_depth_knows(make, vocabulary, kind, known):
    """Depth 1 at position 5 predicts token 7. Sequential modules are told token 6, the others nothing after token 5."""
    objective, model = make(kind=kind, length=12)
    given = texts(vocabulary, 1, 15)[0]
    changed = sample([*given.tokens[:6], *np.roll(given.tokens[6:], 3)])
    later = sample([*given.tokens[:7], *np.roll(given.tokens[7:], 3)])
    with torch.no_grad():
        a, b, c = (
            objective.states(model, objective.collate([text], KEYS))[1][0, 5] for text in (given, changed, later)
        )
    assert torch.equal(a, b) == (known == 0)
    assert torch.equal(a, c)


@pytest.mark.parametrize("kind", ["parallel", "linear", "sequential"])
def test_padding_is_asked_nothing_at_any_depth(make, vocabulary, kind):
    objective, model = make(kind=kind, length=8)
    batch = objective.collate(texts(vocabulary, 2, 11), replace(KEYS, sample=np.arange(2)))
    silent = replace(batch, targets=torch.full_like(batch.targets, _))
    with torch.no_grad():
        losses = objective(model, silent)
    assert all(float(value) == 0 for value in losses.values())
    assert all(int(count) == 0 for count in objective.counts(silent).values())


def test_the_end_does_not_wrap_around(make):
    """A row of one document without lookahead: its end is not followed by its beginning."""
    objective, _model = make()
    batch = objective.collate([sample([5, 6, 7, 8, 9, 10, 11])], KEYS)
    assert batch.targets.tolist() == [[6, 7, 8, 9, 10, 11, _]]
    assert objective.further(batch, 1).tolist() == [[7, 8, 9, 10, 11, _, _]]
    assert objective.further(batch, 2).tolist() == [[8, 9, 10, 11, _, _, _]]


def test_where_no_token_is_known_none_is_read(make):
    """At the end of a document depth 2 is told of no token: not of that with id 0 either."""
    objective, model = make(kind="sequential")
    known = torch.tensor([[5, _]])
    state = torch.ones(1, 2, model.width)
    with torch.no_grad():
        before = objective.parts[0].joined(model, state, known)
        model.embedding.weight[0] += 1
        after = objective.parts[0].joined(model, state, known)
    assert torch.equal(before, after)

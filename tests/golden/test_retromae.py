"""RetroMAE: what each position of its decoder sees, is told and is asked, after the worked example of its module."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lmx.batch import IGNORE
from lmx.data.noise import Keys
from lmx.objectives.retromae import RetroMAE
from tests.conftest import sample, texts

_ = IGNORE
KEYS = Keys(seed=0, purpose="train", sample=np.arange(1))
KNOBS = {
    "length": 16, "select": "fixed_round", "rate": 0.3, "mask": 1.0, "swap": 0.0, "decoder_rate": 0.5, "z_loss": 0.0,
}  # fmt: skip


@pytest.fixture
def make(make_model, vocabulary):
    def build(**changes):
        model = make_model()
        return RetroMAE(model=model, vocabulary=vocabulary, **KNOBS | changes), model

    return build


def test_every_token_is_restored(make, vocabulary):
    objective, _model = make(length=6)
    a, b, c = vocabulary.ordinary[:3].tolist()
    batch = objective.collate([sample([a, b, c])], KEYS)
    assert batch.clean.tolist() == [[vocabulary.cls, a, b, c, vocabulary.sep, 0]]
    assert batch.restore.tolist() == [[_, a, b, c, _, _]]
    assert (batch.tokens == vocabulary.mask).sum() == 2  # round(0.3 x 5)
    assert objective.counts(batch) == {"loss": 2, "decoder": 3}


def test_who_sees_what(make, vocabulary):
    """Always the [CLS] vector, never its own token, others by luck that differs from position to position."""
    objective, _model = make(length=64, decoder_rate=0.3)
    batch = objective.collate(texts(vocabulary, 20, 40), replace(KEYS, sample=np.arange(20)))
    sees, size = batch.sees, 42
    assert sees[:, :, 0].all()
    assert not sees[:, range(1, 64), range(1, 64)].any()
    assert not sees[:, :, size:].any()
    off = sees[:, 1:size, 1:size].sum() / (20 * (size - 1) * (size - 2))
    assert float(off) == pytest.approx(0.7, abs=0.01)
    columns = sees[:, 1:size, 1:size].float().mean(1)
    assert columns.max() < 0.99
    assert not torch.equal(sees[0], sees[1])


def decoded(objective, model, batch, **changes) -> torch.Tensor:
    vector = changes.pop("vector", torch.linspace(-1, 1, model.width)[None])
    with torch.no_grad():
        return objective.decode(model, vector, replace(batch, **changes))[0]


def test_the_decoder_reads_the_clean_text(make, vocabulary):
    """Not what masking left of it; and of the text only what a position sees."""
    objective, model = make()
    batch = objective.collate(texts(vocabulary, 1, 14), KEYS)
    before = decoded(objective, model, batch)
    assert torch.equal(before, decoded(objective, model, batch, tokens=batch.clean))
    other = batch.clean.clone()
    other[0, 5] = vocabulary.ordinary[0] if other[0, 5] != vocabulary.ordinary[0] else vocabulary.ordinary[1]
    moved = (decoded(objective, model, batch, clean=other) - before).abs().amax(-1) > 0
    assert torch.equal(moved, batch.sees[0, :, 5])


def test_the_vector_is_all_that_is_known_of_the_rest(make, vocabulary):
    """Every position reads it, even where it sees no token."""
    objective, model = make(decoder_rate=1.0)
    batch = objective.collate(texts(vocabulary, 1, 14), KEYS)
    a, b = (
        decoded(objective, model, batch, vector=sign * torch.linspace(-1, 2, model.width)[None]) for sign in (1, -1)
    )
    assert (a - b).abs().amax(-1).min() > 1e-3
    first = batch.clean.clone()
    first[0, 0] = vocabulary.ordinary[0]
    assert torch.equal(decoded(objective, model, batch), decoded(objective, model, batch, clean=first))
    keys = decoded(objective, model, batch, sees=torch.zeros_like(batch.sees) | (torch.arange(16) == 1))
    assert not torch.equal(keys, decoded(objective, model, batch))


def test_the_decoder_is_told_the_position(make, vocabulary):
    """Where all see the same, only that tells them apart."""
    objective, model = make(decoder_rate=1.0)
    states = decoded(objective, model, objective.collate(texts(vocabulary, 1, 14), KEYS))
    assert torch.cdist(states, states).fill_diagonal_(1).min() > 1e-3

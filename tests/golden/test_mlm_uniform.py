"""Masked diffusion: weights that make the loss a bound, exactly so for a model that knows nothing but frequencies."""

import numpy as np
import pytest
import torch

from lmx.batch import IGNORE
from lmx.data.noise import Keys
from lmx.objectives.mlm_uniform import MLMUniform
from tests.conftest import sample, texts


@pytest.fixture
def objective(make_model, vocabulary):
    return MLMUniform(length=32, model=make_model(), vocabulary=vocabulary, z_loss=0.0)


def keys(count):
    return Keys(seed=0, purpose="train", sample=np.arange(count))


def test_every_number_of_masks_is_as_likely(objective, vocabulary):
    batch = objective.collate(texts(vocabulary, 3200, 32), keys(3200))
    masks = (batch.targets != IGNORE).sum(1)
    assert np.allclose(np.bincount(masks, minlength=33)[1:] / 3200, 1 / 32, atol=0.012)
    assert torch.allclose(batch.share * masks, torch.full((3200,), 32.0))
    assert (batch.tokens[batch.targets != IGNORE] == vocabulary.mask).all()


def test_each_token_counts_as_much_whatever_the_rate(objective, make_model, vocabulary, monkeypatch):
    """A model that gives each token one nat: the bound is one nat a token at every rate, special tokens left out."""
    given = [sample([*item.tokens[:19], vocabulary.eos, *item.tokens[20:]]) for item in texts(vocabulary, 64, 32)]
    batch = objective.collate(given, keys(64))
    monkeypatch.setattr(
        objective.score,
        "forward",
        lambda hidden, weight, targets, shares: (((targets != IGNORE) * shares).sum(), None, None),
    )
    losses, counts = objective(make_model(), batch), objective.counts(batch)
    assert float(losses["loss"]) == pytest.approx(int(counts["loss"]), rel=1e-6)
    assert int(counts["loss"]) == 64 * 31


def test_weights_reach_the_gradient(objective, make_model, vocabulary):
    """The gradient is that of the weighted sum of full cross-entropies."""
    model = make_model()
    batch = objective.collate(texts(vocabulary, 4, 32), keys(4))
    got = torch.autograd.grad(objective(model, batch)["loss"], list(model.parameters()))
    scores = objective.logits(model, model(batch)).log_softmax(-1)
    nats = -scores.gather(-1, batch.targets.clamp(min=0)[..., None])[..., 0] * (batch.targets != IGNORE)
    wanted = torch.autograd.grad((nats * batch.share[:, None]).sum(), list(model.parameters()))
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


def test_given_places(objective, vocabulary):
    objective.fix([1, 3])
    batch = objective.collate([sample([vocabulary.eos, *vocabulary.ordinary[:6]])], keys(1))
    assert (batch.targets[0] != IGNORE).nonzero()[:, 0].tolist() == [2, 4], "counted without special tokens"
    assert batch.share.tolist() == [3.0]

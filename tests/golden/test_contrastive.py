"""Contrastive pairs: worked-out losses and rows, and what is no candidate."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lmx.batch import IGNORE, PADDING, fill, visible
from lmx.data.noise import Keys
from lmx.objectives.contrastive import Contrastive, digest, pool, rows
from tests.conftest import sample, texts

KNOBS = {
    "length": 8, "views": "adjacent", "pooling": "mean", "mlp": False, "temperature": 1.0, "symmetric": False,
    "sub_batch": None, "dropout": 0.1,
}  # fmt: skip
Q, P = torch.eye(2), torch.tensor([[0.8, 0.6], [0.6, 0.8]])


@pytest.fixture
def make(make_model, vocabulary):
    """make(temperature=..., ...) -> an objective; model= changes the model it belongs to."""

    def build(model=None, **changes) -> Contrastive:
        return Contrastive(model=model or make_model(dropout=0.1), vocabulary=vocabulary, **KNOBS | changes)

    return build


def keys(count, purpose="train"):
    return Keys(seed=0, purpose=purpose, sample=np.arange(count))


def contrast(objective, q, p, text=None, real=None):
    text = torch.arange(2 * len(q)).view(-1, 2) if text is None else torch.tensor(text)
    real = torch.ones(len(q), dtype=torch.bool) if real is None else torch.tensor(real)
    return objective.contrast(torch.stack([q, p], dim=1), text, real)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(
    ("temperature", "nats"), [(1.0, 0.598139), (0.05, 0.0181499), (0.02, 4.53989e-5), (0.01, 2.0612e-9)]
)
def test_worked_out_losses(make, temperature, nats, symmetric):
    """Cosines 0.8 and 0.6, a mean over two queries. A length of 3 or 5 of a vector makes no difference."""
    found, seen = contrast(make(temperature=temperature, symmetric=symmetric), 3 * Q.double(), 5 * P.double())
    assert seen.tolist() == [2, 2]
    assert float(found) / 2 == pytest.approx(nats, rel=3e-4, abs=3e-8)  # cosines are float32


def test_directions_differ(make):
    """The second views are found for the first; symmetric takes the mean of both ways."""
    p = torch.tensor([[0.8, 0.6], [0.0, 1.0]])
    there = (np.log1p(np.exp(-0.8)) + np.log1p(np.exp(-0.4))) / 2
    back = (np.log1p(np.exp(-0.2)) + np.log1p(np.exp(-1.0))) / 2
    assert float(contrast(make(), Q, p)[0]) / 2 == pytest.approx(there, rel=1e-5)
    assert float(contrast(make(symmetric=True), Q, p)[0]) / 2 == pytest.approx((there + back) / 2, rel=1e-5)


def test_logits_are_float32_under_autocast(make):
    """In bf16, cosines of 0.28 and 0.96 over 0.05 would be 13.66 apart."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, _ = contrast(make(temperature=0.05), Q, torch.tensor([[0.28, 0.96], [0.96, 0.28]]))
    assert found.dtype == torch.float32
    assert float(found) / 2 == pytest.approx(13.6, rel=3e-4)


def test_equal_texts_are_no_negatives(make):
    """Rows 0 and 2 have one second text: left in, it would be a negative as close as the positive, log 2 each."""
    q, p = torch.eye(3), torch.eye(3)
    q[2], p[2] = q[0], p[0]
    found, seen = contrast(make(temperature=0.01), q, p, [[0, 1], [2, 3], [4, 1]])
    assert seen.tolist() == [2, 3, 2]
    assert float(contrast(make(temperature=0.01), q, p)[0]) - float(found) == pytest.approx(2 * np.log(2), rel=1e-3)


def test_the_text_of_one_side_may_stand_on_the_other(make):
    _, seen = contrast(make(), torch.eye(3), torch.eye(3), [[0, 1], [1, 2], [3, 4]])
    assert seen.tolist() == [2, 2, 3]


def test_filler_rows_are_neither_queries_nor_candidates(make, make_model, vocabulary):
    model = make_model()
    objective, given = make(length=32, temperature=0.05), texts(vocabulary, 3, 28)
    batch = objective.collate(given, keys(3))
    longer = fill(batch, 5)
    assert (longer.document[3:] == PADDING).all()
    assert int(objective.counts(longer)["loss"]) == int(batch.num_targets) == 3
    with torch.no_grad():
        a, b = objective(model, batch), objective(model, longer)
    assert all(float(a[term]) == pytest.approx(float(b[term]), rel=1e-6) for term in a)
    assert float(a["chance"]) == pytest.approx(3 * np.log(3))
    asked = replace(longer, document=longer.document.clamp(min=0))  # a wrong filler would be asked
    assert int(asked.num_targets) == 5


def test_two_passages_of_one_text(make, vocabulary):
    cls, sep = vocabulary.cls, vocabulary.sep
    word = next(token for token in vocabulary.ordinary if vocabulary.starts_word[token])
    a, b, c = [token for token in vocabulary.ordinary if not vocabulary.starts_word[token]][:3]
    batch = make(length=10).collate([sample([a, b, c, word]), sample([a, b, vocabulary.eos, c])], keys(2))
    assert batch.tokens[0, :8].tolist() == [cls, a, b, c, sep, cls, word, sep]  # not cut inside of the word
    assert batch.document[0].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, PADDING, PADDING]
    assert batch.position[0, :8].tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert batch.tokens[1, :6].tolist() == [cls, a, sep, cls, b, sep]  # of the longest document
    assert (batch.targets == IGNORE).all()
    seen = visible(batch)[0, 0]
    assert not seen[:5, 5:].any()
    assert not seen[5:, :5].any()
    assert batch.text[0].tolist() == [digest(np.array([a, b, c])), digest(np.array([word]))]


def test_dropout_reads_a_row_twice(make, vocabulary):
    a, b = vocabulary.ordinary[:2]
    objective = make(views="dropout")
    batch = objective.collate([sample([a, b])], keys(1))
    assert batch.tokens[0, :4].tolist() == [vocabulary.cls, a, b, vocabulary.sep]
    assert batch.text[0, 0] == batch.text[0, 1]
    assert (batch.num_positions, batch.pairs("self")) == (16, 2 * 16)


def test_dropout_masks_of_the_two_views_differ(make, make_model, vocabulary):
    model = make_model(dropout=0.1)
    objective = make(model=model, views="dropout", length=32)
    batch = objective.collate(texts(vocabulary, 4, 30), keys(4))
    with torch.no_grad():
        training = objective.embed(model, batch)
        model.eval(), objective.eval()
        still = objective.embed(model, batch)
    assert ((training[:, 0] - training[:, 1]).abs().amax(1) > 1e-3).all()
    assert (still[:, 0] - still[:, 1]).abs().max() < 1e-6


def test_views_by_dropout_give_the_trunk_one(make, make_model):
    given, none = make_model(dropout=0.3), make_model(dropout=0.0)
    make(model=given, views="dropout"), make(model=none, views="dropout")
    assert (given.dropout, none.dropout) == (0.3, 0.1)
    assert {block.dropout for block in none.blocks} == {0.1}
    make(model=(still := make_model(dropout=0.0)), views="adjacent")
    assert still.dropout == 0.0


def test_pooling():
    hidden = torch.arange(12.0).view(2, 6, 1)
    inside = torch.tensor([[0, 0, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]], dtype=torch.bool)
    assert pool(hidden, inside, "cls").flatten().tolist() == [2, 6]
    assert pool(hidden, inside, "last").flatten().tolist() == [4, 7]
    assert pool(hidden, inside, "mean").flatten().tolist() == [3, 6.5]
    assert pool(hidden, ~inside & inside, "mean").flatten().tolist() == [0, 0]


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
@pytest.mark.parametrize("views", ["adjacent", "dropout"])
def test_padding_is_not_pooled(make, make_model, vocabulary, views, pooling):
    """A longer row of padding, with whatever token on it, changes nothing."""
    model, given = make_model(dropout=0.1).eval(), texts(vocabulary, 3, 12)
    short, long = (make(model=model, views=views, pooling=pooling, length=length).eval() for length in (16, 32))
    a, b = (each.collate(given, keys(3)) for each in (short, long))
    b = replace(b, tokens=torch.where(b.document == PADDING, int(vocabulary.ordinary[0]), b.tokens))
    with torch.no_grad():
        x, y = short.embed(model, a), long.embed(model, b)
    assert (x - y).abs().max() < 1e-5


def test_the_head_is_for_training(make, make_model, vocabulary):
    model = make_model()
    objective = make(model=model, mlp=True, length=16)
    batch = objective.collate(texts(vocabulary, 2, 12), keys(2))
    with torch.no_grad():
        training = objective.embed(model, batch)
        still = objective.eval().embed(model, batch)
    assert torch.equal(training, objective.mlp(still))


def test_rows_of_a_batch(make, vocabulary):
    batch = make(length=16).collate(texts(vocabulary, 3, 12), keys(3))
    part = rows(batch, torch.tensor([2, 0]))
    assert torch.equal(part.tokens, batch.tokens[[2, 0]])
    assert torch.equal(part.text, batch.text[[2, 0]])


@pytest.mark.parametrize("sub_batch", [1, 2, 3])
def test_parts_have_the_gradient_of_the_whole(make, make_model, vocabulary, sub_batch):
    """Read in parts, each again under the dropout that it had: a part's vectors are candidates of all others."""
    given = texts(vocabulary, 4, 12)
    found = []
    for size in (sub_batch, None):
        model = make_model(dropout=0.5)
        objective = make(model=model, views="dropout", length=16, sub_batch=size, temperature=0.1)
        batch = objective.collate(given, keys(4))
        torch.manual_seed(7)
        if size is None:  # the same masks: the parts' vectors, not recomputed
            parts = [objective.embed(model, rows(batch, slice(at, at + sub_batch))) for at in range(0, 4, sub_batch)]
            objective.embed = lambda model, batch, parts=parts: torch.cat(parts)
        loss = objective(model, batch)["loss"]
        found.append((loss, torch.autograd.grad(loss, list(model.parameters()))))
    (a, slopes), (b, wanted) = found
    assert a.item() == pytest.approx(b.item(), rel=1e-6)
    for one, other in zip(slopes, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)

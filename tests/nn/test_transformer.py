"""Causality and isolation of packed documents are exact: what may not be seen changes nothing, to the last bit."""

import numpy as np
import pytest
import torch

from lmx.nn import block, transformer
from lmx.objectives.objective import stack

L = 24


def row(tokens, *, order=None, document=None):
    order = np.arange(L) if order is None else order
    document = np.zeros(L, int) if document is None else document
    return {"tokens": tokens, "targets": np.full(L, -100), "order": order, "document": document}


def random(seed, vocabulary):
    return np.random.default_rng(seed).choice(vocabulary.ordinary, size=L)


def hidden(model, tokens, precision=torch.float32, **kinds):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        return model(stack([row(t, **kinds) for t in tokens], L))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backend", ["explicit", "sdpa"])
def test_the_future_changes_nothing(make_model, vocabulary, precision, backend):
    model, a, b = make_model(attention=backend), random(0, vocabulary), random(1, vocabulary)
    for t in (1, 7, L - 1):
        changed = np.concatenate([a[:t], b[t:]])
        before, after = hidden(model, [a, b], precision), hidden(model, [changed, b], precision)
        assert (before[0, :t] - after[0, :t]).abs().max() == 0.0
        assert (before[1] - after[1]).abs().max() == 0.0  # nor another row
        assert (before[0, t:] - after[0, t:]).abs().max() > 0


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("causal", [True, False])
def test_a_packed_neighbour_changes_nothing(make_model, vocabulary, precision, causal):
    model, a, b = make_model(), random(0, vocabulary), random(1, vocabulary)
    document = (np.arange(L) >= 10).astype(int)
    kinds = {"document": document, "order": np.arange(L) if causal else np.zeros(L, int)}
    changed = np.concatenate([b[:10], a[10:]])
    before, after = hidden(model, [a], precision, **kinds), hidden(model, [changed], precision, **kinds)
    assert (before[0, 10:] - after[0, 10:]).abs().max() == 0.0
    assert (before[0, :10] - after[0, :10]).abs().max() > 0


def test_a_packed_document_is_what_it_is_alone(make_model, vocabulary):
    model, a = make_model().double(), random(0, vocabulary)
    document = (np.arange(L) >= 10).astype(int)
    packed = hidden(model, [a], document=document)[0, 10:]
    alone = np.concatenate([a[10:], a[:10]])
    document = (np.arange(L) >= L - 10).astype(int)
    torch.testing.assert_close(packed, hidden(model, [alone], document=document)[0, : L - 10], rtol=0, atol=1e-6)


def test_every_position_sees_a_later_one_when_bidirectional(make_model, vocabulary):
    model, a, b = make_model(), random(0, vocabulary), random(1, vocabulary)
    changed = np.append(a[:-1], b[-1])
    zeros = np.zeros(L, int)
    difference = hidden(model, [a], order=zeros) - hidden(model, [changed], order=zeros)
    assert (difference[0].abs().amax(-1) > 0).all()


def leak_one(batch, **kinds):
    """A mask that shows one position too many: the seeded bug."""
    document, order = batch.document, batch.order
    same = document[:, :, None] == document[:, None, :]
    return (same & (order[:, None, :] <= order[:, :, None] + 1))[:, None]


def test_a_mask_off_by_one_is_caught(make_model, vocabulary, monkeypatch):
    monkeypatch.setattr(transformer, "view", lambda batch, *_, **__: transformer.View("sdpa", "mixed", leak_one(batch)))
    with pytest.raises(AssertionError):
        test_the_future_changes_nothing(make_model, vocabulary, torch.float32, "sdpa")


def test_a_mask_that_forgets_documents_is_caught(make_model, vocabulary, monkeypatch):
    def forget(batch, *_, **__):
        return transformer.View("sdpa", "full" if batch.order.max() == 0 else "causal")

    monkeypatch.setattr(transformer, "view", forget)
    with pytest.raises(AssertionError):
        test_a_packed_neighbour_changes_nothing(make_model, vocabulary, torch.float32, True)


def test_rotary_scores_depend_on_distance_alone():
    torch.manual_seed(0)
    q, k = torch.randn(1, 1, 1, 16).double(), torch.randn(1, 1, 1, 16).double()
    frequency = 1e4 ** -(torch.arange(8).double() / 8)

    def score(m, n):
        a, b = (
            block.rotate(x, *(f(torch.tensor(p) * frequency) for f in (torch.cos, torch.sin)))
            for x, p in ((q, m), (k, n))
        )
        return float((a * b).sum())

    assert score(3, 1) == pytest.approx(score(10, 8), rel=1e-5)
    assert score(3, 1) != pytest.approx(score(3, 2), rel=1e-3)

"""The chunked loss equals PyTorch's cross-entropy on the full logits, values and gradients, and holds only chunks."""

import pytest
import torch
import torch.nn.functional as F

from lmx.batch import IGNORE
from lmx.nn import cross_entropy
from lmx.nn.cross_entropy import VocabularyLoss

N, D, V = 150, 12, 50


def inputs():
    torch.manual_seed(0)
    targets = torch.randint(V, (N,))
    targets[::4] = IGNORE
    return torch.randn(N, D).requires_grad_(), torch.randn(V, D).requires_grad_(), targets


def reference(hidden, weight, targets):
    logits = hidden @ weight.T
    z = logits.logsumexp(1).square()[targets != IGNORE].sum()
    return F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum"), z


@pytest.mark.parametrize("z_weight", [0.0, 0.3])
@pytest.mark.parametrize("chunk", [1, V * 64, V * 1000])
def test_equal_to_the_full_logits(monkeypatch, z_weight, chunk):
    monkeypatch.setattr(cross_entropy, "CHUNK", chunk)
    hidden, weight, targets = inputs()
    nats, z, rows = VocabularyLoss(z_weight)(hidden, weight, targets)
    wanted, wanted_z = reference(hidden, weight, targets)
    assert float(nats) == pytest.approx(float(wanted), rel=1e-6)
    assert float(z) == pytest.approx(float(wanted_z), rel=1e-6)
    assert not z.requires_grad
    got = torch.autograd.grad(0.7 * nats, (hidden, weight))
    for a, b in zip(got, torch.autograd.grad(0.7 * (wanted + z_weight * wanted_z), (hidden, weight)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_bf16_is_close_and_the_weight_keeps_a_float32_gradient():
    hidden, weight, targets = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        nats, *_ = VocabularyLoss(0.0)(hidden, weight, targets)
    nats.backward()
    wanted, _ = reference(hidden, weight, targets)
    by_hidden, by_weight = torch.autograd.grad(wanted, (hidden, weight))
    assert float(nats) == pytest.approx(float(wanted), rel=5e-3)
    assert weight.grad.dtype == torch.float32
    assert float((weight.grad - by_weight).norm() / by_weight.norm()) < 0.02
    assert float((hidden.grad - by_hidden).norm() / by_hidden.norm()) < 0.02


def test_nothing_asked_is_nothing_lost():
    hidden, weight, _ = inputs()
    nats, *_ = VocabularyLoss(0.0)(hidden[:0], weight, torch.zeros(0, dtype=torch.long))
    nats.backward()
    assert float(nats) == 0
    assert not weight.grad.any()

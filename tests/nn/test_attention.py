"""Every backend equals the dense reference, for every pattern; and what may not be seen changes nothing, exactly."""

import numpy as np
import pytest
import torch

from lmx.batch import visible, visible_pairs
from lmx.nn.attention import View, attend, block_mask, view
from lmx.objectives.objective import stack

L = 16


def batch(kind: str):
    order = {
        "causal": np.arange(L),
        "full": np.zeros(L),
        "prefix": np.maximum(np.arange(L) - 5, 0),
        "packed": np.arange(L),
        "permuted": np.random.default_rng(0).permutation(L),
        "padded": np.arange(L - 3),
    }[kind].astype(int)
    document = (np.arange(len(order)) >= 7).astype(int) if kind == "packed" else np.zeros(len(order), int)
    row = {"tokens": order * 0 + 5, "targets": order * 0 - 100, "order": order, "document": document}
    return stack([row, row], L)


KINDS = ["causal", "full", "prefix", "packed", "permuted", "padded"]


def reference(q, k, v, mask):
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    scores = torch.einsum("bhqc,bhkc->bhqk", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("bhqk,bhkc->bhqc", scores.masked_fill(~mask, -torch.inf).softmax(-1), v)


def heads(groups=2):
    torch.manual_seed(1)
    return torch.randn(2, 4, L, 8), torch.randn(2, groups, L, 8), torch.randn(2, groups, L, 8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["explicit", "sdpa"])
def test_backends_equal_the_dense_reference(kind, backend):
    q, k, v = (x.double().requires_grad_() for x in heads())
    item = batch(kind)
    out = attend(q, k, v, view(item, backend))
    want = reference(q, k, v, visible(item))
    torch.testing.assert_close(out, want, rtol=0, atol=1e-6 if backend == "explicit" else 1e-12)
    weights = torch.randn_like(out)
    got = torch.autograd.grad((out * weights).sum(), (q, k, v))
    expected = torch.autograd.grad((want * weights).sum(), (q, k, v))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 if backend == "explicit" else 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_flex_forward_equals_the_dense_reference(kind):
    q, k, v = heads()
    item = batch(kind)
    out = attend(q, k, v, View("flex", "mixed", blocks=block_mask(item)))
    torch.testing.assert_close(out, reference(q, k, v, visible(item)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_those_of_the_mask(kind):
    item = batch(kind)
    real = item.document >= 0
    mask = visible(item)[:, 0] & real[:, :, None] & real[:, None, :]
    assert visible_pairs(item) == int(mask.sum())


def test_patterns_are_recognised():
    found = {kind: batch(kind).pattern for kind in KINDS}
    assert found == {
        "causal": "causal", "full": "full", "prefix": "mixed", "packed": "mixed", "permuted": "mixed", "padded": "mixed",
    }  # fmt: skip


def test_strict_hides_the_position_itself():
    mask = visible(batch("permuted"), strict=True)[0, 0]
    order = batch("permuted").order[0]
    for q in range(L):
        seen = set(torch.nonzero(mask[q]).flatten().tolist())
        before = {k for k in range(L) if order[k] < order[q]}
        assert seen == (before or {q})  # the first sees itself, so that its softmax is defined

"""Reading on with keys and values kept is reading all at once: a batch of prompts, in pieces, and again after a cut."""

import pytest
import torch

from lmx.build import build
from lmx.config import load
from lmx.nn.cache import Cache
from lmx.nn.transformer import Transformer
from lmx.objectives.objective import stack

ORDERS = {"causal": torch.arange(12), "prefix": (torch.arange(12) - 4).clamp(min=0)}


def batch(tokens: torch.Tensor, order: torch.Tensor):
    rows = [{"tokens": row.numpy(), "targets": row.numpy(), "order": order.numpy()} for row in tokens]
    return stack(rows, tokens.shape[1])


def read(cache: Cache, model: Transformer, whole, begin: int, end: int) -> torch.Tensor:
    x = model.embed(whole)[:, begin:end]
    return cache.read(x, model.rotation(whole.position[:, begin:end]), whole.order[:, begin:end])


@pytest.mark.parametrize("order", ORDERS)
@torch.no_grad()
def test_in_pieces(order):
    """3 prompts of 6 tokens, then one token, three and two; single precision."""
    torch.manual_seed(0)
    model = build(load(["model=nano"])["model"], vocabulary_size=50).eval()
    whole = batch(torch.randint(50, (3, 12)), ORDERS[order])
    cache = Cache(list(model.blocks), model.norm)
    pieces = [read(cache, model, whole, begin, end) for begin, end in ((0, 6), (6, 7), (7, 10), (10, 12))]
    torch.testing.assert_close(torch.cat(pieces, dim=1), model(whole), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_after_a_cut():
    torch.manual_seed(0)
    model = build(load(["model=nano"])["model"], vocabulary_size=50).eval()
    right, wrong = (batch(torch.randint(50, (2, 12)), ORDERS["causal"]) for _ in range(2))
    cache = Cache(list(model.blocks), model.norm)
    read(cache, model, right, 0, 5)
    read(cache, model, wrong, 5, 9)
    cache.cut(5)
    torch.testing.assert_close(read(cache, model, right, 5, 12), model(right)[:, 5:], atol=1e-5, rtol=1e-5)

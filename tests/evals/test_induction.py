"""Attention recomputed is attention computed; planted heads have the scores they were planted for."""

import numpy as np
import pytest
import torch

from lmx.batch import visible
from lmx.evals.attention import Attention, watched
from lmx.evals.induction import Induction, copied, left_to_right, on_diagonal, views
from lmx.nn.block import Block
from lmx.objectives.objective import plain

KNOBS = {"texts": 3, "tokens": 5, "copies": 3, "every_head": True}
PERIOD, COPIES = 5, 3


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("attention", ["explicit", "sdpa"])
@torch.no_grad()
def test_weights_are_those_of_the_forward(make_model, attention, causal):
    """What heads write, added up by their weights, is what the block adds to its input; with padding and grouped queries."""
    model = make_model(attention=attention, depth=2).double().eval()
    batch = plain([np.arange(200, 212), np.arange(220, 229)], [200], causal=causal)
    added = []
    for block in model.blocks:
        block.attention_out.register_forward_hook(lambda _, given, out: added.append(out))
    with watched(model, batch) as found:
        model(batch)
    assert len(found) == len(added) == 2
    for layer, expected in zip(found, added, strict=True):
        assert torch.allclose(layer.weights.sum(-1), torch.ones(1).double())
        assert not layer.weights[~visible(batch).expand_as(layer.weights)].any()
        real = batch.document >= 0
        assert torch.allclose((layer.weights @ layer.written()).sum(1)[real], expected[real], atol=1e-6)
    model(batch)
    assert len(found) == 2, "nothing is watched any more"


def attending(after: int, causal: bool) -> torch.Tensor:
    """[n, n] a head that looks at what is `after` places behind all other copies of a token, else at the first one."""
    size = PERIOD * COPIES
    weights = torch.zeros(size, size)
    for query in range(size):
        others = [query + k * PERIOD + after for k in range(-COPIES, COPIES + 1) if k]
        keys = [key for key in others if 0 <= key < size and (key <= query or not causal)]
        weights[query, keys or [0]] = 1 / max(len(keys), 1)
    return weights


@pytest.mark.parametrize("causal", [True, False])
def test_a_planted_induction_head(causal):
    assert on_diagonal(attending(1, causal), PERIOD, 1) == pytest.approx(1)
    assert on_diagonal(attending(0, causal), PERIOD, 0) == pytest.approx(1)
    assert on_diagonal(attending(0, causal), PERIOD, 1) == 0
    assert on_diagonal(attending(1, causal), PERIOD, 0) <= 0.1, "the first token is looked at for want of others"


def test_uniform_attention():
    size = PERIOD * COPIES
    assert on_diagonal(torch.full((size, size), 1 / size), PERIOD, 0) == pytest.approx((COPIES - 1) / size)
    causal = torch.ones(size, size).tril()
    expected = np.mean([(query // PERIOD) / (query + 1) for query in range(PERIOD, size)])
    assert on_diagonal(causal / causal.sum(-1, keepdim=True), PERIOD, 0) == pytest.approx(expected)


def test_a_planted_copier():
    """Heads that write what they read, the opposite, and nothing, through an unembedding of orthogonal rows."""
    block = Block(width=8, heads=2, kv_heads=2, mlp=8, dropout=0.0)
    block.attention_out.weight.data = torch.eye(8)
    values = torch.zeros(1, 2, 4, 4)
    values[0, 0] = torch.eye(4)
    values[0, 1] = -torch.eye(4)
    weights = torch.full((1, 2, 4, 4), 1 / 4)
    rows = torch.cat([torch.eye(4), torch.eye(4)], dim=1)[None]
    with torch.no_grad():
        assert copied(Attention(block, weights, values), rows).tolist() == [[1, -1]]
        assert copied(Attention(block, weights, 0 * values), rows).tolist() == [[-1, -1]]
        values[0, 0] = torch.eye(4) + 1
        assert copied(Attention(block, weights, values), rows)[0, 0] == 1, "what raises all logits alike copies nothing"
        values[0, 0] = torch.tensor([1.0, 0, 0, 0])  # whatever is read, the first token is written
        assert copied(Attention(block, weights, values), rows)[0, 0] == 0, "right for one token in four"


@pytest.mark.parametrize(
    ("objective", "more", "expected"),
    [
        ("clm", (), ["causal"]),
        ("mlm", (), ["both_sides"]),
        ("ul2", (), ["both_sides", "causal"]),
        ("prefix_lm", ("objective.layout=encoder_decoder",), ["both_sides"]),
        ("glm", (), ["both_sides"]),  # by default no document is continued
        ("xlnet", (), ["both_sides", "causal"]),
        ("electra", (), ["both_sides"]),
    ],
)
def test_every_head_has_rows(new_subject, silent, objective, more, expected):
    subject = new_subject(objective, *more)
    assert views(subject.learner) == expected
    rows = Induction(**KNOBS)(subject, silent)
    metrics = {row.metric for row in rows}
    predicts = objective != "electra" and not more
    assert metrics == {"prefix_matching", "same_phase"} | ({"copying"} if predicts else set())
    depth, heads = 2, 2
    assert len(rows) == len(expected) * len(metrics) * (1 + depth * heads)
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        parts = [one.value for one in rows if (one.metric, one.scorer) == (row.metric, row.scorer) and one.task]
        assert row.task or row.value == pytest.approx(max(parts))
        assert row.task or row.value == pytest.approx(row.floor), "the untrained model is this one"


def test_uniform_heads_have_their_floor(ignorant, silent):
    for objective in ("clm", "mlm"):
        rows = Induction(**KNOBS)(ignorant(objective), silent)
        for row in rows:
            if row.metric != "copying" and row.task:
                assert row.value == pytest.approx(row.floor, rel=1e-5)


def test_left_to_right():
    batch = left_to_right(plain([np.arange(200, 204)], [3]))
    assert batch.order.tolist() == [[0, 1, 2, 3, 4]]
    assert visible(batch)[0, 0].tolist() == torch.ones(5, 5).tril().bool().tolist()

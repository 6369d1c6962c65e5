"""ELECTRA: its worked example, exact sampling, and who gets whose gradient."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from lmx.batch import IGNORE
from lmx.data.noise import Keys
from lmx.objectives import electra
from lmx.objectives.electra import ELECTRA, SampledBatch
from lmx.objectives.objective import stack
from tests.conftest import texts

_ = IGNORE
KNOBS = {
    "length": 32, "select": "fixed_round", "rate": 0.15, "mask": 0.85, "max_targets": None, "wrap": True, "task": "detect",
    "weight": 50.0, "generator_width": 0.5, "generator_depth": 1.0, "temperature": 1.0, "sharing": "tied",
    "score_special": True, "z_loss": 0.0,
}  # fmt: skip


@pytest.fixture
def make(make_model, vocabulary):
    def build(**changes):
        model = make_model()
        return ELECTRA(model=model, vocabulary=vocabulary, **KNOBS | changes), model

    return build


def example(vocabulary) -> tuple[SampledBatch, list[int]]:
    """2 11 12 13 14 15 3 and padding, with positions 1, 3 and 4 asked and 4 shown as it is."""
    a, b, c, d, e = vocabulary.ordinary[:5].tolist()
    text = [vocabulary.cls, a, b, c, d, e, vocabulary.sep]
    shown = [vocabulary.cls, vocabulary.mask, b, vocabulary.mask, d, e, vocabulary.sep]
    row = {"tokens": np.array(shown), "targets": np.array([_, a, _, c, d, _, _]), "order": np.zeros(7, dtype=int)}
    return stack([row], 8, SampledBatch, luck=torch.zeros(1, 8)), text


def test_what_the_trunk_reads_and_is_asked(make, vocabulary):
    objective, _model = make()
    batch, text = example(vocabulary)
    x, y = vocabulary.ordinary[70:72].tolist()
    samples = torch.tensor([text[1], x, y] + [vocabulary.pad] * (batch.capacity - 3))
    original, shown = objective.replaced(batch, samples)
    assert original[0, :7].tolist() == text
    assert shown[0, :7].tolist() == [text[0], text[1], text[2], x, y, *text[5:]]
    assert (original != shown)[0].int().tolist() == [0, 0, 0, 1, 1, 0, 0, 0]
    assert int(objective.counts(batch)["loss"]) == 3
    assert int(objective.counts(batch)["trunk"]) == 7


def test_an_undecided_judge_costs_ln_2(make, vocabulary):
    objective, model = make()
    torch.nn.init.zeros_(objective.judge.score.weight)
    torch.nn.init.zeros_(objective.judge.score.bias)
    batch, _text = example(vocabulary)
    losses, counts = objective(model, batch), objective.counts(batch)
    mean = float(losses["trunk"]) / int(counts["trunk"])
    assert mean == pytest.approx(math.log(2), abs=1e-6)
    assert objective.weights["trunk"] * mean == pytest.approx(34.657, abs=1e-3)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_samples_follow_the_generator(temperature):
    torch.manual_seed(0)
    hidden, table = torch.randn(1, 8), torch.randn(11, 8)
    luck = torch.rand(40_000, dtype=torch.float64)
    got = electra.sample(hidden.expand(len(luck), -1), table, luck, temperature)
    wanted = ((hidden @ table.T) / temperature).softmax(-1)[0]
    assert torch.allclose(got.bincount(minlength=11) / len(luck), wanted, atol=0.01)


def test_a_step_does_not_depend_on_how_it_is_cut(make, vocabulary):
    """The luck of a sample is drawn with it: rows one by one are replaced as all together."""
    objective, model = make()
    keys = Keys(seed=0, purpose="train", sample=np.arange(4))
    given = texts(vocabulary, 4, 30)
    with torch.no_grad():
        whole = objective(model, objective.collate(given, keys))
        parts = [
            objective(model, objective.collate(given[row : row + 1], replace(keys, sample=keys.sample[row : row + 1])))
            for row in range(4)
        ]
    assert float(whole["replaced"]) == sum(float(part["replaced"]) for part in parts)


def gradients(objective, model, batch, term):
    for parameter in [*model.parameters(), *objective.parameters()]:
        parameter.grad = None
    objective(model, batch)[term].backward()
    table = objective.table.weight.grad if objective.table is not None else None
    return {
        "trunk": any(p.grad is not None and p.grad.any() for p in model.blocks.parameters()),
        "generator": any(p.grad is not None and p.grad.any() for p in objective.generator.parameters()),
        "embedding": model.embedding.weight.grad is not None and bool(model.embedding.weight.grad.any()),
        "table": table is not None and bool(table.any()),
    }


@pytest.mark.parametrize(
    ("sharing", "by_generator", "by_trunk"),
    [
        ("tied", {"generator", "embedding"}, {"trunk", "embedding"}),
        ("gdes", {"generator", "embedding"}, {"trunk", "table"}),
        ("none", {"generator", "table"}, {"trunk", "embedding"}),
    ],
)
def test_who_learns_from_which_loss(make, vocabulary, sharing, by_generator, by_trunk):
    """No gradient from the trunk's loss reaches the generator; with gdes, none reaches the shared table either."""
    objective, model = make(sharing=sharing)
    batch = objective.collate(texts(vocabulary, 4, 30), Keys(seed=0, purpose="train", sample=np.arange(4)))
    for term, wanted in (("loss", by_generator), ("trunk", by_trunk)):
        got = gradients(objective, model, batch, term)
        assert {name for name, learns in got.items() if learns} == wanted


def test_gdes_begins_with_the_generator_s_table(make, vocabulary):
    objective, _model = make(sharing="gdes")
    assert not objective.table.weight.any()


@pytest.mark.parametrize(("select", "mean"), [("fixed_round", 19.0), ("with_replacement", 17.7)])
def test_how_many_are_masked(make, vocabulary, select, mean):
    """19 of 128; drawn with replacement, as the original does, some twice (it then shows the rounded mean of two samples)."""
    objective, _model = make(length=128, select=select, max_targets=19)
    batch = objective.collate(texts(vocabulary, 400, 126), Keys(seed=0, purpose="train", sample=np.arange(400)))
    assert int(batch.num_targets) / 400 == pytest.approx(mean, abs=0.15)
    shown = (batch.tokens == vocabulary.mask).sum() / batch.num_targets
    assert float(shown) == pytest.approx(0.85, abs=0.02)


@pytest.mark.parametrize("task", ["replace_mlm", "all_tokens_mlm", "detect_asked", "detect"])
def test_stepping_stones(make, vocabulary, task):
    objective, model = make(task=task)
    batch = objective.collate(texts(vocabulary, 4, 30), Keys(seed=0, purpose="train", sample=np.arange(4)))
    losses, counts = objective(model, batch), objective.counts(batch)
    asked = int(batch.num_targets)
    assert int(counts["trunk"]) == (asked if task in ("replace_mlm", "detect_asked") else 4 * 32)
    assert torch.isfinite(losses["trunk"])
    assert 0 <= float(losses["replaced"]) <= asked


def test_the_copy_gate_is_a_distribution(make, vocabulary):
    """All-Tokens MLM gives every token a probability: over all texts that differ at one place they add up to 1."""
    objective, model = make(task="all_tokens_mlm")
    batch, text = example(vocabulary)
    shown = replace(batch, tokens=torch.tensor([[*text, 0]]))
    place = torch.arange(8) == 3
    only = torch.where(place, batch.document, -1)  # who sees whom is not asked here, so keep it for the scoring alone
    objective.scored = lambda batch: only != -1
    with torch.no_grad():
        nats = []
        for token in range(vocabulary.size):
            clean = torch.where(place, token, shown.tokens)
            nats.append(objective.judged(model, shown, clean, clean != shown.tokens))
    assert float(torch.stack(nats).neg().exp().sum()) == pytest.approx(1, abs=1e-5)

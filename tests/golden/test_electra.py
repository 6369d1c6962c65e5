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


def test_rare_samples_add_up():
    """With 4096 tokens alike, each is drawn by its own share of the luck: in bf16 a sum of shares ends long before 1."""
    luck = (torch.arange(4096, dtype=torch.float64) + 0.5) / 4096
    got = electra.sample(torch.zeros(4096, 2), torch.zeros(4096, 2), luck, 1.0)
    assert (got - torch.arange(4096)).abs().max() <= 1


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
    for row in range(4):
        alone = objective.collate(given[row : row + 1], replace(keys, sample=keys.sample[row : row + 1]))
        assert torch.equal(alone.luck[0], objective.collate(given, keys).luck[row])


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


def test_a_right_guess_is_real(make, vocabulary, monkeypatch):
    """Of three samples one is the text's own token: two are replaced, and a judge who knows is charged nothing."""
    objective, model = make()
    batch, text = example(vocabulary)
    x, y = vocabulary.ordinary[20:22].tolist()
    monkeypatch.setattr(electra, "sample", lambda hidden, *_: torch.tensor([text[1], x, y] + [0] * (len(hidden) - 3)))
    truth = torch.tensor([[-60.0, -60, -60, 60, 60, -60, -60, 0]])
    objective.judge.forward = lambda hidden: truth
    losses = objective(model, batch)
    assert float(losses["replaced"]) == 2
    assert float(losses["trunk"]) == pytest.approx(0, abs=1e-6)


def test_luck_is_drawn_apart(make, vocabulary):
    """Were it the stream that also chose what to mask, what is sampled would follow from that."""
    objective, _model = make()
    keys = Keys(seed=0, purpose="train", sample=np.arange(2))
    batch = objective.collate(texts(vocabulary, 2, 30), keys)
    streams = [keys.generator(row).random(200) for row in range(2)]
    assert not any(np.isin(batch.luck[row], streams[row]).any() for row in range(2))
    assert not np.isin(batch.luck[0], batch.luck[1]).any()


def test_the_trunk_reads_the_samples(make, vocabulary, monkeypatch):
    """Nowhere a [MASK], which no text has that it will be used on."""
    objective, model = make()
    other = int(vocabulary.ordinary[9])
    monkeypatch.setattr(electra, "sample", lambda hidden, *_: torch.full((len(hidden),), other))
    batch = objective.collate(texts(vocabulary, 4, 30), Keys(seed=0, purpose="train", sample=np.arange(4)))
    read, seen = objective.read, []
    monkeypatch.setattr(objective, "read", lambda model, batch: seen.append(batch.tokens) or read(model, batch))
    objective(model, batch)
    assert (batch.tokens == vocabulary.mask).any()
    assert torch.equal(seen[0], torch.where(batch.targets != IGNORE, other, batch.tokens))


@pytest.mark.parametrize(
    ("width", "depth", "shape"), [(1.0, 1.0, (32, 2)), (0.5, 0.5, (16, 1)), (0.25, 1.0, (8, 2)), (0.01, 0.01, (8, 1))]
)
def test_generators_have_whole_heads_and_at_least_one(make, width, depth, shape):
    objective, _model = make(generator_width=width, generator_depth=depth)
    assert (objective.generator.width, len(objective.generator.blocks)) == shape


@pytest.mark.parametrize("sharing", ["tied", "gdes"])
def test_the_trunk_reads_as_it_is_used(make, vocabulary, sharing):
    """Before training, gdes' difference is 0; after it, what reads a text goes through the objective's own layers."""
    objective, model = make(sharing=sharing)
    batch, _text = example(vocabulary)
    with torch.no_grad():
        assert torch.equal(objective.read(model, batch), model(batch))

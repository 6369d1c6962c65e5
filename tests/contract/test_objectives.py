"""What every objective promises, checked for each file of conf/objective/: a new one is covered without a word here."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lmx import config
from lmx.batch import IGNORE, PADDING, visible, visible_pairs
from lmx.build import build
from lmx.data.noise import Keys
from lmx.objectives.objective import Objective
from lmx.train.flops import Flops
from lmx.train.learner import Learner
from tests.conftest import sample

OBJECTIVES = sorted(config.choices("objective"))
LENGTH = 32
SMALL = [
    "model=nano",
    "model.width=32",
    "model.heads=2",
    "model.kv_heads=1",
    "model.mlp=48",
    "model.depth=2",
    f"length={LENGTH}",
]


@pytest.fixture(params=OBJECTIVES)
def learner(request, vocabulary, small_corpus) -> Learner:
    node = config.load([f"objective={request.param}", *SMALL])
    torch.manual_seed(0)
    model = build(node["model"], vocabulary_size=vocabulary.size)
    objective = build(node["objective"], length=LENGTH, model=model, vocabulary=vocabulary, corpus=small_corpus)
    return Learner(model, objective)


def keys(first=0, count=4, purpose="train"):
    return Keys(seed=0, purpose=purpose, sample=np.arange(first, first + count))


def prose(vocabulary, size: int, rng: np.random.Generator) -> list[int]:
    """Random letters with words, sentences and nothing but characters: where there are none, some objectives do nothing."""
    return rng.choice(vocabulary.encode("etaoinshrdlu   .,"), size=size).tolist()


def like(vocabulary, text: list[int], rng: np.random.Generator) -> list[int]:
    """Other letters in the same words and sentences: rules that hide whole words hide the same places of a row."""
    letters = vocabulary.encode("etaoinshrdlu")
    return np.where(np.isin(text, letters), rng.choice(letters, size=len(text)), text).tolist()


def samples(objective: Objective, vocabulary, count=4):
    size, rng = int(objective.raw_lengths(keys())[0]) + objective.lookahead, np.random.default_rng(0)
    return [sample(prose(vocabulary, size, rng)) for _ in range(count)]


def equal(a, b):
    """All that a batch has, whatever its kind; those of the source, too."""
    tensors = [name for name, value in vars(a).items() if isinstance(value, torch.Tensor)]
    sources = not a.source or equal(a.source, b.source)
    return sources and all(torch.equal(getattr(a, name), getattr(b, name)) for name in tensors)


def test_collate_is_pure(learner, vocabulary):
    given = samples(learner.objective, vocabulary)
    before = [item.tokens.copy() for item in given]
    first = learner.objective.collate(given, keys())
    torch.manual_seed(1), np.random.seed(1)
    assert equal(first, learner.objective.collate(given, keys()))
    assert all((old == item.tokens).all() for old, item in zip(before, given, strict=True))


def test_a_sample_does_not_depend_on_its_neighbours(learner, vocabulary):
    given = samples(learner.objective, vocabulary)
    whole = learner.objective.collate(given, keys())
    for row in range(4):
        alone = learner.objective.collate(given[row : row + 1], keys(row, 1))
        for name, value in vars(alone).items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value[0], getattr(whole, name)[row]), name
        if whole.source:
            assert torch.equal(alone.source.tokens[0], whole.source.tokens[row])


def test_a_batch_is_well_formed(learner, vocabulary):
    batch = learner.objective.collate(samples(learner.objective, vocabulary), keys())
    asked = batch.targets != IGNORE
    assert len(batch.tokens) == 4
    assert batch.tokens.shape[1] == LENGTH or batch.source
    assert batch.source is None or batch.source.tokens.shape == (4, LENGTH)
    if learner.objective.indivisible:  # a row is asked, and none of its tokens
        assert not asked.any()
        assert int(batch.num_targets) == 4
    else:
        assert 0 < int(asked.sum()) <= batch.capacity
        assert batch.targets[asked].min() >= 0
    assert max(int(batch.targets.max()), int(batch.tokens.max())) < vocabulary.size
    assert not (asked & (batch.document == PADDING)).any()
    never = [vocabulary.pad, vocabulary.mask, vocabulary.unk, vocabulary.cls, vocabulary.sep]
    assert not np.isin(batch.targets[asked].numpy(), never).any()
    size = batch.tokens.shape[1]
    mask, pairs = visible(batch)[:, 0], size * (size + 1) // 2
    if batch.pattern == "causal":
        assert visible_pairs(batch) == 4 * pairs == int(mask.sum())
    if batch.pattern == "full":
        assert mask.all()


def test_counts_and_losses_name_the_same_terms(learner, vocabulary):
    batch = learner.objective.collate(samples(learner.objective, vocabulary), keys())
    losses = learner(batch)
    assert set(losses) == set(learner.objective.counts(batch)) == set(learner.objective.weights)
    assert all(value.ndim == 0 and torch.isfinite(value) for value in losses.values())


def test_losses_are_sums_over_rows(learner, vocabulary):
    """Rows one by one add up to the batch: the mean does not depend on how a step is cut."""
    if learner.objective.indivisible:
        pytest.skip("rows are each other's candidates")
    given = samples(learner.objective, vocabulary)
    learner.double()
    with torch.no_grad():
        whole = learner(learner.objective.collate(given, keys()))
        parts = [learner(learner.objective.collate(given[row : row + 1], keys(row, 1))) for row in range(4)]
    for term, value in whole.items():
        assert float(value) == pytest.approx(sum(float(part[term]) for part in parts), rel=1e-5)


def test_filler_rows_of_the_head_change_nothing(learner, vocabulary):
    learner.eval()
    batch = learner.objective.collate(samples(learner.objective, vocabulary), keys())
    with torch.no_grad():
        a, b = learner(batch), learner(replace(batch, capacity=batch.capacity + 128))
    assert all(float(a[term]) == pytest.approx(float(b[term]), rel=1e-6) for term in a)


def test_packed_documents_do_not_see_each_other(learner, vocabulary):
    """Another first document changes nothing that the second is asked or answers."""
    size = int(learner.objective.raw_lengths(keys())[0]) + learner.objective.lookahead
    rng = np.random.default_rng(0)
    one, second = (prose(vocabulary, size // 2, rng) for _ in range(2))
    other = like(vocabulary, one, rng)
    batches = [learner.objective.collate([sample(first, second)], keys(0, 1)) for first in (one, other)]
    inside = batches[0].document[0] == 1
    if not inside.any():
        pytest.skip("reads one document of a sample")
    assert torch.equal(batches[0].targets[0][inside], batches[1].targets[0][inside])
    with torch.no_grad():
        a, b = (
            learner.model(replace(batch, tokens=torch.where(inside, batches[0].tokens, batch.tokens)))
            for batch in batches
        )
    assert (a[0][inside] - b[0][inside]).abs().max() == 0.0
    assert (a[0][~inside] - b[0][~inside]).abs().max() > 0


def test_the_loss_of_one_document_does_not_depend_on_its_neighbour(learner, vocabulary):
    """Through everything that an objective does between tokens and loss: decoders, streams, further blocks."""
    if learner.objective.indivisible:
        pytest.skip("documents of a row are asked together")
    size = int(learner.objective.raw_lengths(keys())[0]) + learner.objective.lookahead
    rng = np.random.default_rng(0)
    one, second = (prose(vocabulary, size // 2, rng) for _ in range(2))
    other = like(vocabulary, one, rng)
    losses = []
    for first in (one, other):
        batch = learner.objective.collate([sample(first, second)], keys(0, 1))
        if not (batch.document == 1).any():
            pytest.skip("reads one document of a sample")
        mine = batch.document == 1
        changes = {"targets": torch.where(mine, batch.targets, IGNORE)}
        if hasattr(batch, "answer"):
            changes["answer"] = torch.where(mine.gather(1, batch.query), batch.answer, IGNORE)
        torch.manual_seed(0)
        with torch.no_grad():
            losses.append(learner(replace(batch, **changes))["loss"])
    assert losses[0] == losses[1] > 0


def test_training_and_validation_noise_differ(learner, vocabulary):
    given = samples(learner.objective, vocabulary)
    train, held_out = (learner.objective.collate(given, keys(purpose=purpose)) for purpose in ("train", "validation"))
    if not equal(train, learner.objective.collate(given, keys(first=4))):  # the objective is random
        assert not equal(train, held_out)


def test_flops_grow_with_what_is_asked(learner, vocabulary):
    flops = Flops(learner)
    batch = learner.objective.collate(samples(learner.objective, vocabulary), keys())
    silent = replace(batch, targets=torch.full_like(batch.targets, IGNORE))
    assert flops(silent) > 0
    assert flops(batch) > flops(silent) or learner.objective.indivisible


def test_overfits_one_batch(learner, vocabulary):
    """Each term, to a fiftieth of where it began: near zero, but for first tokens that nothing tells."""
    batch = learner.objective.collate(samples(learner.objective, vocabulary), keys())
    optimizer = torch.optim.AdamW(learner.parameters(), lr=1e-2)
    counts = learner.objective.counts(batch)
    weights = {term: weight / max(int(counts[term]), 1) for term, weight in learner.objective.weights.items() if weight}
    first = {}
    for _ in range(150):
        terms = learner(batch)
        losses = {term: share * terms[term] for term, share in weights.items()}
        first = first or {term: float(loss.detach()) for term, loss in losses.items()}
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        if all(float(loss.detach()) <= 0.02 * first[term] for term, loss in losses.items()):
            return
    raise AssertionError({term: (first[term], float(loss.detach())) for term, loss in losses.items()})

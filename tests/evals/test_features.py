"""Every objective reads a text as it is: all of its tokens, none hidden, none of another row, none later than it may see."""

import numpy as np
import pytest
import torch

from lmx.batch import IGNORE, trimmed
from lmx.build import build
from lmx.config import choices, load
from lmx.evals.features import Items, joined, means, words
from lmx.train.learner import Learner

LENGTH = 32
SMALL = ["model=nano", "model.width=32", "model.heads=2", "model.kv_heads=1", "model.mlp=48", "model.depth=2"]
CPU = torch.device("cpu")
WAYS = [
    *((name, ()) for name in sorted(choices("objective"))),
    ("mlm", ("objective.wrap=true",)),
    ("mlm", ("objective.shift=true", "objective.wrap=false")),
    *((name, (f"objective.layout={layout}",)) for name in ("span", "bart") for layout in ("causal", "encoder_decoder")),
    ("span", ("objective.layout=encoder_decoder", "objective.decoder=half")),
    ("ul2", ("objective.layout=encoder_decoder",)),
]  # fmt: skip


@pytest.fixture(scope="module", params=WAYS, ids=lambda one: " ".join([one[0], *one[1]]))
def learner(request, vocabulary, small_corpus) -> Learner:
    name, more = request.param
    node = load([f"objective={name}", *SMALL, f"length={LENGTH}", *more])
    torch.manual_seed(0)
    model = build(node["model"], vocabulary_size=vocabulary.size)
    made = build(node["objective"], length=LENGTH, model=model, vocabulary=vocabulary, corpus=small_corpus)
    return Learner(model, made).double().eval()


def silent(phase: str, share: float | None) -> None:
    pass


def read(learner: Learner, texts: list[np.ndarray], cuts: list[int] | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """[layers, B, L, D], and [B, L] which positions are the texts' own tokens"""
    batch = trimmed(learner.objective.reading(texts, cuts))
    with torch.no_grad():
        return torch.stack(learner.objective.layers(learner.model, batch)), batch.targets != IGNORE


def test_a_text_is_read_whole_and_as_it_is(learner, vocabulary):
    texts = [vocabulary.encode(one) for one in ("We are strong.", "The state of the union", "No")]
    for cuts in (None, [3, 4, 1]):
        batch = trimmed(learner.objective.reading(texts, cuts))
        for tokens, targets, text in zip(batch.tokens, batch.targets, texts, strict=True):
            assert targets[targets != IGNORE].tolist() == text.tolist()
            assert tokens[targets != IGNORE].tolist() == text.tolist(), "nothing is hidden"
            assert vocabulary.special[tokens[targets == IGNORE]].all()


def test_layers_and_visibility(learner, vocabulary):
    one, other = vocabulary.encode("We are strong"), vocabulary.encode("We are strong")
    other[-1] = vocabulary.encode("x")[0]
    layers, own = read(learner, [one, other])
    depth = learner.model.depth // (
        2 if getattr(getattr(learner.objective, "decoder", None), "sharing", "") == "half" else 1
    )
    assert len(layers) == depth + 1
    first, second = (layers[:, row, own[row]] for row in range(2))
    assert torch.equal(first[0, :-1], second[0, :-1]), "embeddings know nothing of their neighbours"
    causal = torch.allclose(first[:, :-1], second[:, :-1], atol=1e-9)  # rows of a matrix product may be rounded apart
    assert causal == (learner.objective.summary == "last" and type(learner.objective).__name__ != "XLNet")
    assert layers[-1].pow(2).mean(-1)[own].sub(1).abs().max() < 0.1, "the last one is normalised"


def test_neighbours_in_a_batch_change_nothing(learner, vocabulary):
    short, long = vocabulary.encode("We are"), vocabulary.encode("The state of the union")
    alone, own = read(learner, [short])
    beside, both = read(learner, [short, long])
    assert torch.allclose(alone[:, 0, own[0]], beside[:, 0, both[0]], atol=1e-6)


def test_states_are_those_that_training_used(learner, vocabulary):
    """The last layer is what the objective's own path makes of the same batch."""
    objective, text = learner.objective, vocabulary.encode("The state of the union")
    if type(objective).__name__ in ("ELECTRA",):
        path = objective.read
    elif getattr(objective, "decoder", None) is not None:
        path = objective.decoder.encode
    elif type(objective).__name__ == "SegmentPair":
        path = objective.hidden
    else:
        path = lambda model, batch: model(batch)  # noqa: E731
    batch = objective.reading([text])
    with torch.no_grad():
        assert torch.equal(objective.layers(learner.model, batch)[-1], path(learner.model, batch))


def test_means_are_those_of_the_parts(learner, vocabulary):
    pairs = [("We are", " strong."), ("The state of", " the union"), ("No", " one")]
    encoded = [(vocabulary.encode(a), vocabulary.encode(b)) for a, b in pairs]
    items = Items.pairs(encoded, [0, 1, 0], [0, 1, 2])
    found = means(learner.float(), CPU, items, silent)
    learner.double()
    layers, own = read(learner, list(items.texts), items.cuts)
    for number, (first, _) in enumerate(encoded):
        rows = layers[:, number, own[number]].float()
        torch.testing.assert_close(found[:, number, 0], rows[:, : len(first)].mean(1), atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(found[:, number, 1], rows[:, len(first) :].mean(1), atol=1e-4, rtol=1e-3)
    assert joined(found).shape[-1] == 4 * found.shape[-1]


def test_words_are_tf_idf():
    texts = [np.array([1, 1, 2]), np.array([2, 3])]
    items = Items.whole(texts, [0, 1], [0, 1])
    rarity = np.log(3 / (1 + np.array([0, 1, 2, 1]))) + 1
    expected = np.log1p([[0, 2, 1, 0], [0, 0, 1, 1]]) * rarity
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(words(items, items, 4)[:, 0].numpy(), expected, rtol=1e-6)

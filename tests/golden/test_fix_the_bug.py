"""Fix the bug on `return a - b`, whose minus a bug makes a plus; and what is scored as its edit."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lmx.batch import IGNORE, fill
from lmx.data.mutations import KINDS, Bug, Site
from lmx.data.noise import Keys
from lmx.errors import LmxError
from lmx.objectives import fix_the_bug as module
from lmx.objectives.fix_the_bug import FixTheBug, edited, surroundings
from tests.conftest import sample, trunk
from tests.data.conftest import documents

KEYS = Keys(seed=0, purpose="train", sample=np.arange(1))
CODE = "return a - b\n"


def make(vocabulary, **changes: Any) -> FixTheBug:
    knobs = {
        "length": 40, "model": trunk(), "corpus": None, "clean": 0.0, "another": 0.0, "kinds": dict.fromkeys(KINDS, 1.0),
        "edit_weight": 0.0, "layout": "causal", "decoder": "full", "z_loss": 0.0,
    }  # fmt: skip
    return FixTheBug(vocabulary=vocabulary, **knobs | changes)


@pytest.fixture
def plus(monkeypatch):
    """Every bug makes the minus a plus."""
    monkeypatch.setattr(module, "mutate", lambda *_: [Bug(Site("binary", 9, 10, ("+",)), "+")])


def encoded(vocabulary, text: str) -> list[int]:
    return [*vocabulary.encode(text).tolist(), vocabulary.eos]


def shown(vocabulary, row) -> str:
    """Pieces one after the other, . where there is none."""
    return "".join("." if number == IGNORE else vocabulary.piece(number) for number in row.tolist())


@pytest.mark.parametrize("layout", ["causal", "prefix", "encoder_decoder"])
def test_read_with_the_bug_write_without(vocabulary, plus, layout, make_model):
    objective = make(vocabulary, layout=layout, model=make_model())
    batch: Any = objective.collate([sample(encoded(vocabulary, CODE))], KEYS)
    if layout == "encoder_decoder":
        assert shown(vocabulary, batch.source.tokens[0, :16]) == "[BUG]return·a·+·b↵[FIX][EOS]"
        assert shown(vocabulary, batch.tokens[0, :14]) == "[PAD]return·a·-·b↵"
        assert shown(vocabulary, batch.targets[0, :14]) == "return·a·-·b↵[EOS]"
        assert batch.edit[0].nonzero()[:, 0].tolist() == [9]
    else:
        assert shown(vocabulary, batch.tokens[0, :29]) == "[BUG]return·a·+·b↵[FIX]return·a·-·b↵[EOS]"
        assert shown(vocabulary, batch.targets[0, :29]) == "." * 14 + "return·a·-·b↵[EOS]."
        assert batch.edit[0].nonzero()[:, 0].tolist() == [14 + 9]
        assert batch.order[0, :29].tolist() == (
            list(range(29)) if layout == "causal" else [0] * 15 + list(range(1, 15))
        )
    assert shown(vocabulary, batch.targets[batch.edit == 1]) == "-"
    assert objective.counts(batch) == {"loss": 14, "edit": 1}


@pytest.mark.parametrize(
    ("broken", "text", "expected"),
    [
        ([5, 6, 7], [5, 6, 7], [0, 0, 0, 0]),
        ([5, 9, 7], [5, 6, 7], [0, 1, 0, 0]),
        ([9, 6, 7], [5, 6, 7], [1, 0, 0, 0]),
        ([5, 7], [5, 6, 7], [0, 1, 0, 0]),  # the bug took something away
        ([5, 6, 9, 7], [5, 6, 7], [0, 0, 1, 0]),  # it added: what must not be copied is known by the next one
        ([5, 6, 7, 9], [5, 6, 7], [0, 0, 0, 1]),
        ([5, 5, 5], [5, 5], [0, 0, 1]),
        ([7, 6, 5], [5, 6, 7], [1, 1, 1, 0]),
    ],
)
def test_edit(broken, text, expected):
    assert edited(np.array(broken), np.array([*text, 1])).tolist() == expected


@pytest.mark.parametrize(("clean", "text"), [(1.0, CODE), (0.0, "a - b is no Python?"), (0.0, "x = 'no - bug'")])
def test_texts_without_a_bug_are_copied(vocabulary, clean, text):
    objective = make(vocabulary, clean=clean, length=60)
    batch: Any = objective.collate([sample(encoded(vocabulary, text))], KEYS)
    said = text.replace(" ", "·").replace("\n", "↵")
    assert shown(vocabulary, batch.tokens[0, : 2 * len(text) + 3]) == f"[BUG]{said}[FIX]{said}[EOS]"
    assert batch.edit.sum() == 0
    assert objective.counts(batch) == {"loss": len(text) + 1, "edit": 0}


@pytest.mark.parametrize("together", [True, False])
def test_packed_documents_are_apart(vocabulary, together):
    """Also in the stream of packing=concat, where only their ends tell."""
    text = sample(encoded(vocabulary, "a-b"), encoded(vocabulary, "not c"))
    text = replace(text, segment=np.zeros_like(text.segment)) if together else text
    batch = make(vocabulary, clean=1.0).collate([text], KEYS)
    assert shown(vocabulary, batch.tokens[0, :22]) == "[BUG]a-b[FIX]a-b[EOS][BUG]not·c[FIX]not·c[EOS]"
    assert batch.document[0, :22].tolist() == [0] * 9 + [1] * 13


def corpus(vocabulary, *texts: str) -> Any:
    found = [encoded(vocabulary, text) for text in texts]
    made = documents([len(text) for text in found])
    made.tokens[:] = np.concatenate(found)
    return SimpleNamespace(train=made)


def test_a_piece_that_is_no_python_alone(vocabulary):
    """The document says where a bug can be; the piece is all that is read and asked."""
    code = "def f(a, b):\n    return (a - b)\n"
    read = corpus(vocabulary, "x = 1\n", code)
    objective = make(vocabulary, length=60, corpus=read)
    tokens = encoded(vocabulary, code)
    piece = vocabulary.encode(" - b)\n")
    seen = set()
    for number in range(40):
        cut = replace(sample(piece.tolist()), documents=np.array([1]))
        (pair,) = objective.pairs(cut, Keys(seed=number, purpose="train", sample=np.arange(1)), 0)
        source, target = (vocabulary.decode(side) for side in pair)
        assert target == " - b)\n"
        seen.add(source)
    assert " - a)\n" in seen
    assert " - b)\n" not in seen
    assert len(seen) > 5
    whole, begin = surroundings(piece, read.train, 1)
    assert (whole.tolist(), begin) == (tokens[:-1], code.index(" - b)"))
    assert surroundings(piece, read.train, 0)[1] == 0
    assert surroundings(piece, read.train, 7)[0] is piece, "typed: of no corpus"


def test_another_bug(vocabulary):
    """With probability a half after each: two on average."""
    text = vocabulary.encode("x = " + " < ".join("abcdefghijklmnop") + "\n")
    numbers = []
    for seed in range(400):
        source, target = make(vocabulary, length=400, another=0.5).pose(text, KEYS, np.random.default_rng(seed))
        signs = (vocabulary.decode(side).split()[3::2] for side in (source, target))
        numbers.append(sum(was != now for was, now in zip(*signs, strict=True)))
    assert min(numbers) == 1
    assert np.mean(numbers) == pytest.approx(1.97, abs=0.25)


def test_edits_are_scored_once_more(vocabulary, plus, make_model):
    model, keys = make_model(), Keys(seed=0, purpose="train", sample=np.arange(2))
    rows = [sample(encoded(vocabulary, CODE)) for _ in range(2)]
    plain, weighed = (
        make(vocabulary, model=model, edit_weight=weight, z_loss=z) for weight, z in ((0, 0), (2.0, 1e-3))
    )
    batch: Any = plain.collate(rows, keys)
    nats = plain.nats(model, batch)
    losses = plain(model, batch)
    assert losses["loss"].item() == pytest.approx(nats.sum().item(), rel=1e-5)
    assert losses["edit"].item() == pytest.approx(nats[batch.edit == 1].sum().item(), rel=1e-5)
    assert weighed.weights == {"loss": 1.0, "z": 1e-3, "edit": 2.0}
    assert weighed(model, fill(batch, 5))["edit"].item() == pytest.approx(losses["edit"].item(), rel=1e-5)
    assert weighed.counts(fill(batch, 5)) == {"loss": 28, "z": 28, "edit": 2}
    torch.autograd.backward(weighed(model, batch)["edit"])
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_kinds_are_checked(vocabulary):
    with pytest.raises(LmxError, match=r"^objective\.kinds must be of binary, .*arguments, got typo\."):
        make(vocabulary, kinds={"typo": 1.0})
    with pytest.raises(LmxError, match=r"^objective\.kinds must have a weight above 0, got none\. Type "):
        make(vocabulary, kinds=dict.fromkeys(KINDS, 0.0))

"""On real functions, cut anywhere: what is asked is the text, what is read differs in one place, and a document still parses."""

import ast
import inspect
import textwrap
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmx.data.mutations import KINDS, parse
from lmx.data.noise import Keys
from lmx.data.packing import Samples
from lmx.data.python import functions
from lmx.data.tokenizer import BPE, Bytes, Vocabulary
from lmx.objectives import fix_the_bug as module
from lmx.objectives.fix_the_bug import FixTheBug
from tests.conftest import trunk
from tests.data.conftest import documents

SOURCES = [inspect.getsource(module) for module in (textwrap, inspect)]
LIBRARY = [one for source in SOURCES for one in functions(source, ast.parse(source))] + [
    "é = 'ü' + ñ\n",
    "not Python: 1 -\n",
]


@cache
def vocabulary(name: str) -> Vocabulary:
    return Bytes().train([], 0) if name == "bytes" else BPE(size=512).train(LIBRARY, sum(map(len, LIBRARY)))


@cache
def corpus(name: str) -> Any:
    encoded = [[*vocabulary(name).encode(text).tolist(), vocabulary(name).eos] for text in LIBRARY]
    split = documents([len(text) for text in encoded])
    split.tokens[:] = np.concatenate(encoded)
    return SimpleNamespace(train=split)


def make(name: str, length: int, clean: float = 0.0) -> FixTheBug:
    return FixTheBug(
        length=length, model=trunk(), vocabulary=vocabulary(name), corpus=corpus(name), clean=clean, another=0.0,
        kinds=dict.fromkeys(KINDS, 1.0), edit_weight=0.0, layout="causal", decoder="full", z_loss=0.0,
    )  # fmt: skip


def stream(name: str, objective: FixTheBug, seed: int, packing: Any) -> Samples:
    return Samples(
        corpus(name).train, objective.raw_lengths, 0, seed=seed, packing=packing, purpose="train", shuffle=True
    )


def check(name: str, length: int, seed: int, packing: str, count: int = 4) -> float:
    """Share of the texts with a bug."""
    objective, ids = make(name, length), vocabulary(name)
    samples = stream(name, objective, seed, packing)
    bugs = []
    for number, sample in enumerate(samples.read(0, count)):
        texts = [text for text in np.split(sample.tokens, np.flatnonzero(sample.tokens == ids.eos) + 1) if len(text)]
        texts = [text[text != ids.eos] for text in texts if (text != ids.eos).sum() >= 2]
        pairs = objective.pairs(sample, samples.keys(0, count), number)
        again = objective.pairs(sample, samples.keys(number, 1), 0)
        assert all(
            np.array_equal(a, b)
            for one, other in zip(pairs, again, strict=True)
            for a, b in zip(one, other, strict=True)
        )
        assert sum(len(source) + len(target) for source, target in pairs) <= length
        for (source, target), text in zip(pairs, texts, strict=False):
            assert (source[0], source[-1], target[-1]) == (ids.bug, ids.fix, ids.eos)
            assert np.array_equal(target[:-1], text[: len(target) - 1])
            assert not ids.special[source[1:-1]].any()
            broken, edit = source[1:-1], module.edited(source[1:-1], target)
            bugs.append(bool(edit.any()))
            if not edit.any():
                assert np.array_equal(broken, target[:-1])
                continue
            first, after = int(edit.argmax()), int(edit[::-1].argmax())  # outside of the edit both sides say the same
            shared = min(first, len(broken))
            assert np.array_equal(broken[:shared], target[:shared])
            rest = target[len(target) - after : -1] if after else target[:0]
            assert np.array_equal(broken[len(broken) - len(rest) :], rest) or not len(rest)
            assert edit.sum() <= 100
    return float(np.mean(bugs)) if bugs else 0.0


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(["bytes", "bpe"]),
    length=st.integers(12, 300),
    seed=st.integers(0, 2**20),
    packing=st.sampled_from(["concat", "docmask", "bestfit"]),
)
def test_source_and_target(name, length, seed, packing):
    check(name, length, seed, packing)


def test_many_pieces_have_a_bug():
    assert check("bpe", 128, 0, "concat", 200) > 0.5


@pytest.mark.parametrize("name", ["bytes", "bpe"])
def test_documents_with_their_bugs_parse(name):
    """Decoded from what a model would read."""
    objective, ids = make(name, 20_000), vocabulary(name)
    differ = 0
    for number, text in enumerate(LIBRARY):
        keys = Keys(seed=number, purpose="train", sample=np.arange(1))
        source, target = objective.pose(ids.encode(text), keys, keys.generator(0))
        assert ids.decode(target) == text
        mutant = ids.decode(source)
        if mutant != text:
            differ += 1
            assert parse(mutant) is not None
            assert ast.dump(ast.parse(mutant)) != ast.dump(ast.parse(text))
    assert differ > 0.8 * len(LIBRARY)


def test_epochs_differ_and_clean_is_a_share():
    """A function comes with another bug in the next epoch, and with none as often as it should."""
    text = vocabulary("bytes").encode("def f(a, b):\n    return a + b < 2 and g(b, a)\n")
    objective = make("bytes", 400, clean=0.3)
    keys = Keys(seed=0, purpose="train", sample=np.arange(1000))
    sources = [objective.pose(text, keys, keys.generator(number))[0] for number in range(1000)]
    whole = [np.array_equal(source[1:-1], text) for source in sources]
    assert 0.24 < np.mean(whole) < 0.36  # 4 deviations
    assert len({source.tobytes() for source in sources}) > 20


BUGS = {
    "target has the bug": lambda source, target: (source, np.append(source[1:-1], target[-1])),
    "no end": lambda source, target: (source, target[:-1]),
    "no question": lambda source, target: (source[1:], target),
}


@pytest.mark.parametrize("bug", sorted(BUGS))
def test_seeded_bugs_are_caught(monkeypatch, bug):
    check("bpe", 128, 0, "concat", 40)
    pair = FixTheBug.pair
    monkeypatch.setattr(FixTheBug, "pair", lambda *arguments: BUGS[bug](*pair(*arguments)))
    with pytest.raises((AssertionError, ValueError, IndexError)):
        check("bpe", 128, 0, "concat", 40)


def test_randomness_that_is_not_keyed_is_caught(monkeypatch):
    pair, hidden = FixTheBug.pair, np.random.default_rng(0)
    monkeypatch.setattr(FixTheBug, "pair", lambda self, whole, begin, stop, rng: pair(self, whole, begin, stop, hidden))
    with pytest.raises((AssertionError, ValueError)):
        check("bpe", 128, 0, "concat", 40)

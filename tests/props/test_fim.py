"""Every text can be put together again from what is shown, under any packing; and the bugs that would break this are caught."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmx.batch import IGNORE, PADDING
from lmx.data.noise import Keys
from lmx.data.tokenizer import BPE, Bytes
from lmx.objectives import fim as module
from lmx.objectives.fim import FIM
from tests.conftest import sample, trunk

WORDS = "the quick brown fox jumps over the lazy dog; naïve Über 日本 ünïcödé\n    return a + b"
VOCABULARIES = {"bytes": Bytes().train([], 0), "bpe": BPE(size=512).train([WORDS] * 20, 0)}
TEXT = st.text(st.sampled_from(WORDS), max_size=30).map("42".__add__)  # a text has at least two tokens


def make(vocabulary, **changes) -> FIM:
    knobs: dict[str, Any] = {"length": 512, "rate": 1.0, "spm": 0.5, "level": "character", "loss": "all", "z_loss": 0.0}
    return FIM(model=trunk(), vocabulary=vocabulary, **knobs | changes)


def between(tokens: list[int], start: int, stop: int) -> list[int]:
    """What stands after the only `start` and before the only `stop`."""
    assert tokens.count(start) == tokens.count(stop) == 1
    return tokens[tokens.index(start) + 1 : tokens.index(stop)]


def check(texts, name, number=0, **changes):
    """Each text from its parts, which hold nothing special; each target is what comes next in the same document."""
    vocabulary = VOCABULARIES[name]
    objective = make(vocabulary, **changes)
    stream = [[*vocabulary.encode(text).tolist(), vocabulary.eos] for text in texts]
    keys = Keys(seed=0, purpose="train", sample=np.array([number]))
    batch = objective.collate([sample(*stream)], keys)
    p, s, m, e = vocabulary.fim_prefix, vocabulary.fim_suffix, vocabulary.fim_middle, vocabulary.eos
    assert int(batch.document.max()) + 1 == len(texts)
    for document, text in enumerate(texts):
        here = batch.document[0] == document
        tokens, targets = batch.tokens[0][here].tolist(), batch.targets[0][here].tolist()
        assert tokens[0] == p
        assert tokens[-1] == e
        if tokens[1] == s:  # prefix and middle stand together: where they meet is known by the loss alone
            suffix, rest = between(tokens, s, m), between(tokens, m, e)
        else:
            suffix, rest = between(tokens, s, m), [*between(tokens, p, s), *between(tokens, m, e)]
        assert not vocabulary.special[[*rest, *suffix]].any()
        assert vocabulary.decode([*rest, *suffix]) == text
        if objective.level == "character":
            assert vocabulary.decode(rest) + vocabulary.decode(suffix) == text, "no part begins inside of a character"
        asked = [
            IGNORE if target == IGNORE else following for target, following in zip(targets, tokens[1:], strict=False)
        ]
        assert targets == [*asked, IGNORE]
        if objective.loss == "all":
            assert IGNORE not in targets[:-1]
        else:
            count = sum(target != IGNORE for target in targets)
            assert targets[-1 - count : -1] == tokens[-count:], "the middle is what stands last"
            assert tokens[1] == s or count == len(between(tokens, m, e)) + 1


@settings(max_examples=80, deadline=None)
@given(
    texts=st.lists(TEXT, min_size=1, max_size=4),
    name=st.sampled_from(sorted(VOCABULARIES)),
    number=st.integers(0, 10_000),
    level=st.sampled_from(["character", "token"]),
    loss=st.sampled_from(["all", "middle"]),
)
def test_the_text_can_be_put_together_again(texts, name, number, level, loss):
    check(texts, name, number, level=level, loss=loss)


@settings(max_examples=40, deadline=None)
@given(text=st.text(st.sampled_from(WORDS), min_size=200, max_size=400), number=st.integers(0, 10_000))
def test_it_always_fits_and_always_ends(text, number):
    """Parts that are tokenised anew take more tokens than the text did."""
    vocabulary = VOCABULARIES["bpe"]
    objective = make(vocabulary, length=64)
    tokens = vocabulary.encode(text)[: objective.raw_length].tolist()
    batch = objective.collate([sample(tokens)], Keys(seed=0, purpose="train", sample=np.array([number])))
    real = batch.tokens[0][batch.document[0] != PADDING].tolist()
    if vocabulary.fim_middle in real:
        assert real[-1] == vocabulary.eos
    assert len(real) >= objective.raw_length - 4


def test_rates_and_cuts():
    """Of 30 tokens cut at two independent places the middle is a third."""
    vocabulary = VOCABULARIES["bytes"]
    objective = make(vocabulary, rate=0.6, spm=0.25, level="token")
    keys = Keys(seed=0, purpose="train", sample=np.arange(4000))
    rows = [objective.pose(np.full(30, 200), True, keys.generator(number))[0].tolist() for number in range(4000)]
    done = [row for row in rows if vocabulary.fim_middle in row]
    suffixes = [row.index(vocabulary.fim_middle) - row.index(vocabulary.fim_suffix) - 1 for row in done]
    no_prefix = 1 - (30 / 31) ** 2  # how often PSM looks like SPM
    spm = [row for row in done if row[1] == vocabulary.fim_suffix]
    assert len(done) / len(rows) == pytest.approx(0.6, abs=0.03)
    assert len(spm) / len(done) == pytest.approx(0.25 + 0.75 * no_prefix, abs=0.03)
    assert np.mean(suffixes) == pytest.approx(10, abs=0.5)
    assert min(suffixes) == 0


def changed(change):
    """FIM.arrange with its parts or its tokens changed."""
    arrange = FIM.arrange

    def wrong(self, parts, spm):
        return change(lambda *parts: arrange(self, parts, spm), *parts)

    return wrong


def overlapping(length, rng):
    first, second = sorted(rng.integers(0, length, size=2).tolist())
    return second + 1, first


BUGS = {
    "middle not last": ("arrange", changed(lambda arrange, p, m, s: arrange(p, s, m))),
    "parts overlap": ("split", lambda self, text, rng: (text[:7], text[6:9], text[9:])),
    "a token between the parts is lost": ("split", lambda self, text, rng: (text[:7], text[8:9], text[9:])),
    "end missing": ("arrange", changed(lambda arrange, *parts: arrange(*parts)[:-1])),
    "a mark missing": ("arrange", changed(lambda arrange, *parts: arrange(*parts)[1:])),
    "cut between bytes": (
        "split",
        lambda self, text, rng: [
            self.vocabulary.encode(self.vocabulary.decode(t)) for t in (text[:1], text[1:2], text[2:])
        ],
    ),
}


@pytest.mark.parametrize("bug", sorted(BUGS))
def test_seeded_bugs_are_caught(monkeypatch, bug):
    texts = ["ünïcödé jumps over", "the lazy dog"] * 3
    check(texts, "bytes")
    name, wrong = BUGS[bug]
    monkeypatch.setattr(FIM, name, wrong)
    with pytest.raises(AssertionError):
        check(texts, "bytes")


def test_an_unsorted_cut_is_caught(monkeypatch):
    monkeypatch.setattr(module, "cuts", overlapping)
    with pytest.raises(AssertionError):
        check(["jumps over the lazy dog"], "bytes")


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_middle_asked_one_off_is_caught(monkeypatch, shift):
    pose = FIM.pose

    def wrong(self, text, end, rng):
        tokens, targets = pose(self, text, end, rng)
        return tokens, np.append(targets[1:], IGNORE) if shift > 0 else np.append(IGNORE, targets[:-1])

    monkeypatch.setattr(FIM, "pose", wrong)
    with pytest.raises(AssertionError):
        check(["jumps over the lazy dog"], "bytes", loss="middle")

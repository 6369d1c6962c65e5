"""Invariants of every selection rule and of the masking around it, and seeded bugs that they must catch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmx.batch import IGNORE
from lmx.data import selection
from lmx.data.noise import Keys, generator
from lmx.objectives.mlm import MLM
from tests.conftest import sample
from tests.golden.test_mlm import KNOBS

RULES = sorted(selection.RULES)
texts = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80)  # (special, starts a word)


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=60, deadline=None)
@given(text=texts, rate=st.floats(0.01, 0.95), seed=st.integers(0, 2**32), most=st.none() | st.integers(1, 30))
def test_only_eligible_tokens_within_the_budget(name, text, rate, seed, most):
    special, starts = (np.array(column) for column in zip(*text, strict=True))
    chosen = selection.RULES[name](~special, starts, rate, most, np.random.default_rng(seed))
    assert chosen.shape == special.shape
    assert not (chosen & special).any()
    if most is not None:
        assert chosen.sum() <= most
    limit = {"bernoulli": len(text), "fixed_prob_round": int(rate * len(text)) + 1}
    assert chosen.sum() <= limit.get(name, selection.budget(len(text), rate, most))
    if name == "fixed_round":
        assert chosen.sum() == min(selection.budget(len(text), rate, most), (~special).sum())


@settings(max_examples=60, deadline=None)
@given(text=texts, rate=st.floats(0.05, 0.9), seed=st.integers(0, 2**32))
def test_whole_words_are_whole(text, rate, seed):
    special, starts = (np.array(column) for column in zip(*text, strict=True))
    for name in ("whole_word", "ngram"):
        chosen = selection.RULES[name](~special, starts, rate, None, np.random.default_rng(seed))
        for word in selection.words(~special, starts):
            assert chosen[word].all() or not chosen[word].any()


@pytest.mark.parametrize(("name", "mean"), [("bernoulli", 0.15), ("fixed_prob_round", 0.15), ("fixed_round", 15 / 101)])
def test_mean_share(name, mean):
    """The stochastic rules hit the rate on average; rounding does not, by design."""
    rng = np.random.default_rng(3)
    ones = np.ones(101, bool)
    shares = [selection.RULES[name](ones, ones, 0.15, None, rng).mean() for _ in range(3000)]
    assert np.mean(shares) == pytest.approx(mean, abs=0.003)


def test_span_lengths_are_spanbert_s():
    """Geometric(0.2) up to 10, renormalised: mean 3.80. Spans are rare here, so that none meets another."""
    odds = 0.8 ** np.arange(selection.LONGEST_SPAN)
    assert (odds / odds.sum() @ np.arange(1, 11)) == pytest.approx(3.80, abs=0.005)
    ones, rng, lengths = np.ones(4000, bool), np.random.default_rng(4), []
    for _ in range(60):
        chosen = selection.span_geometric(ones, ones, 0.02, None, rng)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(int), [0]])))
        lengths += list(edges[1::2] - edges[::2])
    assert np.mean(lengths) == pytest.approx(3.80, abs=0.25)


def test_ngram_lengths_are_albert_s():
    """P(n) ~ 1/n up to 3: mean 1.64."""
    ones, rng, lengths = np.ones(4000, bool), np.random.default_rng(5), []
    for _ in range(60):
        chosen = selection.ngram(ones, ones, 0.02, None, rng)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(int), [0]])))
        lengths += list(edges[1::2] - edges[::2])
    assert np.mean(lengths) == pytest.approx(1.64, abs=0.08)


def masked(vocabulary, *, documents=4, length=60, numbers=3000, **changes):
    """Rows of a masked batch with the text they came from: (text, tokens, targets), [N, n] each."""
    mlm = MLM(vocabulary=vocabulary, **KNOBS | {"wrap": False, "length": length} | changes)
    rng = generator(0, "test")
    rows = []
    for number in range(numbers):
        text = rng.choice(vocabulary.ordinary, size=length)
        text[:: length // documents] = vocabulary.eos
        keys = Keys(seed=0, purpose="train", sample=np.array([number]))
        before = text.copy()
        batch = mlm.collate([sample(list(text))], keys)
        assert (text == before).all(), "the input was changed"
        rows.append((text, batch.tokens[0].numpy(), batch.targets[0].numpy()))
    return tuple(np.stack(column) for column in zip(*rows, strict=True))


def check(vocabulary):
    """Every invariant of masked language modeling at once, on 600 rows."""
    text, tokens, targets = masked(vocabulary, numbers=600)
    asked = targets != IGNORE
    assert (asked.sum(1) == 9).all()  # round(60 x 0.15)
    assert (targets[asked] == text[asked]).all()
    assert (tokens[~asked] == text[~asked]).all()
    assert not asked[text == vocabulary.eos].any()
    masks = tokens[asked] == vocabulary.mask
    swapped = ~masks & (tokens[asked] != text[asked])
    assert not vocabulary.special[tokens[asked][swapped]].any()
    assert masks.mean() == pytest.approx(0.8, abs=0.02)
    assert swapped.mean() == pytest.approx(0.1, abs=0.015)
    assert len({row.tobytes() for row in asked}) > 590  # another sample, another mask


def test_masking(vocabulary):
    check(vocabulary)


BUGS = {
    "special tokens are masked": lambda m: m.setattr(MLM, "choose", lambda self, text, rate, rng: self.select(
        np.ones(len(text), bool), self.vocabulary.starts_word[text], rate, self.max_targets, rng)),
    "everything is [MASK]": lambda m: m.setattr(MLM, "corrupt", lambda self, text, chosen, rng: np.where(
        chosen, self.vocabulary.mask, text)),
    "swaps may be special": lambda m: m.setattr(MLM, "corrupt", lambda self, text, chosen, rng: np.where(
        chosen & (rng.random(len(text)) < 0.1), self.vocabulary.sep, np.where(chosen, self.vocabulary.mask, text))),
    "keep and swap exchanged": lambda m: m.setattr(MLM, "corrupt", lambda self, text, chosen, rng: np.where(
        chosen & (rng.random(len(text)) < 0.88), self.vocabulary.mask, text)),
    "everything is asked": lambda m: m.setattr(MLM, "ask", lambda self, chosen, rng: np.ones_like(chosen)),
    "some kept are not asked": lambda m: m.setattr(MLM, "ask", lambda self, chosen, rng: (
        chosen & (rng.random(len(chosen)) < 0.9))),
    "the same mask for every sample": lambda m: m.setattr(Keys, "generator", lambda self, index, use="": generator(0, "same")),
    "no minimum, one too few": lambda m: m.setattr(selection, "budget", lambda n, rate, most: int(n * rate) - 1),
    "input changed in place": lambda m: m.setattr(MLM, "corrupt", in_place),
}  # fmt: skip


def in_place(self, text, chosen, rng):
    text[chosen] = self.vocabulary.mask
    return text


@pytest.mark.parametrize("bug", sorted(BUGS))
def test_seeded_bugs_are_caught(vocabulary, monkeypatch, bug):
    BUGS[bug](monkeypatch)
    with pytest.raises(AssertionError):
        check(vocabulary)


def test_packed_documents_share_one_budget(vocabulary):
    """However short they are, the row is masked at the rate; at most `max_targets`; and none is asked for another's token."""
    text = list(vocabulary.ordinary[:20])
    keys = Keys(seed=0, purpose="train", sample=np.arange(1))
    mlm = MLM(vocabulary=vocabulary, **KNOBS | {"length": 59, "shift": True, "wrap": False, "rate": 0.9})
    batch = mlm.collate([sample(text, text, text)], keys)
    assert batch.targets[0, 19] == IGNORE
    assert batch.targets[0, 39] == IGNORE
    short = [[token, vocabulary.eos] for token in vocabulary.ordinary[:31]]
    mlm = MLM(vocabulary=vocabulary, **KNOBS | {"length": 62, "wrap": False})
    assert int(mlm.collate([sample(*short)], keys).num_targets) == round(
        (62 + 30) * 0.15
    )  # a border counts like a [SEP]
    mlm = MLM(vocabulary=vocabulary, **KNOBS | {"length": 60, "wrap": False, "rate": 0.5, "max_targets": 4})
    assert int(mlm.collate([sample(text, text, text)], keys).num_targets) == 4


def test_a_run_of_words_ends_at_a_gap():
    eligible = np.array([1, 1, 1, 0, 1, 1], bool)
    groups = selection.words(eligible, np.ones(6, bool))
    assert selection.stretch(groups, 1, 5).tolist() == [1, 2]
    assert selection.stretch(groups, 3, 5).tolist() == [4, 5]
    assert selection.stretch(groups, 0, 2).tolist() == [0, 1]


def test_prediction_rate_apart_from_corruption_rate(vocabulary):
    text, tokens, targets = masked(vocabulary, numbers=200, rate=0.4, predict=0.5, mask=1.0, swap=0.0)
    assert ((tokens == vocabulary.mask).sum(1) == 24).all()
    assert ((targets != IGNORE).sum(1) == 12).all()
    assert (tokens[targets != IGNORE] == vocabulary.mask).all()


def test_validation_masks_at_its_own_rate(vocabulary):
    mlm = MLM(vocabulary=vocabulary, **KNOBS | {"rate": 0.4, "length": 100, "wrap": False})
    text = [sample(list(vocabulary.ordinary[:100]))]
    counts = {
        purpose: int(mlm.collate(text, Keys(seed=0, purpose=purpose, sample=np.arange(1))).num_targets)
        for purpose in ("train", "validation")
    }
    assert counts == {"train": 40, "validation": 15}

"""BART: fairseq's noising worked out by hand, and how often a span of no words is drawn."""

import numpy as np
import pytest

from lmx import config
from lmx.objectives import bart
from lmx.objectives.bart import BART

MASK = 99
WORDS = np.arange(10, 18)
ALL = np.ones(8, dtype=bool)
KNOBS = {
    "length": 64, "rate": 0.3, "mean_span": 3.0, "replace": "span", "swap": 0.0, "permute": 1.0, "delete": 0.0, "rotate": 0.0,
    "layout": "encoder_decoder", "decoder": "full", "z_loss": 0.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("spans", "replace", "expected"),
    [
        ([(1, 3), (6, 2)], "span", [10, 99, 14, 15, 99]),
        ([(1, 3), (6, 2)], "tokens", [10, 99, 99, 99, 14, 15, 99, 99]),
        ([(1, 3), (6, 2)], "nothing", [10, 14, 15]),
        ([(1, 2), (3, 2)], "span", [10, 99, 99, 15, 16, 17]),  # neighbours stay two
        ([(1, 3), (2, 1)], "span", [10, 99, 14, 15, 16, 17]),  # what overlaps goes once
        ([(6, 5)], "span", [10, 11, 12, 13, 14, 15, 99]),  # to the end and no further
    ],
)
def test_spans(spans, replace, expected):
    first, lengths = (np.array(column) for column in zip(*spans, strict=True))
    filler = np.full(len(first), MASK)
    assert bart.replaced(WORDS, ALL, first, lengths, filler, replace).tolist() == expected


def test_a_word_of_two_tokens_goes_whole():
    starts = np.array([1, 1, 0, 1, 1, 1, 1, 1], dtype=bool)
    got = bart.replaced(WORDS, starts, np.array([1]), np.array([1]), np.array([MASK]), "span")
    assert got.tolist() == [10, 99, 13, 14, 15, 16, 17]


def test_sentences_change_places():
    class Swap:
        def permutation(self, number):
            return np.arange(number)[::-1]

    text, ends = np.array([5, 5, 1, 6, 1]), np.array([0, 0, 1, 0, 1], dtype=bool)
    assert bart.permute_sentences(text, ends, 1.0, Swap()).tolist() == [6, 1, 5, 5, 1]
    assert bart.permute_sentences(text, ends, 0.0, Swap()).tolist() == text.tolist()
    dots = np.array([0, 1, 1, 0, 1], dtype=bool)  # several full stops end one sentence
    assert bart.permute_sentences(text, dots, 1.0, Swap()).tolist() == [6, 1, 5, 5, 1]


def test_lengths_are_poisson_and_add_up():
    rng = np.random.default_rng(0)
    drawn = [bart.span_lengths(300, 3.0, rng) for _ in range(300)]
    assert all(lengths.sum() == 300 for lengths in drawn)
    inner = np.concatenate([lengths[:-1] for lengths in drawn])
    assert (inner == 0).mean() == pytest.approx(0.0498, abs=0.003)
    assert inner.mean() == pytest.approx(3.0, abs=0.03)
    assert bart.span_lengths(0, 3.0, rng).tolist() == []


def test_the_target_is_the_text_between_begin_and_end(make_model, vocabulary):
    objective = BART(model=make_model(), vocabulary=vocabulary, **KNOBS)
    text = np.random.default_rng(0).choice(vocabulary.ordinary, size=objective.raw_length)
    source, target = objective.pose(text, None, np.random.default_rng(1))
    assert target.tolist() == [vocabulary.bos, *text, vocabulary.eos]
    batch = objective.arrange([[(source, target)]])
    assert batch.tokens[0, :2].tolist() == [vocabulary.eos, vocabulary.bos]
    assert batch.source.tokens[0, 0] == vocabulary.bos
    assert batch.source.tokens[0, len(source)] == vocabulary.eos


@pytest.mark.parametrize("insertions", [0, 1, 3])
def test_spans_of_no_words_insert_masks(insertions):
    got = bart.inserted(WORDS, insertions, MASK, np.random.default_rng(0))
    assert (got == MASK).sum() == insertions
    assert got[got != MASK].tolist() == WORDS.tolist()


def test_as_many_words_go_as_the_rate_says(make_model, vocabulary):
    """Where spans do not overlap, by the budget: with spans of one word, exactly."""
    objective = BART(model=make_model(), vocabulary=vocabulary, **KNOBS | {"permute": 0.0})
    spaces = np.flatnonzero(vocabulary.starts_word)[:30]
    text = np.random.default_rng(0).choice(spaces, size=62)
    shares = []
    for seed in range(300):
        source, _ = objective.pose(text, None, np.random.default_rng(seed))
        kept = (source != vocabulary.mask).sum() - 1
        shares.append(1 - kept / 62)
    assert 0.2 < np.mean(shares) <= 0.31  # overlaps remove fewer


@pytest.mark.parametrize(("words", "rate", "hidden"), [(10, 0.3, 3), (100, 0.07, 7), (3, 0.1, 1)])
def test_words_to_hide_are_counted_exactly(make_model, vocabulary, monkeypatch, words, rate, hidden):
    """In floats 100 x 0.07 is a little above 7, and its ceiling 8."""
    totals = []
    monkeypatch.setattr(bart, "span_lengths", lambda total, *_: totals.append(total) or np.ones(total, dtype=np.int64))
    objective = BART(model=make_model(), vocabulary=vocabulary, **KNOBS | {"rate": rate})
    word = np.flatnonzero(vocabulary.starts_word)[0]
    objective.infill(np.full(words, word), np.random.default_rng(0))
    assert totals == [hidden]


def test_each_length_is_a_mask(make_model, vocabulary, monkeypatch):
    """Of lengths 0, 2 and 0 one replaces two words and two are inserted."""
    monkeypatch.setattr(bart, "span_lengths", lambda *_: np.array([0, 2, 0]))
    objective = BART(model=make_model(), vocabulary=vocabulary, **KNOBS)
    text = np.flatnonzero(vocabulary.starts_word)[:10]
    got = objective.infill(text, Scripted(np.random.default_rng(0), first=3))
    assert (got == vocabulary.mask).sum() == 3
    assert got[got != vocabulary.mask].tolist() == [*text[:3], *text[5:]]


class Scripted:
    """A generator whose first permutation begins at a given place."""

    def __init__(self, rng, first):
        self.rng, self.first = rng, first

    def permutation(self, places):
        if self.first is None:
            return self.rng.permutation(places)
        order, self.first = np.roll(places, -self.first), None
        return order

    def __getattr__(self, name):
        return getattr(self.rng, name)


def test_words_of_several_tokens_are_hidden_whole(make_model, vocabulary, monkeypatch):
    """What does not begin a word goes with the one before it."""
    monkeypatch.setattr(bart, "span_lengths", lambda *_: np.array([2]))
    start, inner = (np.flatnonzero(vocabulary.starts_word == begins) for begins in (True, False))
    inner = inner[np.isin(inner, vocabulary.ordinary)]
    text = np.array([start[0], inner[0], start[1], inner[1], inner[2], start[2], inner[3]])
    objective = BART(model=make_model(), vocabulary=vocabulary, **KNOBS)
    got = objective.infill(text, Scripted(np.random.default_rng(0), first=0))
    assert got.tolist() == [vocabulary.mask, start[2], inner[3]]


def test_the_preset_is_the_paper_s():
    """30 % of the words in spans of Poisson(3), all sentences permuted; fairseq's own defaults would rotate half of the texts."""
    node = config.plain(["objective=bart"])["objective"]
    wanted = {
        "rate": 0.3,
        "mean_span": 3.0,
        "replace": "span",
        "permute": 1.0,
        "delete": 0.0,
        "rotate": 0.0,
        "swap": 0.0,
    }
    assert {name: node[name] for name in wanted} == wanted

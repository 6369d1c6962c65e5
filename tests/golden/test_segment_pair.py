"""Segment pairs: BERT's and ALBERT's worked examples, balance, and that no form tells a random segment from the next one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lmx.batch import IGNORE
from lmx.data.corpus import Documents
from lmx.data.noise import Keys
from lmx.objectives.objective import entropy
from lmx.objectives.segment_pair import SegmentPair, longest
from tests.conftest import sample

KNOBS = {
    "length": 32, "relation": "nsp", "negatives": "other_document", "short": 0.0, "select": "fixed_round", "rate": 0.15,
    "mask": 0.8, "swap": 0.1, "max_targets": None, "z_loss": 0.0,
}  # fmt: skip


@pytest.fixture
def make(make_model, vocabulary, small_corpus):
    return lambda **changes: SegmentPair(
        model=make_model(), vocabulary=vocabulary, corpus=small_corpus, **KNOBS | changes
    )


def keys(count):
    return Keys(seed=0, purpose="train", sample=np.arange(count))


def stretches(small_corpus, count, size=29):
    """Stretches of documents, with the document each is from."""
    from lmx.data.packing import Sample

    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        number = int(rng.integers(len(small_corpus.train)))
        begin = int(rng.integers(0, 59 - size))
        text = np.asarray(small_corpus.train[number][begin : begin + size], dtype=np.int64)
        found.append(Sample(text, np.zeros_like(text), np.array([number])))
    return found


def test_the_row_of_a_pair(make, vocabulary):
    a, b, c, d, e = vocabulary.ordinary[:5].tolist()
    cls, sep = vocabulary.cls, vocabulary.sep
    objective = make(rate=0.01, mask=0.0)  # one token is selected, and shown as it is
    row = objective.joined(np.array([a, b]), np.array([c, d, e]), 0.01, np.random.default_rng(0))
    assert row["tokens"].tolist() == [cls, a, b, sep, c, d, e, sep]
    assert row["segment"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert (row["targets"] != IGNORE).sum() == 1


def test_swapped_segments_keep_their_places_numbers(make, vocabulary):
    """Segment ids follow the place: the first is always 0."""
    objective = make()
    row = objective.joined(vocabulary.ordinary[2:5], vocabulary.ordinary[:2], 0.15, np.random.default_rng(0))
    assert row["segment"].tolist() == [0] * 5 + [1] * 3


@pytest.mark.parametrize("relation", ["nsp", "sop"])
def test_half_are_as_in_the_text(make, small_corpus, relation):
    batch = make(relation=relation).collate(stretches(small_corpus, 2000), keys(2000))
    asked = batch.relation[batch.relation != IGNORE].float()
    assert len(asked) > (1800 if relation == "nsp" else 1300)
    assert float(asked.mean()) == pytest.approx(0.5, abs=0.04)


def test_what_the_relation_says_is_so(make, vocabulary, small_corpus):
    """Without masking: 0 is the stretch as it stands, sop's 1 the same tokens swapped, nsp's 1 a text of another document."""
    whole = {int(number): small_corpus.train[number].tolist() for number in range(len(small_corpus.train))}
    for relation in ("nsp", "sop"):
        objective = make(relation=relation)
        for number, item in enumerate(stretches(small_corpus, 300)):
            rng = np.random.default_rng(number)
            first, second, label = objective.pair(item, small_corpus.train, rng)
            text = item.tokens.tolist()
            if relation == "sop":
                text = objective.sentences(item.tokens).tolist() or text
            if label == 0:
                assert [*first, *second] == text
            elif relation == "sop" and label == 1:
                assert [*second, *first] == text
            elif label == 1:
                others = [number for number in whole if number != item.documents[0]]
                assert any(contains(whole[number], second.tolist()) for number in others)
                assert [*first] == text[: len(first)]
            assert len(first) + len(second) == len(text)


@pytest.mark.parametrize(("negatives", "near"), [("other_document", 8), ("near_document", 2), ("same_document", 0)])
def test_where_random_segments_are_from(make, small_corpus, monkeypatch, negatives, near):
    """Any document but the text's own; one of the `near` ones on either side; or its own. All that may be drawn is drawn."""
    monkeypatch.setattr("lmx.objectives.segment_pair.NEAR", 2)
    objective, found = make(negatives=negatives), set()
    whole = [small_corpus.train[number].tolist() for number in range(8)]
    for number, item in enumerate(stretches(small_corpus, 500)):
        _first, second, label = objective.pair(item, small_corpus.train, np.random.default_rng(number))
        if label == 1 and len(second) > 4:  # fewer tokens may stand in several
            (source,) = [number for number in range(8) if contains(whole[number], second.tolist())]
            found.add((int(item.documents[0]), source))
    distance = range(1, near + 1) if near else [0]
    assert found == {(a, b) for a in range(8) for b in range(8) if abs(a - b) in distance}


def test_the_next_segment_is_never_called_random(make, vocabulary):
    """Of the same document, the text that follows would be drawn, too; of another, the same words."""
    stop = int(np.flatnonzero(vocabulary.ends_sentence)[0])
    a, b, c = vocabulary.encode("abc").tolist()
    text = np.array([a, stop, b, stop, c, stop, vocabulary.eos])
    documents = Documents(tokens=np.tile(text, 2), offsets=np.array([0, 7, 14]), bytes=np.full(2, 6))
    for negatives in ("same_document", "near_document", "other_document"):
        objective = make(negatives=negatives)
        drawn = [
            objective.random_segment(documents, 0, text[2:4], np.random.default_rng(seed)).tolist()
            for seed in range(50)
        ]
        assert {tuple(part) for part in drawn} == {(a, stop), (c, stop)}


def contains(text, part):
    return any(text[place : place + len(part)] == part for place in range(len(text) - len(part) + 1))


def test_neither_length_nor_ending_gives_the_relation_away(make, vocabulary, small_corpus):
    objective = make()
    ends, sizes = {0: [], 1: []}, {0: [], 1: []}
    for number, item in enumerate(stretches(small_corpus, 3000)):
        _first, second, label = objective.pair(item, small_corpus.train, np.random.default_rng(number))
        ends[label].append(bool(vocabulary.ends_sentence[second[-1]]))
        sizes[label].append(len(second))
    assert np.mean(ends[0]) == pytest.approx(np.mean(ends[1]), abs=0.05)
    assert np.mean(sizes[0]) == pytest.approx(np.mean(sizes[1]), abs=0.8)


def test_only_words_give_the_order_away(make, vocabulary, small_corpus):
    """Both segments are whole sentences, swapped or not: a cut one would show where the stretch began or ended."""
    objective = make(relation="sop")
    labels = []
    for number, item in enumerate(stretches(small_corpus, 500)):
        first, second, label = objective.pair(item, small_corpus.train, np.random.default_rng(number))
        if label == IGNORE:
            continue
        labels.append(label)
        text = item.tokens.tolist()
        for segment in (first.tolist(), second.tolist()):
            begins = [place for place in range(1, len(text)) if text[place : place + len(segment)] == segment]
            assert any(vocabulary.ends_sentence[text[place - 1]] for place in begins)
            assert vocabulary.ends_sentence[segment[-1]]
    assert len(labels) > 300
    assert 0.4 < np.mean(labels) < 0.6


def test_one_sentence_has_no_order(make, vocabulary, small_corpus):
    words = vocabulary.ordinary[~vocabulary.ends_sentence[vocabulary.ordinary]]
    text = sample(list(np.random.default_rng(0).choice(words, size=29)))
    assert make(relation="sop").pair(text, small_corpus.train, np.random.default_rng(0))[2] == IGNORE
    assert make(relation="nsp").pair(text, small_corpus.train, np.random.default_rng(0))[2] == 1


def test_the_control_has_the_format_and_no_question(make, make_model, small_corpus):
    objective = make(relation="none")
    batch = objective.collate(stretches(small_corpus, 8), keys(8))
    assert set(objective.counts(batch)) == {"loss"}
    assert (batch.relation == IGNORE).all()
    assert batch.segment.max() == 1
    assert not any("judge" in name for name, _ in objective.named_parameters())


def test_the_longest_document_of_a_sample_is_read(vocabulary):
    end = vocabulary.eos
    a, b = vocabulary.ordinary[:3].tolist(), vocabulary.ordinary[3:10].tolist()
    text, document = longest(sample([*a, end], b), end)
    assert (text.tolist(), document) == (b, 1)


def test_training_reads_training_documents_and_validation_its_own(make, vocabulary, small_corpus):
    objective = make()
    held_out = objective.collate(stretches(small_corpus, 64), Keys(seed=0, purpose="validation", sample=np.arange(64)))
    objective.corpus = small_corpus.__class__(**vars(small_corpus) | {"validation": small_corpus.train})
    leaking = objective.collate(stretches(small_corpus, 64), Keys(seed=0, purpose="validation", sample=np.arange(64)))
    assert not (held_out.tokens == leaking.tokens).all()


def test_segments_are_told_apart(make, make_model, small_corpus):
    objective, model = make(), make_model()
    batch = objective.collate(stretches(small_corpus, 1), keys(1))
    with torch.no_grad():
        a, b = (
            objective.hidden(model, replace(batch, segment=segment)) for segment in (batch.segment, 1 - batch.segment)
        )
    assert (a - b).abs().amax(-1).min() > 1e-4


def test_some_pairs_are_short(make, small_corpus):
    """A share of `short` is cut to a length drawn from 2 on."""
    given = stretches(small_corpus, 400)
    for share, mean in ((0.0, 29), (1.0, 15.5)):
        objective = make(short=share, relation="none")
        pairs = [
            objective.pair(item, small_corpus.train, np.random.default_rng(seed)) for seed, item in enumerate(given)
        ]
        sizes = [len(first) + len(second) for first, second, _ in pairs]
        assert np.mean(sizes) == pytest.approx(mean, abs=1.5)
        assert min(sizes) >= 2


def test_segments_begin_as_small_as_tokens(make):
    assert float(make().segments.weight.std()) == pytest.approx(0.3 * 32**-0.5, rel=0.3)


def test_how_many_answers_are_right(make, make_model, small_corpus):
    """A judge that always says the same is right about its share, at the price of ln 2 where it says so by a hair."""
    objective, model = make(relation="sop"), make_model()
    batch = objective.collate(stretches(small_corpus, 64), keys(64))
    with torch.no_grad():
        objective.judge.weight.zero_()
        for says in (0, 1):
            objective.judge.bias.copy_(torch.tensor([0.0, 1e-4 if says else -1e-4]))
            losses, counts = objective(model, batch), objective.counts(batch)
            assert float(losses["accuracy"]) == int((batch.relation == says).sum()) > 0
            assert float(losses["relation"]) == pytest.approx(int(counts["relation"]) * np.log(2), rel=1e-3)
    assert int(counts["accuracy"]) == int(counts["relation"]) == int((batch.relation != IGNORE).sum()) < 64
    assert objective.weights["accuracy"] == 0


def test_what_a_base_rate_costs():
    assert entropy(0.5) == pytest.approx(np.log(2))
    assert entropy(0.1) == pytest.approx(-0.1 * np.log(0.1) - 0.9 * np.log(0.9))
    assert entropy(0.0) == entropy(1.0) == 0

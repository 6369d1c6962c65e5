"""Candidates have no shortcut, gaps are asked as they should be, and who always knows or never knows gets 1 or 1 / K."""

import json

import numpy as np
import pytest
import torch

from lmx.build import build
from lmx.config import load
from lmx.data.noise import generator
from lmx.errors import DataError
from lmx.evals.cloze import Cloze, Slot, error, first
from lmx.evals.gaps import Gap, ends, last, middle, posed, shortened, stands
from lmx.evals.ngram import Ngrams
from lmx.evals.scoring import Following
from lmx.evals.yardstick import Subject
from lmx.train.learner import Learner

SMALL = [
    "model=nano",
    "model.width=32",
    "model.heads=2",
    "model.kv_heads=1",
    "model.mlp=48",
    "model.depth=2",
    "length=128",
]
WORDS = str.split(
    "river stone cloud horse table bread light night plant water house field storm chair smile youth truth"
)


def silent(phase: str, share: float | None) -> None:
    pass


def passage(seed: int, answered: bool = True) -> str:
    """Random words; the last one stands in it before, or does not."""
    words = generator(seed, "test").permutation(WORDS)[:12].tolist()
    return " ".join([*words, words[3] if answered else "grain"])


@pytest.fixture
def make(vocabulary, small_corpus):
    def subject(objective: str, *more: str) -> Subject:
        torch.manual_seed(0)
        node = load([f"objective={objective}", *SMALL, *more])
        model = build(node["model"], vocabulary_size=vocabulary.size)
        made = build(node["objective"], length=128, model=model, vocabulary=vocabulary, corpus=small_corpus)
        learner = Learner(model, made).eval()
        device = torch.device("cpu")
        return Subject(
            learner=learner, corpus=small_corpus, device=device, length=128, seed=0, untrained=lambda: learner
        )

    return subject


@pytest.fixture
def path(tmp_path) -> str:
    file = tmp_path / "passages.txt"
    file.write_text("\n".join(f"{passage(seed)}." for seed in range(12)))
    return str(file)


def yardstick(**knobs) -> Cloze:
    given = {"path": None, "split": "test", "passages": 8, "tokens": 96, "candidates": 3, "phrase": 2}
    return Cloze(**given | knobs)


@pytest.fixture
def ngrams(small_corpus, vocabulary) -> Ngrams:
    return Ngrams.count(small_corpus.train.tokens, vocabulary.size)


@pytest.mark.parametrize("answered", [True, False])
def test_candidates_have_one_length_and_none_was_there_alone(vocabulary, ngrams, answered):
    texts = [f"market season {passage(seed, answered)}" for seed in range(12)]
    gaps = [gap for text in texts for gap in last(text, 1)]
    if not answered:  # other passages' answers are the candidates, some of them longer, or in the passage
        others = str.split("glass flood crown sword shelf grape market season river stone cloud horse")
        gaps += [Gap(before="The " + " ".join(WORDS[:12]), answer=other) for other in others]
    found = posed(gaps, vocabulary, ngrams, number=9, candidates=4, most=120)
    assert len(found) == 9
    for item in found:
        words = [vocabulary.decode(text[item.start : item.stop]).strip() for text in item.texts]
        assert len(set(words)) == 4
        assert len({len(text) for text in item.texts}) == 1
        assert len({stands(word, vocabulary.decode(item.texts[0][: item.start])) for word in words}) == 1
        assert len({text[: item.start].tobytes() for text in item.texts}) == 1


def test_gaps():
    assert list(last("We came to this great nation", 1)) == [Gap(before="We came to this great", answer="nation")]
    assert list(last("We came to this great nation", 2)) == [Gap(before="We came to this", answer="great nation")]
    assert list(last("We came in 1861", 1)) == []
    assert list(last("to this great, free nation", 3)) == []
    assert list(middle("We came to this great nation, which is free")) == [
        Gap(before="We came to this", answer="great", after=" nation, which is free")
    ]
    assert list(middle("We are in")) == []


def test_ends_of_sentences(vocabulary):
    text = "The nation is one. We love this nation. It is free! No end here, my nation"
    assert list(ends(iter([text]), vocabulary, 200)) == ["The nation is one. We love this nation"]
    assert list(ends(iter([text]), vocabulary, 20)) == [], "it no longer stands in it before"


def test_shortened_at_a_word(vocabulary):
    assert list(shortened(["We meet here tonight", "We"], vocabulary, 14)) == ["here tonight", "We"]


def test_ties_and_errors():
    assert first(np.array([[1.0, 2, 3], [2, 1, 3], [1, 1 + 1e-6, 3], [5, 5, 5]])).tolist() == [1, 0, 0.5, 1 / 3]
    assert error(np.array([0.0, 1.0])) == pytest.approx(0.5)
    assert error(np.ones(1)) is None


@pytest.mark.parametrize(
    ("objective", "asked"),
    [
        ("clm", {"word": {"causal"}, "slot": {"causal"}}),
        ("mlm", {"word": {"l2r_fill"}, "slot": {"pll_word_l2r"}}),
        ("mlm_uniform", {"word": {"l2r_fill"}, "slot": {"pll_word_l2r"}}),
        ("electra", {"word": {"detector"}, "slot": {"detector"}}),
        ("ul2", {"word": {"prefix", "l2r_fill"}, "slot": {"prefix", "span_word_l2r"}}),
    ],
)
def test_rows_of_each_scorer(make, path, objective, asked):
    subject = make(objective)
    found = yardstick(path=path)(subject, silent)
    assert found == yardstick(path=path)(subject, silent), "deterministic"
    for task, names in asked.items():
        assert {row.scorer for row in found if row.task == task} == names
    for row in found:
        assert row.items == 8
        assert row.floor is not None
        assert row.metric == "surprisal" or (0 <= row.value <= 1 and row.floor >= 1 / 3)
    assert not [row for row in found if row.metric == "surprisal" and (row.task == "slot" or row.scorer == "detector")]


def test_who_knows_nothing_is_at_chance(make, path):
    subject = make("clm")
    torch.nn.init.zeros_(subject.learner.objective.head.weight)
    rows = {(row.task, row.metric): row for row in yardstick(path=path)(subject, silent)}
    assert rows["word", "accuracy"].value == pytest.approx(1 / 3)
    assert rows["word", "surprisal"].value == pytest.approx(6 * np.log(subject.corpus.vocabulary.size))


def test_who_knows_the_answers_is_always_right(make, path, monkeypatch):
    subject = make("clm")
    right = {subject.corpus.vocabulary.encode(passage(seed)).tobytes() for seed in range(12)}
    monkeypatch.setattr(
        Following,
        "__call__",
        lambda self, texts, contexts, report: np.array([float(text.tobytes() not in right) for text in texts]),
    )
    found = yardstick(path=path)(subject, silent)
    assert {row.task: row.value for row in found if row.metric == "accuracy"} == {"word": 1, "phrase": 1, "slot": 1}


def test_a_slot_is_seen_from_both_sides(make, vocabulary):
    """The tokens of the slot alone are hidden, from the left to the right."""
    subject = make("mlm", "objective.wrap=false")
    text, total = vocabulary.encode("We meet here tonight"), 0.0
    for place in (3, 4, 5, 6):
        hidden = (np.arange(len(text)) >= place) & (np.arange(len(text)) < 7)
        batch = subject.learner.objective.hiding([text], [hidden])
        with torch.no_grad():
            total += float(subject.learner.objective.nats(subject.learner.model, batch)[0, place])
    assert Slot(subject)([text], [(3, 7)], silent)[0] == pytest.approx(total, rel=1e-5)


def test_lambada_as_json_lines(make, tmp_path):
    file = tmp_path / "lambada.jsonl"
    file.write_text("\n".join(json.dumps({"text": passage(seed)}) for seed in range(5)))
    rows = yardstick(path=str(file), passages=4)(make("clm"), silent)
    assert {row.items for row in rows if row.task == "word"} == {4}
    file.write_text('{"passage": "no text"}')
    with pytest.raises(DataError, match="line 1: no field 'text'"):
        yardstick(path=str(file))(make("clm"), silent)


def test_a_corpus_without_sentences_has_no_rows(make):
    assert yardstick()(make("clm"), silent) == []

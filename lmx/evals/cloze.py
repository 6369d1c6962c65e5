"""Cloze: which of some words, or phrases, stands in a gap of a passage. How gaps and candidates are chosen is in gaps.py.

    word     the last word, given what is before it, as in LAMBADA (Paperno et al. 2016, arXiv:1606.06031)
    phrase   the last words
    slot     a word near the middle, given both sides. Who reads from left to right is asked for the rest of the passage with
             each candidate; who restores hidden tokens, for the candidate alone, each token with those after it hidden

Passages: plain lines or rows with `text`; without a path, held-out text up to the end of a sentence whose last word stands in it
before. The surprisal is -log p of the right word or phrase, from scorers that tell it.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from annotated_types import Interval

from lmx.data.files import checked
from lmx.evals.gaps import Item, ends, last, middle, posed, shortened
from lmx.evals.ngram import Ngrams
from lmx.evals.records import items
from lmx.evals.scoring import Asker, Question, Scorer, scorers
from lmx.evals.texts import longest
from lmx.evals.yardstick import Report, Row, Subject, Yardstick

TIE = 1e-4  # nats; sums in fp32 tell no finer
CLOSING = " \t\"'.,!?”’"  # after the last word of a passage


class Cloze(Yardstick):
    def __init__(
        self,
        *,
        path: str | None,
        split: str,
        passages: Annotated[int, Interval(ge=2, le=2**20)],
        tokens: Annotated[int, Interval(ge=16, le=2**20)],
        candidates: Annotated[int, Interval(ge=2, le=100)],
        phrase: Annotated[int, Interval(ge=2, le=20)],
    ):
        self.path, self.split, self.passages, self.tokens = path, split, passages, tokens
        self.candidates, self.phrase = candidates, phrase

    def __call__(self, subject: Subject, report: Report) -> Sequence[Row]:
        report("reading passages", None)
        vocabulary, most = subject.corpus.vocabulary, min(self.tokens, longest(subject))
        ngrams = Ngrams.count(subject.corpus.train.tokens, vocabulary.size)
        texts = self.read(subject, most)
        tasks = {
            "word": [gap for text in texts for gap in last(text, 1)],
            "phrase": [gap for text in texts for gap in last(text, self.phrase)],
            "slot": [gap for text in texts for gap in middle(text)],
        }
        found = []
        for number, (task, gaps) in enumerate(tasks.items()):
            asked = posed(gaps, vocabulary, ngrams, number=self.passages, candidates=self.candidates, most=most)
            fitting = scorers_of(subject, task) if asked else []
            for turn, scorer in enumerate(fitting):
                began = number + turn / len(fitting)

                def share(_: str, part: float | None, began: float = began, size: int = len(fitting)) -> None:
                    report("", (began + (part or 0.0) / size) / len(tasks))

                found += rows(task, scorer, asked, nats(subject, task, scorer, asked, share), ngrams)
        return found

    def read(self, subject: Subject, most: int) -> list[str]:
        """Passages without what follows their last word. Raises DataError."""
        vocabulary, held_out = subject.corpus.vocabulary, subject.corpus.validation
        if self.path is None:
            documents = (vocabulary.decode(held_out[number]) for number in range(len(held_out)))
            return list(ends(documents, vocabulary, most))
        return list(shortened(self.given(self.path), vocabulary, most))

    def check(self) -> None:
        if self.path is not None:
            self.given(self.path)

    def given(self, path: str) -> list[str]:
        rows = items("cloze", path, self.split, needs="text")
        return [checked(row, "text", where, advice="").rstrip(CLOSING) for where, _, row in rows]


def scorers_of(subject: Subject, task: str) -> list[Scorer]:
    """Without the bound: each candidate would have noise of its own."""
    return [scorer for scorer in scorers(subject, whole=task == "slot") if scorer.name != "bound"]


def nats(subject: Subject, task: str, scorer: Scorer, asked: Sequence[Item], report: Report) -> np.ndarray:
    """[N, K], lower is more likely"""
    texts = [text for item in asked for text in item.texts]
    owners = [item for item in asked for _ in item.texts]
    if task == "slot" and scorer.name == subject.learner.objective.hides:
        found = Slot(subject)(texts, [(item.start, item.stop) for item in owners], report)
    else:
        found = scorer.score(texts, [item.start for item in owners], report)
    return found.reshape(len(asked), -1)


class Slot(Asker):
    """One question for each token from start to stop: it and those after it up to stop are hidden."""

    def __call__(self, texts: Sequence[np.ndarray], gaps: Sequence[tuple[int, int]], report: Report) -> np.ndarray:
        questions, owners = [], []
        for number, (text, (start, stop)) in enumerate(zip(texts, gaps, strict=True)):
            where = np.arange(len(text))
            for place in range(start, stop):
                questions.append(Question(text=text, hidden=(where >= place) & (where < stop)))
                owners.append(number)
        first = [row[0] for row in self.answers(questions, report)]
        return np.bincount(owners, weights=first, minlength=len(texts))


def rows(task: str, scorer: Scorer, asked: Sequence[Item], found: np.ndarray, ngrams: Ngrams) -> list[Row]:
    """Of the nats [N, K]: how often the right one is first of K, and what it costs where that is -log p."""
    frequency = np.array([[ngrams.unigram_nats(text[item.start : item.stop]) for text in item.texts] for item in asked])
    floors = {"chance": 1 / found.shape[1], "unigram": float(first(frequency).mean())}
    best = max(floors, key=lambda name: (round(floors[name], 9), name == "chance"))
    accuracy = Row(
        task=task,
        metric="accuracy",
        scorer=scorer.name,
        value=float(first(found).mean()),
        error=error(first(found)),
        items=len(asked),
        floor=floors[best],
        floor_name=best,
        unit="share",
        better="higher",
        comparability="D",
    )
    if task == "slot" or not scorer.code_length:
        return [accuracy]
    surprisal = Row(
        task=task,
        metric="surprisal",
        scorer=scorer.name,
        value=float(found[:, 0].mean()),
        error=error(found[:, 0]),
        items=len(asked),
        floor=float(frequency[:, 0].mean()),
        floor_name="unigram",
        unit="nats",
        better="lower",
        comparability=scorer.comparability,
    )
    return [accuracy, surprisal]


def first(nats: np.ndarray) -> np.ndarray:
    """[N, K] -> [N]: 1 where column 0 is the lowest, its share of a tie, or 0."""
    lowest = nats <= nats.min(axis=1, keepdims=True) + TIE
    return lowest[:, 0] / lowest.sum(axis=1)


def error(values: np.ndarray) -> float | None:
    """Standard error of the mean over items."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None

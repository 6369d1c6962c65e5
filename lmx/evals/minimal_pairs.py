"""How often a model finds the acceptable sentence of a pair more likely than one that differs from it in a point of grammar.

BLiMP (Warstadt et al. 2020, arXiv:1912.00582), or any rows with `sentence_good` and `sentence_bad`; without a path, the
pairs of lmx/evals/grammar.py. All of a sentence is scored: the sum of nats of its tokens, after end of text. A tie is half a
point. The whole is the mean of the phenomena, each of the same weight. The margin is the continuous companion: how many nats
the acceptable sentence is ahead of the other, in the mean; it moves before the accuracy does.

The floor is the best of what knows no grammar: guessing, the unigram, and "the sentence of fewer tokens is right".
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Interval

from lmx.data.files import checked
from lmx.evals.grammar import Pair, embedded
from lmx.evals.ngram import Ngrams
from lmx.evals.records import items
from lmx.evals.scoring import Scorer, scorers
from lmx.evals.texts import longest
from lmx.evals.yardstick import Report, Row, Subject, Yardstick

TIE = 1e-4  # nats; sums in fp32 tell no finer

Values = Mapping[str, np.ndarray]  # phenomenon -> one number a pair


@dataclass(frozen=True)
class Phenomenon:
    """Sentences as tokens; pair n is good[n] and bad[n]."""

    good: Sequence[np.ndarray]
    bad: Sequence[np.ndarray]


class MinimalPairs(Yardstick):
    def __init__(
        self,
        *,
        path: str | None,
        split: str,
        phenomenon: str,
        pairs: Annotated[int, Interval(ge=2, le=2**20)],
    ):
        self.path, self.split, self.phenomenon, self.pairs = path, split, phenomenon, pairs

    def __call__(self, subject: Subject, report: Report) -> Sequence[Row]:
        report("reading pairs", None)
        phenomena = self.encoded(subject)
        heuristics = ignorant(subject, phenomena)
        asked = scorers(subject, whole=True) if phenomena else []
        found = []
        for number, scorer in enumerate(asked):

            def share(_: str, part: float | None, number: int = number, name: str = scorer.name) -> None:
                report(name, (number + (part or 0.0)) / len(asked))

            found += rows(scorer, differences(scorer, phenomena, share), heuristics)
        return found

    def check(self) -> None:
        if self.path is not None:
            for _ in self.read():
                pass

    def encoded(self, subject: Subject) -> dict[str, Phenomenon]:
        """Without the pairs that have a sentence longer than what the model reads."""
        vocabulary, most = subject.corpus.vocabulary, longest(subject)
        found = {}
        for name, pairs in self.chosen().items():
            good = vocabulary.encode_batch([pair.good for pair in pairs])
            bad = vocabulary.encode_batch([pair.bad for pair in pairs])
            kept = [pair for pair in zip(good, bad, strict=True) if all(0 < len(text) <= most for text in pair)]
            if kept:
                found[name] = Phenomenon(*zip(*kept, strict=True))
        return found

    def chosen(self) -> dict[str, list[Pair]]:
        """phenomenon -> at most `pairs` of its pairs, evenly spread over what there is."""
        groups = defaultdict(list)
        for pair in self.read():
            groups[pair.phenomenon].append(pair)
        spread = {name: np.linspace(0, len(group) - 1, min(self.pairs, len(group))) for name, group in groups.items()}
        return {name: [groups[name][place] for place in places.round().astype(int)] for name, places in spread.items()}

    def read(self) -> Iterator[Pair]:
        """Raises DataError for rows that are no pairs."""
        if self.path is None:
            yield from embedded(self.pairs)
            return
        for where, part, row in items("minimal_pairs", self.path, self.split, needs="sentence_good"):
            good, bad = (checked(row, f"sentence_{name}", where, advice="") for name in ("good", "bad"))
            yield Pair(phenomenon=str(row.get(self.phenomenon, part)), good=good, bad=bad)


def differences(scorer: Scorer, phenomena: Mapping[str, Phenomenon], report: Report) -> Values:
    """Nats by which the acceptable sentences are ahead."""
    found = {}
    for number, (name, texts) in enumerate(phenomena.items()):

        def share(_: str, part: float | None, number: int = number) -> None:
            report("", (number + (part or 0.0)) / len(phenomena))

        size = len(texts.good)
        nats = scorer.score([*texts.good, *texts.bad], [0] * 2 * size, share)
        found[name] = nats[size:] - nats[:size]
    return found


def ignorant(subject: Subject, phenomena: Mapping[str, Phenomenon]) -> dict[str, Values]:
    """name -> what those that know no grammar would have for differences."""
    ngrams = Ngrams.count(subject.corpus.train.tokens, subject.corpus.vocabulary.size)

    def apart(size) -> Values:
        return {
            name: np.array([size(bad) - size(good) for good, bad in zip(texts.good, texts.bad, strict=True)])
            for name, texts in phenomena.items()
        }

    return {
        "chance": {name: np.zeros(len(texts.good)) for name, texts in phenomena.items()},
        "unigram": apart(ngrams.unigram_nats),
        "shorter": apart(len),
    }


def rows(scorer: Scorer, ahead: Values, heuristics: Mapping[str, Values]) -> list[Row]:
    """Accuracy and margin, of all and then of each phenomenon."""
    right = {name: wins(values) for name, values in ahead.items()}
    guesses = {rule: {name: wins(values) for name, values in found.items()} for rule, found in heuristics.items()}
    margins = {rule: found for rule, found in heuristics.items() if rule != "shorter"}  # tokens are no nats
    exact = "A" if scorer.comparability == "A" else "C"  # a difference of bounds is no bound
    found = []
    for task in ["", *ahead]:
        names = [task] if task else list(ahead)
        found.append(row(scorer, task, names, right, guesses, metric="accuracy", unit="share", comparability="D"))
        found.append(row(scorer, task, names, ahead, margins, metric="margin", unit="nats", comparability=exact))
    return found


def row(
    scorer: Scorer,
    task: str,
    names: Sequence[str],
    values: Values,
    references: Mapping[str, Values],
    *,
    metric: str,
    unit: str,
    comparability: Literal["A", "C", "D"],
) -> Row:
    """The mean of the means of these phenomena, beside the best of the references."""
    floors = {rule: mean(names, reference) for rule, reference in references.items()}
    best = max(floors, key=lambda rule: (round(floors[rule], 9), rule == "chance"))
    return Row(
        task=task,
        metric=metric,
        scorer=scorer.name,
        value=mean(names, values),
        error=error(names, values),
        items=sum(len(values[name]) for name in names),
        floor=floors[best],
        floor_name=best,
        unit=unit,
        better="higher",
        comparability=comparability,
    )


def wins(ahead: np.ndarray) -> np.ndarray:
    """1 where the acceptable sentence is ahead, 1/2 in a tie, 0 where it is behind."""
    return (ahead > TIE) + 0.5 * (np.abs(ahead) <= TIE)


def mean(names: Sequence[str], values: Values) -> float:
    return float(np.mean([values[name].mean() for name in names]))


def error(names: Sequence[str], values: Values) -> float | None:
    """Standard error over pairs of the mean of means."""
    if any(len(values[name]) < 2 for name in names):
        return None
    return float(np.sqrt(sum(values[name].var(ddof=1) / len(values[name]) for name in names)) / len(names))

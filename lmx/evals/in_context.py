"""What a model makes of what it has read: the in-context learning score, and copying of random tokens.

The ICL score is the loss at the 500th token of a passage less that at the 50th (Olsson et al. 2022, arXiv:2209.11895): the
more negative, the more use is made of 450 further tokens. Here both are means over a window of places. Where a model reads
fewer tokens, the places are at .9 and .09 of what it reads, and the row's task is `scaled`. A model that restores hidden tokens
is asked for the same place, with it and everything to the right hidden, so that it has the same context.

Copying: random tokens twice, a b c … a b c …. What a prediction gains in the second copy is the loss

    left to right     in the first copy, less that in the second, the first token of both left out
    from both sides   of tokens that are hidden in both copies, less that of the same tokens hidden in the second alone
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import numpy as np
from annotated_types import Interval

from lmx.data.noise import generator
from lmx.data.selection import without_replacement
from lmx.evals.ngram import Ngrams
from lmx.evals.scoring import Asker, Question
from lmx.evals.texts import longest, passages, symbols
from lmx.evals.yardstick import Report, Row, Subject, Yardstick

EARLY, LATE = 0.09, 0.9  # of the passage, where it is too short for the places that were asked for
HIDDEN = 0.15  # of the random tokens, for models that restore hidden ones
SHORTEST = 16  # tokens of a passage that still has an early and a late place

Losses = Callable[[Sequence[np.ndarray], Sequence[int], Report], np.ndarray]  # texts, P places -> nats [N, P]


class InContext(Yardstick):
    def __init__(
        self,
        *,
        passages: Annotated[int, Interval(ge=2, le=2**20)],
        early: Annotated[int, Interval(ge=1, le=2**20)],
        late: Annotated[int, Interval(ge=2, le=2**20)],
        window: Annotated[int, Interval(ge=1, le=2**16)],
        repeated: Annotated[int, Interval(ge=2, le=2**16)],
        copies: Annotated[int, Interval(ge=2, le=2**20)],
    ):
        self.passages, self.early, self.late, self.window = passages, early, late, window
        self.repeated, self.copies = repeated, copies

    def __call__(self, subject: Subject, report: Report) -> Sequence[Row]:
        return [*self.scores(subject, report), *self.copying(subject, report)]

    def scores(self, subject: Subject, report: Report) -> list[Row]:
        texts = self.texts(subject)
        if len(texts) < 2:
            return []
        task, early, late = self.places(len(texts[0]))
        shares = Ngrams.count(subject.corpus.train.tokens, subject.corpus.vocabulary.size).unigram
        tokens = np.stack(texts)
        unigram = -np.log(shares[tokens[:, late]]).mean() + np.log(shares[tokens[:, early]]).mean()
        found = []
        for scorer, losses in askers(subject).items():
            nats = losses(texts, [*early, *late], report)
            gaps = nats[:, len(early) :].mean(1) - nats[:, : len(early)].mean(1)
            found.append(row(gaps, "icl_score", scorer, "lower", task, float(unigram), "unigram"))
        return found

    def texts(self, subject: Subject) -> list[np.ndarray]:
        """As long as the places need or the model allows; shorter where documents are."""
        size = min(self.late + self.window, longest(subject))
        while len(found := passages(subject, self.passages, size)) < 2 and size >= 2 * SHORTEST:
            size //= 2
        return found

    def places(self, size: int) -> tuple[str, list[int], list[int]]:
        """task, early and late places, each a window: a token there has so many before it."""
        if self.late + self.window <= size:
            task, early, late, width = "", self.early, self.late, self.window
        else:
            task, early, late = "scaled", round(EARLY * size), round(LATE * size)
            width = min(self.window, max(1, size // SHORTEST))
        before = width // 2
        return task, [*range(early - before, early - before + width)], [*range(late - before, late - before + width)]

    def copying(self, subject: Subject, report: Report) -> list[Row]:
        size = min(self.repeated, longest(subject) // 2)
        made = [generator(0, "copying", number).choice(symbols(subject), size) for number in range(self.copies)]
        texts = [np.tile(one, 2) for one in made]
        objective, found = subject.learner.objective, []
        if objective.follows:
            nats = np.stack(Asker(subject).answers([Question(text=text) for text in texts], report))
            gains = nats[:, 1:size].mean(1) - nats[:, size + 1 :].mean(1)
            found.append(row(gains, "copy_gain", objective.follows, "higher", "", 0.0, "no copying"))
        if objective.hides:
            gains = restored(subject, texts, report)
            found.append(row(gains, "copy_gain", hider(subject), "higher", "", 0.0, "no copying"))
        return found


def row(
    values: np.ndarray,
    metric: str,
    scorer: str,
    better: Literal["higher", "lower"],
    task: str,
    floor: float,
    floor_name: str,
) -> Row:
    """The mean over items, in nats."""
    return Row(
        task=task,
        metric=metric,
        scorer=scorer,
        value=float(values.mean()),
        error=float(values.std(ddof=1) / len(values) ** 0.5),
        items=len(values),
        floor=floor,
        floor_name=floor_name,
        unit="nats",
        better=better,
        comparability="D",
    )


def askers(subject: Subject) -> dict[str, Losses]:
    """Name of the scorer -> the loss of single tokens, given those before them."""
    objective, asker = subject.learner.objective, Asker(subject)

    def followed(texts: Sequence[np.ndarray], places: Sequence[int], report: Report) -> np.ndarray:
        return np.stack(asker.answers([Question(text=text) for text in texts], report))[:, places]

    def filled(texts: Sequence[np.ndarray], places: Sequence[int], report: Report) -> np.ndarray:
        questions = [Question(text=text, hidden=np.arange(len(text)) >= place) for text in texts for place in places]
        first = [found[0] for found in asker.answers(questions, report)]
        return np.array(first).reshape(len(texts), len(places))

    having = {objective.follows: followed, "l2r_fill" if objective.hides else "": filled}
    return {name: ask for name, ask in having.items() if name}


def hider(subject: Subject) -> str:
    """How hidden tokens are asked for when they are asked all at once, not word by word."""
    return subject.learner.objective.hides.removesuffix("_word_l2r")


def restored(subject: Subject, texts: Sequence[np.ndarray], report: Report) -> np.ndarray:
    """[N] what hidden tokens of the second copy gain from being shown in the first, nats a token"""
    questions = []
    for number, text in enumerate(texts):
        size = len(text) // 2
        chosen = without_replacement(
            np.ones(size, dtype=bool), max(1, round(HIDDEN * size)), generator(0, "hidden", number)
        )
        for first in (chosen, np.zeros_like(chosen)):
            questions.append(Question(text=text, hidden=np.concatenate([first, chosen])))
    answers = Asker(subject).answers(questions, report)
    both, second = answers[::2], answers[1::2]
    return np.array([hard[len(easy) :].mean() - easy.mean() for hard, easy in zip(both, second, strict=True)])

"""Every model on every denoiser that it can be asked: the loss on the same held-out tokens, whatever it was trained on.

    causal            each token after those before it
    prefix 50%        each token of the second half after those before it, the first half read in the objective's own way
    mask 15%          single tokens, hidden at random
    span 15%/3        spans of a mean of three tokens, hidden at random (Raffel et al. 2020)

The noise is a function of the passage, so that all models are asked for the same tokens. How a model is asked is its own: one
that masks fills in all hidden tokens at once, one that writes spans knows the tokens before. So the figures are read along a
row, which denoisers a training transfers to, and never ranked across models. The floor is the unigram's on the same tokens.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from annotated_types import Gt, Interval, Len

from lmx.data.noise import generator
from lmx.data.selection import budget, without_replacement
from lmx.data.spans import random_spans
from lmx.evals.in_context import hider
from lmx.evals.likelihood import ratio_error
from lmx.evals.ngram import Ngrams
from lmx.evals.scoring import Asker, Question
from lmx.evals.texts import passages
from lmx.evals.yardstick import Report, Row, Subject, Yardstick

Rate = Annotated[float, Interval(gt=0, lt=1)]


class Cross(Yardstick):
    def __init__(
        self,
        *,
        passages: Annotated[int, Interval(ge=2, le=2**20)],
        tokens: Annotated[int, Interval(ge=8, le=384)],  # more hidden runs would be more than there are sentinels
        prefixes: list[Annotated[float, Interval(ge=0, lt=1)]],
        masks: list[Rate],
        spans: list[Annotated[list[Annotated[float, Gt(0)]], Len(2, 2)]],
    ):
        self.passages, self.tokens = passages, tokens
        self.prefixes, self.masks, self.spans = prefixes, masks, spans

    def __call__(self, subject: Subject, report: Report) -> Sequence[Row]:
        texts = passages(subject, self.passages, self.tokens)
        asker, objective = Asker(subject), subject.learner.objective
        asked: list[tuple[str, str, list[Question]]] = []
        if objective.follows:
            asked += [(task, objective.follows, found) for task, found in self.followed(texts).items()]
        if objective.hides:
            asked += [(task, hider(subject), found) for task, found in self.hidden(texts).items()]
        if len(texts) < 2:
            return []
        ngrams = Ngrams.count(subject.corpus.train.tokens, subject.corpus.vocabulary.size)
        rows = []
        for number, (task, scorer, questions) in enumerate(asked):
            report(task, number / len(asked))
            answers = asker.answers(questions, lambda phase, share: None)
            rows.append(row(task, scorer, answers, [ngrams.unigram_nats(wanted(one)) for one in questions]))
        return rows

    def followed(self, texts: Sequence[np.ndarray]) -> dict[str, list[Question]]:
        return {
            f"prefix {share:.0%}" if share else "causal": [
                Question(text=text, context=round(share * len(text))) for text in texts
            ]
            for share in self.prefixes
        }

    def hidden(self, texts: Sequence[np.ndarray]) -> dict[str, list[Question]]:
        """Each question hides what depends on its number alone."""
        found = {}
        for rate in self.masks:
            task = f"mask {rate:.0%}"
            found[task] = [
                Question(text=text, hidden=masked(len(text), rate, generator(0, task, number)))
                for number, text in enumerate(texts)
            ]
        for rate, mean in self.spans:
            task = f"span {rate:.0%}/{mean:g}"
            found[task] = [
                Question(text=text, hidden=random_spans(len(text), rate, mean, generator(0, task, number)))
                for number, text in enumerate(texts)
            ]
        return found


def masked(size: int, rate: float, rng: np.random.Generator) -> np.ndarray:
    return without_replacement(np.ones(size, dtype=bool), budget(size, rate, None), rng)


def wanted(question: Question) -> np.ndarray:
    """The tokens that are asked for."""
    return question.text[question.context :] if question.hidden is None else question.text[question.hidden]


def row(task: str, scorer: str, answers: Sequence[np.ndarray], unigram: Sequence[float]) -> Row:
    sums, sizes = np.array([found.sum() for found in answers]), np.array([len(found) for found in answers])
    return Row(
        task=task,
        metric="loss",
        scorer=scorer,
        value=float(sums.sum() / sizes.sum()),
        error=ratio_error(sums, sizes),
        items=len(answers),
        floor=float(sum(unigram) / sizes.sum()),
        floor_name="unigram",
        unit="nats",
        better="neither",
        comparability="X",
    )

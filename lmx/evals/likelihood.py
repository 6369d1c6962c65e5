"""How well a model predicts held-out text: bits per byte of the rest of a passage after its first half, and of the whole passage.

Passages are the beginnings of held-out documents, `tokens` long, so that every objective is asked for the same text. Nats are
divided by the UTF-8 bytes that are asked: the figure does not depend on the tokenizer. What `scorer` means is in scoring.py.
"""

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from annotated_types import Interval

from lmx.evals.ngram import Ngrams
from lmx.evals.scoring import scorers
from lmx.evals.texts import passages
from lmx.evals.yardstick import Report, Row, Subject, Yardstick


class Likelihood(Yardstick):
    def __init__(
        self,
        *,
        passages: Annotated[int, Interval(ge=2, le=2**20)],
        tokens: Annotated[int, Interval(ge=4, le=2**20)],
        given: Annotated[float, Interval(gt=0, lt=1)],
    ):
        self.passages, self.tokens, self.given = passages, tokens, given

    def __call__(self, subject: Subject, report: Report) -> Sequence[Row]:
        texts = passages(subject, self.passages, self.tokens)
        given = [max(1, round(self.given * len(text))) for text in texts]
        return [
            *self.rows(subject, texts, given, "", report),
            *self.rows(subject, texts, [0] * len(texts), "whole", report),
        ]

    def rows(
        self, subject: Subject, texts: Sequence[np.ndarray], given: Sequence[int], task: str, report: Report
    ) -> list[Row]:
        vocabulary = subject.corpus.vocabulary
        rests = [text[known:] for text, known in zip(texts, given, strict=True)]
        sizes = np.array([int(vocabulary.byte_lengths[rest].sum()) for rest in rests])
        ngrams = Ngrams.count(subject.corpus.train.tokens, vocabulary.size)
        unigram = np.array([ngrams.unigram_nats(rest) for rest in rests])
        found = []
        for scorer in scorers(subject, whole=not any(given)):
            if not scorer.code_length:
                continue
            nats = scorer.score(texts, given, report)
            found.append(
                Row(
                    task=task,
                    metric="bits_per_byte",
                    scorer=scorer.name,
                    value=float(nats.sum() / sizes.sum() / math.log(2)),
                    error=ratio_error(nats, sizes) / math.log(2),
                    items=len(texts),
                    floor=float(unigram.sum() / sizes.sum() / math.log(2)),
                    floor_name="unigram",
                    unit="bits/byte",
                    better="lower",
                    comparability=scorer.comparability,
                )
            )
        return found


def ratio_error(sums: np.ndarray, sizes: np.ndarray) -> float:
    """Standard error of sum(sums) / sum(sizes) over items, by the delta method."""
    residuals = sums - sums.sum() / sizes.sum() * sizes
    return float(np.sqrt(len(sums) * residuals.var(ddof=1)) / sizes.sum())

"""What it takes to write a text, and how varied the text is: forwards and seconds a token, distinct n-grams, repetition.

Held-out passages are continued by sampling, as in lmx/evals/samples.py. `distinct_n` is the share of different n-grams among
all n-grams of all texts (Li et al. 2016, arXiv:1510.03055), `repetition_4` the share of a text's 4-grams that it has had before
(Welleck et al. 2020, arXiv:1908.04319). Neither is good in itself: beside them is what the passages' own continuations have.
Seconds are those of this machine, and the one figure here that is not the same twice.
"""

import time
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from annotated_types import Interval
from numpy.lib.stride_tricks import sliding_window_view

from lmx.errors import LmxError
from lmx.evals.samples import continuation
from lmx.evals.texts import longest, passages
from lmx.evals.yardstick import Report, Row, Subject, Yardstick

DISTINCT = (1, 2, 3)  # n of the n-grams
REPEATED = 4


class Generation(Yardstick):
    def __init__(
        self,
        *,
        texts: Annotated[int, Interval(ge=1, le=2**16)],
        prompt: Annotated[int, Interval(ge=1, le=2**20)],
        tokens: Annotated[int, Interval(ge=4, le=2**20)],
    ):
        self.texts, self.prompt, self.tokens = texts, prompt, tokens

    def __call__(self, subject: Subject, report: Report) -> Sequence[Row]:
        known = min(self.prompt, longest(subject) // 2)
        found = passages(subject, self.texts, known + self.tokens)
        if not found:
            return []
        held_out = np.stack(found)
        wanted = held_out.shape[1] - known
        began = time.perf_counter()
        try:
            written, forwards = continued(subject, held_out[:, :known], wanted, report)
        except LmxError:  # of an objective that does not write
            return []
        seconds = time.perf_counter() - began
        rows = [
            row("forwards_per_token", forwards / wanted, written, None, "forwards"),
            row("seconds_per_token", seconds / written.size, written, None, "seconds"),
        ]
        text = held_out[:, known:]
        if wanted >= REPEATED:
            rows += [row(f"distinct_{n}", distinct(written, n), written, distinct(text, n), "share") for n in DISTINCT]
            name = f"repetition_{REPEATED}"
            rows.append(row(name, repetition(written, REPEATED), written, repetition(text, REPEATED), "share"))
        return rows


def continued(subject: Subject, text: np.ndarray, tokens: int, report: Report) -> tuple[np.ndarray, int]:
    """`tokens` more of each row of text [B, n] -> [B, tokens], and the forwards of one row."""
    found, forwards = [], 0
    for number, prompt in enumerate(text):
        written, forwards = continuation(subject.learner, subject.corpus, prompt, tokens, subject.length, number)
        found.append(written)
        report("writing", (number + 1) / len(text))
    return np.array(found), forwards


def grams(texts: np.ndarray, size: int) -> np.ndarray:
    """[B, n] -> [B, n - size + 1, size]"""
    return sliding_window_view(texts, size, axis=1)


def distinct(texts: np.ndarray, size: int) -> float:
    """Different n-grams of all texts [B, n], as a share of all n-grams."""
    every = grams(texts, size).reshape(-1, size)
    return len(np.unique(every, axis=0)) / len(every)


def repetition(texts: np.ndarray, size: int) -> float:
    """Share of n-grams that their own text [n] has had before, the mean over texts [B, n]."""
    return float(np.mean([1 - distinct(text[None], size) for text in texts]))


def row(metric: str, value: float, written: np.ndarray, floor: float | None, unit: str) -> Row:
    return Row(
        metric=metric,
        scorer="sampled",
        value=value,
        items=len(written) if unit == "share" else written.size,
        floor=floor,
        floor_name="" if floor is None else "held-out text",
        unit=unit,
        better="neither" if unit == "share" else "lower",
        comparability="D" if unit == "share" else "E",
    )

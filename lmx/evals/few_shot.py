"""Rules that only the text itself gives away: hidden functions shown by examples, and recall of associations.

All is made of random tokens, so that nothing helps but the text; `>` and `;` are two more, drawn for each text.

    mapping    a > X ; b > Y ; a > ?             each of four inputs has one of four answers
    place      a b c > b ; d e f > e ; g h i > ?  always the first, or the second, or the third
    same       a a > X ; b c > Y ; d d > ?       one answer for equal inputs, another for different ones
    recall     a X b Y c Z  c Z a ?              multi-query associative recall (Arora et al. 2023, arXiv:2312.04927)

The answer is the likeliest of the possible ones, by any scorer; in `recall`, of at most four values that the text has. Which
token the model would say is not asked: small models would never say a rare one. `answer_nats` is -log of the answer's share
among the possible ones: it moves before accuracy does.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Interval, Len

from lmx.data.noise import generator
from lmx.evals.scoring import scorers
from lmx.evals.texts import longest, symbols
from lmx.evals.yardstick import Report, Row, Subject, Yardstick

CLASSES = 4  # of `mapping`; also how many values of `recall` there are to choose from
WIDTH = 3  # of the inputs of `place`
TIE = 1e-9  # nats within which two answers are as likely as each other


@dataclass(frozen=True)
class Problem:
    prompt: np.ndarray  # [n]
    options: np.ndarray  # [C] tokens, one of which follows
    answer: int  # of the options


class FewShot(Yardstick):
    def __init__(
        self,
        *,
        problems: Annotated[int, Interval(ge=2, le=2**20)],
        shots: Annotated[list[Annotated[int, Ge(0)]], Len(1)],
        pairs: Annotated[list[Annotated[int, Ge(2)]], Len(1)],
    ):
        self.problems, self.shots, self.pairs = problems, shots, pairs

    def __call__(self, subject: Subject, report: Report) -> Sequence[Row]:
        tasks = self.tasks(subject)
        asked = [problem for problems in tasks.values() for problem in problems]
        texts = [np.append(problem.prompt, option) for problem in asked for option in problem.options]
        rows = []
        for scorer in scorers(subject, whole=False) if asked else []:
            if scorer.name == "bound":  # of one token, what l2r_fill is
                continue
            nats = scorer.score(texts, [len(text) - 1 for text in texts], report)
            ends = np.cumsum([len(problem.options) for problem in asked])[:-1]
            answers = iter(np.split(nats, ends))
            for task, problems in tasks.items():
                rows += judged(task, scorer.name, problems, [next(answers) for _ in problems])
        return rows

    def tasks(self, subject: Subject) -> dict[str, list[Problem]]:
        """Those that fit into what the model reads."""
        known = symbols(subject)

        def problems(task: str, make: Maker, size: int) -> list[Problem]:
            return [make(generator(0, task, number), known, size) for number in range(self.problems)]

        made = {
            f"{make.__name__} {shots} shots": problems(f"{make.__name__} {shots}", make, shots)
            for make in (mapping, place, same)
            for shots in self.shots
        }
        made |= {f"recall {pairs} pairs": problems(f"recall {pairs}", recall, pairs) for pairs in self.pairs}
        fits = longest(subject) - 1
        return {task: found for task, found in made.items() if max(len(problem.prompt) for problem in found) <= fits}


Maker = Callable[[np.random.Generator, np.ndarray, int], Problem]


def demonstrated(
    inputs: Sequence[np.ndarray], answers: Sequence[int], options: np.ndarray, signs: np.ndarray
) -> Problem:
    """Examples and, last, a question: its answer is not shown."""
    arrow, stop = signs
    shown = [np.array([*one, arrow, options[answer], stop]) for one, answer in zip(inputs, answers, strict=True)]
    return Problem(np.concatenate(shown)[:-2], options, answers[-1])


def mapping(rng: np.random.Generator, known: np.ndarray, shots: int) -> Problem:
    drawn = rng.choice(known, 2 * CLASSES + 2, replace=False)
    keys, options, signs = np.split(drawn, [CLASSES, 2 * CLASSES])
    rounds = [rng.permutation(CLASSES) for _ in range(shots // CLASSES + 1)]
    asked = np.append(np.concatenate(rounds)[:shots], rng.integers(CLASSES))
    return demonstrated(
        [keys[[key]] for key in asked], asked.tolist(), options, signs
    )  # the k-th key has the k-th option


def place(rng: np.random.Generator, known: np.ndarray, shots: int) -> Problem:
    drawn = rng.choice(known, WIDTH * (shots + 1) + 2, replace=WIDTH * (shots + 1) + 2 > len(known))
    inputs, hidden = np.split(drawn[2:], shots + 1), int(rng.integers(WIDTH))
    shown = demonstrated([*inputs], [0] * (shots + 1), drawn[:1], drawn[:2])
    text = shown.prompt.copy()
    text[WIDTH + 1 :: WIDTH + 3] = [one[hidden] for one in inputs[:-1]]
    return Problem(text, inputs[-1], hidden)


def same(rng: np.random.Generator, known: np.ndarray, shots: int) -> Problem:
    drawn = rng.choice(known, 2 * (shots + 1) + 4, replace=2 * (shots + 1) + 4 > len(known))
    equal = np.append(rng.permutation(shots) % 2, rng.integers(2))  # as many of either among the examples
    pairs = np.split(drawn[4:], shots + 1)
    inputs = [one[[0, 0]] if alike else one for one, alike in zip(pairs, equal, strict=True)]
    return demonstrated(inputs, equal.tolist(), drawn[:2], drawn[2:4])


def recall(rng: np.random.Generator, known: np.ndarray, pairs: int) -> Problem:
    """All pairs, then some of them again in another order, then a key."""
    drawn = rng.choice(known, 2 * pairs, replace=False)
    keys, values = drawn[:pairs], drawn[pairs:]
    asked = rng.permutation(pairs)[: rng.integers(pairs) + 1]
    order = np.concatenate([np.arange(pairs), asked])
    text = np.stack([keys[order], values[order]], axis=1).ravel()[:-1]
    others = rng.permutation(np.delete(values, asked[-1]))[: CLASSES - 1]
    answer = int(rng.integers(len(others) + 1))
    return Problem(text, np.insert(others, answer, values[asked[-1]]), answer)


def judged(task: str, scorer: str, problems: Sequence[Problem], nats: Sequence[np.ndarray]) -> list[Row]:
    """Options that are as likely as each other share what the best would have."""
    answers = [problem.answer for problem in problems]
    best = [found <= found.min() + TIE for found in nats]
    right = np.array([tied[answer] / tied.sum() for tied, answer in zip(best, answers, strict=True)])
    lost = np.array([found[answer] + np.logaddexp.reduce(-found) for found, answer in zip(nats, answers, strict=True)])
    chance = 1 / len(problems[0].options)
    return [
        Row(
            task=task,
            metric=metric,
            scorer=scorer,
            value=float(values.mean()),
            error=float(values.std(ddof=1) / len(values) ** 0.5),
            items=len(values),
            floor=floor,
            floor_name="chance",
            unit=unit,
            better="higher" if unit == "share" else "lower",
            comparability="D",
        )
        for metric, values, floor, unit in (
            ("accuracy", right, chance, "share"),
            ("answer_nats", lost, -math.log(chance), "nats"),
        )
    ]

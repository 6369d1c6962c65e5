"""How a text is scored by a model of any objective. The scorer is part of a result's name: scores of two scorers are two things.

    scorer           one forward asks for                                         is
    causal           every token after those before it                            log p(text)                          A
    prefix           the same of a target after a context read from both sides    log p(target | context)              A
    pll_word_l2r     one token, it and the rest of its word hidden                a pseudo-likelihood (Kauf and        C
                                                                                  Ivanova 2023, arXiv:2305.10588)
    l2r_fill         the first of a target's tokens, all later ones hidden        log p of a chain never trained on    C
    bound            k random tokens hidden, k uniform                            >= -log p(text), in expectation      B
    detector         all tokens: has it been replaced?                            sum of log p(not replaced)           C

Objectives say which they have (`follows`, `hides`, `detects`) and pose the questions; here they are batched and added up.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lmx.batch import IGNORE, Batch, trimmed
from lmx.data.noise import Keys
from lmx.evals.yardstick import Comparability, Report, Subject

POSITIONS = 2**14  # of a batch
STRATA = 16  # numbers of hidden tokens for which the bound is measured, of each text


@dataclass(frozen=True, kw_only=True)
class Question:
    """One row of a batch. `text` [n] tokens; the first `context` of them are given; `hidden` [n] bool, for those that hide."""

    text: np.ndarray
    context: int = 0
    hidden: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """`score` maps texts and how much of each is given to nats, -log p of the rest [N]; lower is more likely."""

    name: str
    comparability: Comparability
    code_length: bool  # whether nats are those of some distribution over texts, or bound them
    score: Callable[[Sequence[np.ndarray], Sequence[int], Report], np.ndarray]


def scorers(subject: Subject, *, whole: bool) -> list[Scorer]:
    """Those that the objective has, the best first. `whole`: for texts without a context."""
    objective = subject.learner.objective
    exact: Comparability = "A" if objective.follows_exactly else "C"
    having = {
        objective.follows: (exact, True, Following),
        objective.hides if whole else "": ("C", False, WordByWord),
        "l2r_fill" if objective.hides and not whole else "": ("C", True, LeftToRight),
        "bound" if objective.bounds else "": ("B", True, Bound),
        "detector" if objective.detects else "": ("C", False, Detector),
    }
    return [
        Scorer(name=name, comparability=comparability, code_length=code_length, score=asker(subject))
        for name, (comparability, code_length, asker) in having.items()
        if name
    ]


class Asker:
    """Batches of questions of about the same length, in fp32, whatever the order in which they are asked."""

    def __init__(self, subject: Subject):
        self.subject = subject
        self.objective, self.model = subject.learner.objective, subject.learner.model

    @torch.no_grad()
    def answers(self, questions: Sequence[Question], report: Report) -> list[np.ndarray]:
        """Of each question, the nats of what it asks for [n], in the order of the text."""
        order = sorted(range(len(questions)), key=lambda number: len(questions[number].text))
        found: list[np.ndarray] = [np.zeros(0)] * len(questions)
        done = 0
        for part in batched(order, [len(question.text) for question in questions]):
            batch = trimmed(self.pose([questions[number] for number in part])).to(self.subject.device)
            for number, row in zip(part, self.read(batch), strict=True):
                found[number] = row
            done += len(part)
            report("", done / len(questions))
        return found

    def pose(self, questions: Sequence[Question]) -> Batch:
        texts = [question.text for question in questions]
        hidden = [question.hidden for question in questions]
        if all(one is None for one in hidden):
            return self.objective.following(texts, [question.context for question in questions])
        return self.objective.hiding(texts, [one for one in hidden if one is not None])

    def read(self, batch: Batch) -> list[np.ndarray]:
        nats = self.objective.nats(self.model, batch).double().cpu()
        where = batch.targets.cpu() != IGNORE
        return [row[asked].numpy() for row, asked in zip(nats, where, strict=True)]


def batched(order: Iterable[int], sizes: Sequence[int], positions: int = POSITIONS) -> Iterable[list[int]]:
    """Runs of `order` whose padded sizes are at most `positions` together."""
    part: list[int] = []
    for number in order:
        if part and (len(part) + 1) * sizes[number] > positions:
            yield part
            part = []
        part.append(number)
    if part:
        yield part


class Following(Asker):
    def __call__(self, texts: Sequence[np.ndarray], contexts: Sequence[int], report: Report) -> np.ndarray:
        questions = [Question(text=text, context=given) for text, given in zip(texts, contexts, strict=True)]
        return np.array([row.sum() for row in self.answers(questions, report)])


class WordByWord(Asker):
    """One question for each token: it is hidden, and so is the rest of its word."""

    def __call__(self, texts: Sequence[np.ndarray], contexts: Sequence[int], report: Report) -> np.ndarray:
        starts = self.subject.corpus.vocabulary.starts_word
        questions, owners = [], []
        for number, (text, given) in enumerate(zip(texts, contexts, strict=True)):
            ends = np.append(np.flatnonzero(starts[text][1:]) + 1, len(text))
            for place in range(given, len(text)):
                hidden = np.zeros(len(text), dtype=bool)
                hidden[place : ends[np.searchsorted(ends, place, side="right")]] = True
                questions.append(Question(text=text, hidden=hidden))
                owners.append(number)
        first = [row[0] for row in self.answers(questions, report)]
        return np.bincount(owners, weights=first, minlength=len(texts))


class LeftToRight(Asker):
    """One question for each token after the context: it and all after it are hidden. Their number is given away."""

    def __call__(self, texts: Sequence[np.ndarray], contexts: Sequence[int], report: Report) -> np.ndarray:
        questions, owners = [], []
        for number, (text, given) in enumerate(zip(texts, contexts, strict=True)):
            for place in range(given, len(text)):
                questions.append(Question(text=text, hidden=np.arange(len(text)) >= place))
                owners.append(number)
        first = [row[0] for row in self.answers(questions, report)]
        return np.bincount(owners, weights=first, minlength=len(texts))


class Bound(Asker):
    """n / k x the nats of k hidden tokens, the mean over STRATA values of k, one from each n / STRATA stretch of 1 … n.

    Unbiased (Sahoo et al. 2024, arXiv:2406.07524): k is uniform, and so is the set.
    """

    def __call__(self, texts: Sequence[np.ndarray], contexts: Sequence[int], report: Report) -> np.ndarray:
        keys = Keys(seed=0, purpose="bound", sample=np.arange(len(texts)))
        questions, owners, shares = [], [], []
        for number, (text, given) in enumerate(zip(texts, contexts, strict=True)):
            rng, size = keys.generator(number), len(text) - given
            for stratum in range(STRATA):
                count = 1 + int((stratum + rng.random()) / STRATA * size)
                hidden = np.zeros(len(text), dtype=bool)
                hidden[given + rng.permutation(size)[:count]] = True
                questions.append(Question(text=text, hidden=hidden))
                owners.append(number)
                shares.append(size / count / STRATA)
        sums = np.array([row.sum() for row in self.answers(questions, report)])
        return np.bincount(owners, weights=sums * np.array(shares), minlength=len(texts))


class Detector(Asker):
    """-log p(not replaced), added up over what is not given."""

    def __call__(self, texts: Sequence[np.ndarray], contexts: Sequence[int], report: Report) -> np.ndarray:
        found = self.answers([Question(text=text, hidden=np.zeros(len(text), dtype=bool)) for text in texts], report)
        return np.array([row[given:].sum() for row, given in zip(found, contexts, strict=True)])

    def read(self, batch: Batch) -> list[np.ndarray]:
        logits: Tensor = self.objective.suspicion(self.model, batch)
        nats = torch.nn.functional.softplus(logits).double().cpu()
        real = ~torch.from_numpy(self.subject.corpus.vocabulary.special)[batch.tokens.cpu()]
        return [row[asked].numpy() for row, asked in zip(nats, real & (batch.document.cpu() >= 0), strict=True)]

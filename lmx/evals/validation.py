"""Validation inside a run: the same examples with the same noise every time, beside what counting words would reach."""

import math
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Interval

from lmx.batch import IGNORE, Batch
from lmx.data.corpus import Corpus
from lmx.errors import LmxError
from lmx.evals.ngram import Ngrams
from lmx.evals.yardstick import Row, Subject, Yardstick
from lmx.train.device import autocast


class Validation:
    """`batches` are fixed; native losses are means over all their targets, in nats."""

    def __init__(
        self,
        subject: Subject,
        precision: str,
        batches: Sequence[Batch],
        *,
        every: Annotated[float, Interval(gt=0, le=1)],
        tokens: Annotated[int, Interval(ge=1, le=2**32)],
        samples: Annotated[int, Interval(ge=0, le=1000)],
        sample_tokens: Annotated[int, Interval(ge=1, le=2**32)],
        yardsticks: dict[str, Yardstick],
    ):
        self.subject, self.precision, self.batches, self.yardsticks = subject, precision, batches, yardsticks
        self.every, self.tokens, self.samples, self.sample_tokens = every, tokens, samples, sample_tokens
        for yardstick in yardsticks.values():
            yardstick.check()
        self.failed: dict[str, str] = {}  # yardsticks that could not be applied, which are not asked again -> why
        self.references = references(subject.corpus, batches, subject.learner.objective.measures_text)

    @torch.no_grad()
    def __call__(self) -> dict[str, Any]:
        """loss, loss/TERM or share/TERM, bits_per_byte where the objective measures text, references, rows of yardsticks."""
        learner, device = self.subject.learner, self.subject.device
        objective = learner.objective
        sums, counts = dict.fromkeys(objective.weights, 0.0), dict.fromkeys(objective.weights, 0)
        learner.eval()
        for batch in self.batches:
            with autocast(device, self.precision):
                losses = learner(batch.to(device))
            for term, value in objective.counts(batch).items():
                sums[term] += float(losses[term])
                counts[term] += int(value)
        rows = {name: self.asked(name) for name in self.yardsticks if name not in self.failed}
        learner.train()
        means = {term: sums[term] / counts[term] if counts[term] else None for term in sums}
        loss = sum(objective.weights[term] * value for term, value in means.items() if value is not None)
        result = {"loss": loss} | {objective.key(term): value for term, value in means.items()} | self.references
        constants = objective.constants(sums, counts)
        result |= {f"constant/{term}": value for term, value in constants.items()}
        if self.references["bytes"]:
            result["bits_per_byte"] = bits(sums["loss"]) / self.references["bytes"]
        return result | {f"{name}/{row.name}": row.value for name, found in rows.items() for row in found}

    def asked(self, name: str) -> Sequence[Row]:
        """A run is worth more than what is measured on the way: what fails is said in `failed`, and the run goes on."""
        try:
            return self.yardsticks[name](self.subject, silent)
        except Exception as error:
            if not isinstance(error, LmxError):
                traceback.print_exc()
            self.failed[name] = " ".join(f"{type(error).__name__}: {error}".split())
            return []


def silent(phase: str, share: float | None) -> None:
    """Inside a run, the run says what it does."""


def bits(nats: float) -> float:
    return nats / math.log(2)


def references(corpus: Corpus, batches: Sequence[Batch], measures_text: bool) -> dict[str, Any]:
    """Targets, their bytes, and the n-grams' figures on exactly these targets.

    The unigram's nats a target are the plateau that a masked model has to leave; bytes and bits per byte are given only where the
    targets are the text, one after the other.
    """
    ngrams = Ngrams.count(corpus.train.tokens, corpus.vocabulary.size)
    targets = torch.cat([batch.targets.flatten() for batch in batches]).numpy()
    tokens = torch.cat([batch.tokens.flatten() for batch in batches]).numpy()
    asked = targets != IGNORE
    tokens, targets = tokens[asked], targets[asked]
    unigram = constant_nats(ngrams, targets, corpus.vocabulary.special)
    result = {"targets": len(targets), "unigram_nats": unigram / max(len(targets), 1), "bits_per_byte": None}
    size = int(corpus.vocabulary.byte_lengths[targets].sum()) if measures_text else 0
    result["bytes"] = size or None
    result["unigram_bits_per_byte"] = bits(unigram) / size if size else None
    result["bigram_bits_per_byte"] = bits(ngrams.bigram_nats(tokens, targets)) / size if size else None
    return result


def constant_nats(ngrams: Ngrams, targets: np.ndarray, special: np.ndarray) -> float:
    """Nats of the best constant prediction, summed: text by its frequencies in training, sentinels and other tokens that an
    objective adds, which no text has, by their share of the targets themselves."""
    added = special[targets] & (ngrams.seen[targets] == 0)
    if not added.any():
        return ngrams.unigram_nats(targets)
    shares = np.bincount(targets[added]) / len(targets)
    text = targets[~added]
    nats = ngrams.unigram_nats(text) - len(text) * math.log(max(len(text), 1) / len(targets))
    return nats - float(np.log(shares[targets[added]]).sum())

"""Masked language modeling: restore hidden tokens from both sides (BERT, Devlin et al. 2019, arXiv:1810.04805).

With [CLS] 2, [SEP] 3, [MASK] 4 and positions 1, 3 and 4 selected, to be masked, swapped for 77 and kept:

    text        2 11 12 13 14  3
    tokens      2  4 12 77 14  3
    targets     . 11  . 13 14  .
    shift=true, masked next-token prediction (BehnamGhader et al. 2024, GPT-BERT): position i is asked for token i + 1
    tokens      2  4 12 77 14
    targets    11  . 13 14  .
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Interval

from lmx.batch import IGNORE, Batch
from lmx.data.noise import Keys
from lmx.data.packing import Sample
from lmx.data.selection import RULES as SELECT
from lmx.data.selection import given
from lmx.data.tokenizer import Vocabulary
from lmx.nn.transformer import Transformer
from lmx.objectives.asking import masked
from lmx.objectives.objective import Prediction, plain, stack

Share = Annotated[float, Interval(ge=0, le=1)]
Select = Literal[
    "bernoulli", "fixed_round", "with_replacement", "fixed_prob_round", "whole_word", "ngram", "span_geometric"
]


class MLM(Prediction):
    fills = True
    RULES = {"mask + swap <= 1": "objective.mask + objective.swap must be at most 1"}

    def __init__(
        self,
        *,
        length: int,
        model: Transformer,
        vocabulary: Vocabulary,
        select: Select,
        rate: Annotated[float, Interval(gt=0, lt=1)],
        last_rate: Annotated[float, Interval(gt=0, lt=1)] | None,
        predict: Annotated[float, Interval(gt=0, le=1)],
        mask: Share,
        swap: Share,
        evaluate_rate: Annotated[float, Interval(gt=0, lt=1)],
        wrap: bool,
        shift: bool,
        max_targets: Annotated[int, Ge(1)] | None,
        z_loss: Annotated[float, Ge(0)],
    ):
        super().__init__(model=model, vocabulary=vocabulary, z_loss=z_loss)
        self.hides = "mntp_word_l2r" if shift else "pll_word_l2r"
        self.summary = "first" if wrap else "mean"
        self.length, self.select = length, SELECT[select]
        self.rate, self.last_rate, self.evaluate_rate = rate, rate if last_rate is None else last_rate, evaluate_rate
        self.predict, self.max_targets = predict, max_targets
        self.mask, self.swap, self.wrap, self.shift = mask, swap, wrap, shift

    def raw_lengths(self, keys: Keys) -> np.ndarray:
        return np.full(len(keys), self.length - 2 * self.wrap + self.shift)

    def collate(self, samples: Sequence[Sample], keys: Keys) -> Batch:
        rate = self.rate_of(keys)
        rows = [self.pose(sample, rate, keys.generator(number)) for number, sample in enumerate(samples)]
        return stack(rows, self.length)

    def fix(self, places: Sequence[int]) -> None:
        self.select = given(places)

    def rate_of(self, keys: Keys) -> float:
        """The share of tokens to corrupt, for now."""
        if keys.purpose == "validation":
            return self.evaluate_rate
        return self.rate + (self.last_rate - self.rate) * keys.progress

    def pose(self, sample: Sample, rate: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One row, with one budget. Of packed documents none is asked for another's token."""
        return self.hide(*self.frame(sample), rate, rng)

    def hide(
        self, text: np.ndarray, document: np.ndarray, rate: float, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """The row of a framed text [n] and its documents [n]."""
        borders = np.flatnonzero(np.diff(document)) + 1  # between packed documents: no word or span reaches across
        chosen = self.choose(np.insert(text, borders, self.vocabulary.sep), rate, rng)
        chosen = np.delete(chosen, borders + np.arange(len(borders)))
        tokens = self.corrupt(text, chosen, rng)
        targets = np.where(self.ask(chosen, rng), text, IGNORE)
        if self.shift:
            targets = np.where(document[1:] == document[:-1], targets[1:], IGNORE)
            tokens, document = tokens[:-1], document[:-1]
        return {"tokens": tokens, "targets": targets, "document": document, "order": np.zeros_like(tokens)}

    def frame(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        """Text and document ids [n]. [CLS] opens the first document, [SEP] closes the last; between, each ends with [EOS]."""
        if not self.wrap:
            return sample.tokens, sample.segment
        text = np.concatenate([[self.vocabulary.cls], sample.tokens, [self.vocabulary.sep]])
        return text, np.pad(sample.segment, 1, mode="edge")

    def choose(self, text: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
        """[n] bool, the tokens to corrupt; never a special one."""
        eligible = ~self.vocabulary.special[text]
        return self.select(eligible, self.vocabulary.starts_word[text], rate, self.max_targets, rng)

    def corrupt(self, text: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One uniform draw a position decides: below `mask` it is hidden, below `mask + swap` replaced, else shown."""
        luck = rng.random(len(text))
        other = self.vocabulary.ordinary[rng.integers(len(self.vocabulary.ordinary), size=len(text))]
        shown = np.where(luck < self.mask, self.vocabulary.mask, np.where(luck < self.mask + self.swap, other, text))
        return np.where(chosen, shown, text)

    def ask(self, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """[n] bool, the corrupted tokens whose prediction is scored (Wettig et al. 2022 tell the two rates apart)."""
        if self.predict == 1 or not chosen.any():
            return chosen
        places = rng.permutation(np.flatnonzero(chosen))
        asked = np.zeros_like(chosen)
        asked[places[: max(1, round(self.predict * len(places)))]] = True
        return asked

    def edges(self) -> tuple[list[int], list[int]]:
        """What stands before a text and after it."""
        begin = [self.vocabulary.cls] if self.wrap else [self.vocabulary.eos] if self.shift else []
        return begin, [self.vocabulary.sep] if self.wrap else []

    def reading(self, texts: Sequence[np.ndarray], cuts: Sequence[int] | None = None) -> Batch:
        return plain(texts, *self.edges())

    def hiding(self, texts: Sequence[np.ndarray], hidden: Sequence[np.ndarray]) -> Batch:
        begin, end = self.edges()
        framed = [np.concatenate([begin, text, end]).astype(np.int64) for text in texts]
        batch = masked(framed, [np.pad(hide, (len(begin), len(end))) for hide in hidden], self.vocabulary.mask)
        if not self.shift:
            return batch
        targets = torch.nn.functional.pad(batch.targets[:, 1:], (0, 1), value=IGNORE)
        return replace(batch, targets=targets)

"""Masked LM on two segments, and whether they belong together: BERT's next sentence prediction (Devlin et al. 2019,
arXiv:1810.04805) and ALBERT's sentence order prediction (Lan et al. 2020, arXiv:1909.11942).

With sentences 10 11, 12 and 13 14, [CLS] 2 and [SEP] 3, cut after the first:

    in order                2 10 11 3 12 13 14 3     segment 0 0 0 0 1 1 1 1     relation 0
    nsp, another document   2 10 11 3 21 22 23 3             0 0 0 0 1 1 1 1              1
    sop, swapped            2 12 13 14 3 10 11 3             0 0 0 0 0 1 1 1              1

A sample is a stretch of one document; its first and last sentence may be cut. So is the last one of another document's segment,
which is as long as the one it replaces: neither length nor ending tells them apart. Where the question is the order, a cut
sentence would tell which segment came last: only whole sentences are kept. `relation=none` is the control: the format without
the question.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval
from torch import Tensor, nn

from lmx.batch import IGNORE, PADDING, Batch, Details
from lmx.data.corpus import Corpus, Documents
from lmx.data.noise import Keys
from lmx.data.packing import Sample
from lmx.data.tokenizer import Vocabulary
from lmx.errors import LmxError
from lmx.nn.transformer import Transformer
from lmx.objectives.mlm import MLM, Select, Share
from lmx.objectives.objective import asked, entropy, stack

NEAR = 16  # documents on either side, of which one is near
Pair = tuple[np.ndarray, np.ndarray, int]  # first and second segment, relation


@dataclass(frozen=True, kw_only=True)
class PairBatch(Batch):
    segment: Tensor  # [B, L] 0 up to the first [SEP], then 1
    relation: Tensor  # [B] 0: as in the text; 1: random or swapped; IGNORE: not asked


class SegmentPair(MLM):
    RULES = {"mask + swap <= 1": "objective.mask + objective.swap must be at most 1"}

    def __init__(
        self,
        *,
        length: int,
        model: Transformer,
        vocabulary: Vocabulary,
        corpus: Corpus,
        relation: Literal["none", "nsp", "sop"],
        negatives: Literal["other_document", "near_document", "same_document"],
        short: Share,
        select: Select,
        rate: Annotated[float, Interval(gt=0, lt=1)],
        mask: Share,
        swap: Share,
        max_targets: Annotated[int, Ge(1)] | None,
        z_loss: Annotated[float, Ge(0)],
    ):
        super().__init__(
            length=length, model=model, vocabulary=vocabulary, select=select, rate=rate, last_rate=None, predict=1.0, mask=mask,
            swap=swap, evaluate_rate=rate, wrap=True, shift=False, max_targets=max_targets, z_loss=z_loss,
        )  # fmt: skip
        self.corpus, self.relation, self.negatives, self.short = corpus, relation, negatives, short
        self.segments = nn.Embedding(2, model.width)
        nn.init.normal_(self.segments.weight, std=0.3 * model.width**-0.5)
        if relation != "none":
            self.weights |= {"relation": 1.0, "unlike": 0.0, "accuracy": 0.0}
            self.counted = frozenset({"unlike", "accuracy"})
            self.pool, self.judge = nn.Linear(model.width, model.width), nn.Linear(model.width, 2)
            self.judge.is_head = True  # type: ignore[assignment]  # rows, no matrix: optimizers treat them like an embedding

    def raw_lengths(self, keys: Keys) -> np.ndarray:
        return np.full(len(keys), self.length - 3)

    def collate(self, samples: Sequence[Sample], keys: Keys) -> Batch:
        documents = self.corpus.validation if keys.purpose == "validation" else self.corpus.train
        rows, relations = [], []
        for number, sample in enumerate(samples):
            rng = keys.generator(number, "pair")
            first, second, relation = self.pair(sample, documents, rng)
            row = self.joined(first, second, self.rate_of(keys), keys.generator(number))
            rows.append(row)
            relations.append(relation)
        return stack(rows, self.length, PairBatch, {"segment": 0}, relation=torch.tensor(relations))

    def pair(self, sample: Sample, documents: Documents, rng: np.random.Generator) -> Pair:
        """The two segments of a sample's longest document."""
        text, document = longest(sample, self.vocabulary.eos)
        if rng.random() < self.short:
            text = text[: int(rng.integers(2, max(2, len(text)) + 1))]
        whole = self.sentences(text)
        if self.relation == "sop" and len(whole):
            text = whole
        ends = np.flatnonzero(self.vocabulary.ends_sentence[text[:-1]]) + 1
        cut = int(rng.choice(ends)) if len(ends) else max(1, len(text) // 2)
        first, second, luck = text[:cut], text[cut:], rng.random() < 0.5
        if self.relation == "sop":
            if len(ends) == 0 or len(whole) == 0:  # one sentence has no order
                return first, second, IGNORE
            return (second, first, 1) if luck else (first, second, 0)
        if self.relation == "nsp" and (luck or len(ends) == 0):
            return first, self.random_segment(documents, document, second, rng), 1
        return first, second, 0 if self.relation == "nsp" else IGNORE

    def sentences(self, text: np.ndarray) -> np.ndarray:
        """The whole sentences of a stretch."""
        ends = np.flatnonzero(self.vocabulary.ends_sentence[text]) + 1
        return text[ends[0] : ends[-1]] if len(ends) else text[:0]

    def random_segment(
        self, documents: Documents, document: int, following: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """From a random sentence of a random document, as many tokens as follow in the text, and other ones."""
        near = {"other_document": len(documents), "near_document": NEAR, "same_document": 0}[self.negatives]
        first, last = max(0, document - near), min(document + near, len(documents) - 1)
        other = document
        if first < last:
            other = first + int(rng.integers(last - first))
            other += other >= document
        text, size = np.asarray(documents[other][:-1], dtype=np.int64), len(following)
        begins = np.concatenate([[0], np.flatnonzero(self.vocabulary.ends_sentence[text[:-1]]) + 1])
        begins = begins[begins <= max(0, len(text) - size)]
        unlike = [begin for begin in begins if not np.array_equal(text[begin : begin + size], following)]
        begin = int(rng.choice(unlike or begins))
        return text[begin : begin + size]

    def joined(
        self, first: np.ndarray, second: np.ndarray, rate: float, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """The row [CLS] first [SEP] second [SEP], masked."""
        vocabulary = self.vocabulary
        text = np.concatenate([[vocabulary.cls], first, [vocabulary.sep], second, [vocabulary.sep]]).astype(np.int64)
        segment = np.repeat([0, 1], [len(first) + 2, len(second) + 1])
        return self.hide(text, np.zeros_like(text), rate, rng) | {"segment": segment}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(batch, PairBatch)
        asked = (answers(batch) != IGNORE).sum()
        told = ("relation", "unlike", "accuracy") if "relation" in self.weights else ()
        return super().counts(batch) | dict.fromkeys(told, asked)

    def fix(self, places: Sequence[int]) -> None:
        if self.relation != "none":
            raise LmxError(
                f"--noise must go with objective.relation=none, got {self.relation}: it changes the text's order."
            )
        super().fix(places)

    def details(self, batch: Batch) -> Details:
        assert isinstance(batch, PairBatch)
        other = "swapped" if self.relation == "sop" else "not its continuation"
        words = {0: "as in the text", 1: other, IGNORE: "not asked"}
        facts = [f"relation, asked at [CLS]: {words[label]} ({label})" for label in answers(batch).tolist()]
        return Details(numbers={"segment": batch.segment}, facts=facts if self.relation != "none" else ())

    def constants(self, sums: Mapping[str, float], counts: Mapping[str, int]) -> dict[str, float]:
        return {"relation": entropy(sums["unlike"] / max(counts["relation"], 1))} if "relation" in self.weights else {}

    def reading(self, texts: Sequence[np.ndarray], cuts: Sequence[int] | None = None) -> Batch:
        """Pairs as two segments."""
        if cuts is None:
            return super().reading(texts)
        cls, sep, rows = self.vocabulary.cls, self.vocabulary.sep, []
        for text, cut in zip(texts, cuts, strict=True):
            tokens = np.concatenate([[cls], text[:cut], [sep], text[cut:], [sep]]).astype(np.int64)
            segment = np.repeat([0, 1], [cut + 2, len(text) - cut + 1])
            targets = tokens.copy()
            targets[[0, cut + 1, -1]] = IGNORE
            rows.append({"tokens": tokens, "targets": targets, "order": np.zeros_like(tokens), "segment": segment})
        relation = torch.full((len(rows),), IGNORE)
        return stack(rows, max(len(row["tokens"]) for row in rows), PairBatch, {"segment": 0}, relation=relation)

    def hidden(self, model: Transformer, batch: Batch) -> Tensor:
        return self.layers(model, batch)[-1]

    def layers(self, model: Transformer, batch: Batch) -> list[Tensor]:
        segment = batch.segment if isinstance(batch, PairBatch) else torch.zeros_like(batch.tokens)
        return model.layers(model.embed(batch) + self.segments(segment), batch)

    def forward(self, model: Transformer, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(batch, PairBatch)
        hidden = self.hidden(model, batch)
        rows, targets = asked(hidden, batch)
        nats, z, _ = self.score(rows, self.output_weight(model), targets)
        losses = self.terms(nats, z)
        if "relation" in self.weights:
            verdict = self.judge(torch.tanh(self.pool(hidden[:, 0]))).float()
            losses["unlike"] = (answers(batch) == 1).sum().float()
            losses["accuracy"] = (verdict.argmax(-1) == answers(batch)).sum().float()
            losses["relation"] = F.cross_entropy(verdict, answers(batch), ignore_index=IGNORE, reduction="sum")
        return losses


def answers(batch: PairBatch) -> Tensor:
    """[B] the relation, IGNORE in rows of padding"""
    return batch.relation.masked_fill(batch.document[:, 0] == PADDING, IGNORE)


def longest(sample: Sample, end: int) -> tuple[np.ndarray, int]:
    """The longest stretch of one document, without its end, and which document it is."""
    edges = np.concatenate([[0], np.flatnonzero(sample.tokens == end) + 1, [len(sample.tokens)]])
    place = int(np.diff(edges).argmax())
    text = sample.tokens[edges[place] : edges[place + 1]]
    return text[text != end], int(sample.documents[min(place, len(sample.documents) - 1)])

"""Fix the bug: read Python with a small bug in it, write it without (bugs as in BugLab, Allamanis et al. 2021, arXiv:2105.12787).

With the code 10 11 12 13, whose 12 the bug made 22, [BUG] 2, [FIX] 3 and end of text 1:

    source    2 10 11 22 13 3
    target    10 11 12 13 1
    edit       0  0  1  0 0        what the bug changed, and is scored once more on its own

Nearly all of a target is a copy, so its mean loss says little about bugs: the term `edit` does. A document with its bug still
parses; where a sample holds a piece of a document, the bug lies in that piece. `clean` of the texts have none, nor have those
that are no Python or have no place for one: there the target is the source.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Interval
from torch import Tensor

from lmx.batch import IGNORE, Batch, Details
from lmx.data.corpus import Corpus, Documents
from lmx.data.mutations import KINDS, apply, mutate
from lmx.data.noise import Keys
from lmx.data.packing import Sample
from lmx.data.tokenizer import Vocabulary
from lmx.errors import LmxError
from lmx.nn.cross_entropy import VocabularyLoss
from lmx.nn.encoder_decoder import Sharing
from lmx.nn.transformer import Transformer
from lmx.objectives.fim import apart
from lmx.objectives.objective import BUCKET, asked, each_document
from lmx.objectives.text_to_text import Layout, Pair, TextToText
from lmx.objectives.writing import Gap, Opening

Weight = Annotated[float, Ge(0)]
MOST = 8  # bugs in a text


@dataclass(frozen=True, kw_only=True)
class FixBatch(Batch):
    edit: Tensor  # [B, L] 1 where the target is not a copy
    edit_capacity: int  # at least as many as there are


class FixTheBug(TextToText):
    def __init__(
        self,
        *,
        length: int,
        model: Transformer,
        vocabulary: Vocabulary,
        corpus: Corpus | None,
        clean: Annotated[float, Interval(ge=0, le=1)],
        another: Annotated[float, Interval(ge=0, lt=1)],
        kinds: dict[str, Weight],
        edit_weight: Weight,
        layout: Layout,
        decoder: Sharing,
        z_loss: Weight,
    ):
        """Raises LmxError for a kind that there is not, and where none has a weight."""
        self.prompt = np.array([vocabulary.bug], dtype=np.int64)
        super().__init__(
            length=length, model=model, vocabulary=vocabulary, layout=layout, decoder=decoder, z_loss=z_loss
        )
        if unknown := sorted(set(kinds) - set(KINDS)):
            raise LmxError(f"objective.kinds must be of {', '.join(KINDS)}, got {unknown[0]}.")
        if not any(kinds.values()):
            raise LmxError("objective.kinds must have a weight above 0, got none. Type objective.kinds.variable=1.")
        self.corpus, self.clean, self.another, self.kinds = corpus, clean, another, kinds
        self.weights["edit"] = edit_weight
        self.score_edit = VocabularyLoss(0.0)

    def longest(self) -> int:
        return max(self.length - 4 if self.layout == "encoder_decoder" else (self.length - 4) // 2, 2)

    def pairs(self, sample: Sample, keys: Keys, number: int) -> list[Pair]:
        sample = apart(sample, self.vocabulary.eos)
        split = getattr(self.corpus, keys.purpose, None)

        def pose(text: np.ndarray, document: int) -> Pair:
            whole, begin = surroundings(text, split, int(sample.documents[document]))
            return self.pair(whole, begin, begin + len(text), keys.generator(number, f"document {document}"))

        return each_document(sample, self.vocabulary.eos, pose, self.overflow)

    def pose(self, text: np.ndarray, keys: Keys, rng: np.random.Generator) -> Pair:
        return self.pair(text, 0, len(text), rng)

    def pair(self, whole: np.ndarray, begin: int, stop: int, rng: np.random.Generator) -> Pair:
        """Source and target of a piece of the document `whole` [n]."""
        text = whole[begin:stop]
        broken = text if rng.random() < self.clean else self.broken(whole, begin, stop, rng)
        source = np.concatenate([self.prompt, broken, [self.vocabulary.fix]])
        return source, np.append(text, self.vocabulary.eos)

    def broken(self, whole: np.ndarray, begin: int, stop: int, rng: np.random.Generator) -> np.ndarray:
        """The piece [n] with bugs; as it is where there is no place for one, or where tokens say too little about the text."""
        text = whole[begin:stop]
        number = min(int(rng.geometric(1 - self.another)), MOST)
        written = self.vocabulary.decode(whole)
        ids, edges = self.encode(written)
        if not np.array_equal(ids, whole):
            return text
        bugs = mutate(written, self.kinds, number, int(edges[begin, 0]), int(edges[stop - 1, 1]), rng)
        mutant = self.vocabulary.encode(apply(written, bugs))
        after = len(whole) - stop
        same = np.array_equal(mutant[:begin], whole[:begin])
        same = same and np.array_equal(mutant[len(mutant) - after :], whole[stop:])
        return mutant[begin : len(mutant) - after] if same else text

    def encode(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """[n] tokens and [n, 2] the characters where each begins and ends"""
        found = self.vocabulary.tokenizer.encode(text, add_special_tokens=False)
        return np.array(found.ids, dtype=np.int64), np.array(found.offsets, dtype=np.int64).reshape(-1, 2)

    def opening(self, parts: Sequence[np.ndarray]) -> Opening:
        """The text is code with a bug; all of it is written again."""
        if len(parts) > 1:
            raise LmxError(f"--prompt must have no gap for FixTheBug, which reads code, got {len(parts) - 1}.")
        source = np.concatenate([self.prompt, parts[0], [self.vocabulary.fix]]).astype(np.int64)
        return self.opens(source, [Gap(first=None, stops=frozenset([self.vocabulary.eos]))], whole=True)

    def collate(self, samples: Sequence[Sample], keys: Keys) -> Batch:
        rows = [self.pairs(sample, keys, number) for number, sample in enumerate(samples)]
        batch = self.arrange(rows)
        edit = torch.zeros_like(batch.targets)
        edit[batch.targets != IGNORE] = torch.from_numpy(
            np.concatenate([edited(source[1:-1], target) for row in rows for source, target in row])
        )
        base = {field.name: getattr(batch, field.name) for field in fields(Batch)}
        return FixBatch(**base, edit=edit, edit_capacity=-(-int(edit.sum()) // BUCKET) * BUCKET)

    def details(self, batch: Batch) -> Details:
        assert isinstance(batch, FixBatch)
        return Details(numbers={"edit": batch.edit})

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return super().counts(batch) | {"edit": edits(batch).num_targets}

    def forward(self, model: Transformer, batch: Batch) -> dict[str, Tensor]:
        hidden, weight = self.hidden(model, batch), self.output_weight(model)
        target, edit = (asked(hidden, part) for part in (batch, edits(batch)))
        nats, z, _ = self.score(target[0], weight, target[1])
        return self.terms(nats, z) | {"edit": self.score_edit(edit[0], weight, edit[1])[0]}


def surroundings(text: np.ndarray, split: Documents | None, number: int) -> tuple[np.ndarray, int]:
    """The document [n] that the text is a piece of, without its end, and where the piece begins; a text of no corpus is whole."""
    if split is not None and number < len(split):
        document = np.array(split[number][:-1], dtype=np.int64)
        for begin in np.flatnonzero(document[: len(document) - len(text) + 1] == text[0]):
            if np.array_equal(document[begin : begin + len(text)], text):
                return document, int(begin)
    return text, 0


def edited(broken: np.ndarray, target: np.ndarray) -> np.ndarray:
    """[n] int64 1 from the first to the last target that the broken text does not say; where a bug added something, the next one.

    `target` ends with EOS, which is a copy.
    """
    text = target[:-1]
    edit = np.zeros(len(target), dtype=np.int64)
    if np.array_equal(broken, text):
        return edit
    most = min(len(broken), len(text))
    before = common(broken[:most], text[:most])
    after = common(broken[::-1][: most - before], text[::-1][: most - before])
    edit[before : max(len(text) - after, before + 1)] = 1
    return edit


def common(a: np.ndarray, b: np.ndarray) -> int:
    """How many tokens are the same from the beginning on."""
    different = np.flatnonzero(a != b)
    return int(different[0]) if len(different) else len(a)


def edits(batch: Batch) -> Batch:
    """The batch asked for what is no copy."""
    assert isinstance(batch, FixBatch)
    return replace(batch, targets=batch.targets.masked_fill(batch.edit == 0, IGNORE), capacity=batch.edit_capacity)

"""Objectives that read a source and write a target (Raffel et al. 2020, arXiv:1910.10683), in any of three layouts.

With the source 7 8 5, the target 3 9 and end of text 1 (. is not asked):

    layout            prefix         causal         encoder_decoder
    source                                          7 8 5 1           order 0 0 0 0
    tokens            7 8 5 3 9 1    7 8 5 3 9 1    0 3 9             0 begins the decoder
    targets           . . 3 9 1 .    . . 3 9 1 .    3 9 1
    order             0 0 0 1 2 3    0 1 2 3 4 5    0 1 2

Of packed documents each has a source and a target of its own, side by side.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lmx.batch import IGNORE, Batch, trimmed
from lmx.data.noise import Keys
from lmx.data.packing import Sample
from lmx.data.tokenizer import Vocabulary
from lmx.nn.cache import Cache
from lmx.nn.encoder_decoder import Decoder, Sharing
from lmx.nn.transformer import Transformer
from lmx.objectives.asking import only
from lmx.objectives.objective import Prediction, each_document, plain, stack
from lmx.objectives.writing import Gap, Opening

Layout = Literal["prefix", "causal", "encoder_decoder"]
Pair = tuple[np.ndarray, np.ndarray]  # source and target; a target ends with EOS, a source does not


class TextToText(Prediction):
    """Subclasses say how long a text may be and what becomes of it."""

    prompt = np.zeros(0, dtype=np.int64)  # stands before every source

    def __init__(
        self,
        *,
        length: int,
        model: Transformer,
        vocabulary: Vocabulary,
        layout: Layout,
        decoder: Sharing,
        z_loss: float,
    ):
        super().__init__(model=model, vocabulary=vocabulary, z_loss=z_loss)
        self.length = length
        self.layout: Layout = layout
        self.decoder = Decoder(model, decoder) if layout == "encoder_decoder" else None
        self.start = vocabulary.pad  # what the decoder reads first
        self.summary = "last" if layout == "causal" else "mean"
        self.raw_length = self.longest()
        self.target_length = self.longest_target()

    @abstractmethod
    def longest(self) -> int:
        """Tokens of text that a sample of `length` positions holds."""

    def longest_target(self) -> int:
        """Positions of the decoder, where there is one."""
        return self.length

    @abstractmethod
    def pose(self, text: np.ndarray, keys: Keys, rng: np.random.Generator) -> Pair:
        """Source and target of a text [n], n >= 2, without the EOS of documents."""

    def raw_lengths(self, keys: Keys) -> np.ndarray:
        return np.full(len(keys), self.raw_length)

    def collate(self, samples: Sequence[Sample], keys: Keys) -> Batch:
        return self.arrange([self.pairs(sample, keys, number) for number, sample in enumerate(samples)])

    def pairs(self, sample: Sample, keys: Keys, number: int) -> list[Pair]:
        """One for each document that fits; of the last one as much as does."""

        def pose(text: np.ndarray, document: int) -> Pair:
            return self.pose(text, keys, keys.generator(number, f"document {document}"))

        return each_document(sample, self.vocabulary.eos, pose, self.overflow)

    def overflow(self, pairs: Sequence[Pair]) -> int:
        """How many positions too many they take."""
        source, target = (sum(map(len, side)) for side in zip(*pairs, strict=True))
        if self.layout != "encoder_decoder":
            return source + target - self.length
        return max(source + len(pairs) - self.length, target - self.target_length)

    def arrange(
        self, rows: Sequence[Sequence[Pair]], length: int | None = None, target_length: int | None = None
    ) -> Batch:
        """The batch of a layout, a row for each list of pairs; the lengths are those of training unless they are given."""
        length, target_length = length or self.length, target_length or self.target_length
        if self.layout != "encoder_decoder":
            return stack([joined(row, self.layout) for row in rows], length)
        begin = [[np.concatenate([[self.start], target[:-1]]) for _, target in row] for row in rows]
        columns = [
            side([(tokens, target, np.arange(len(target))) for tokens, (_, target) in zip(*row, strict=True)])
            for row in zip(begin, rows, strict=True)
        ]
        ended = [[np.append(source, self.vocabulary.eos) for source, _ in row] for row in rows]
        sources = [
            side([(source, np.full(len(source), IGNORE), np.zeros(len(source), dtype=np.int64)) for source in row])
            for row in ended
        ]
        return replace(stack(columns, target_length), source=stack(sources, length))

    def following(self, texts: Sequence[np.ndarray], contexts: Sequence[int]) -> Batch:
        """All after the context is hidden."""
        return self.hiding(texts, [np.arange(len(text)) >= given for text, given in zip(texts, contexts, strict=True)])

    def ask(self, pairs: Sequence[Pair], asked: Sequence[np.ndarray]) -> Batch:
        """One pair a row, no longer than it must be; of each target only what is `asked` [n] bool."""
        source, target = (max(len(pair[number]) for pair in pairs) for number in (0, 1))
        whole = max(len(source) + len(target) for source, target in pairs)
        length = source + 1 if self.layout == "encoder_decoder" else whole
        return only(self.arrange([[pair] for pair in pairs], length, target), asked)

    def opens(
        self, source: np.ndarray, gaps: Sequence[Gap], begin: Sequence[int] = (), *, whole: bool = False
    ) -> Opening:
        """Read `source`, then write; `begin` stands before what is written."""
        first = np.array([self.start, *begin] if self.layout == "encoder_decoder" else begin, dtype=np.int64)
        batch = self.arrange([[(source, np.append(first, 0))]], len(source) + 1 + len(first), len(first) + 1)
        if self.layout != "encoder_decoder":
            return Opening(batch=first_columns(batch, len(source) + len(first)), gaps=gaps, whole=whole)
        tokens = torch.from_numpy(first)[None]
        return Opening(batch=replace(first_columns(batch, len(first)), tokens=tokens), gaps=gaps, whole=whole)

    def writer(self, model: Transformer, batch: Batch) -> Cache:
        return super().writer(model, batch) if self.decoder is None else self.decoder.cache(model, batch)

    def hidden(self, model: Transformer, batch: Batch) -> Tensor:
        return model(batch) if self.decoder is None else self.decoder(model, batch)

    def reading(self, texts: Sequence[np.ndarray], cuts: Sequence[int] | None = None) -> Batch:
        """Texts as sources."""
        end = [] if self.decoder is None else [self.vocabulary.eos]
        return plain(texts, self.prompt.tolist(), end, causal=self.layout == "causal")

    def layers(self, model: Transformer, batch: Batch) -> list[Tensor]:
        """Of the encoder, where there is one."""
        return super().layers(model, batch) if self.decoder is None else self.decoder.layers(model, batch)


def first_columns(batch: Batch, size: int) -> Batch:
    """The first positions of a batch; of a source, those that are real."""
    columns = ("tokens", "targets", "position", "document", "order")
    return replace(
        batch,
        **{name: getattr(batch, name)[:, :size] for name in columns},
        source=batch.source and trimmed(batch.source),
    )


def joined(pairs: Sequence[Pair], layout: Layout) -> dict[str, np.ndarray]:
    """One row for a single stack: each source and its target, one after the other."""
    parts = []
    for source, target in pairs:
        tokens = np.concatenate([source, target])
        targets = np.concatenate([np.full(len(source) - 1, IGNORE), target, [IGNORE]])
        order = np.arange(len(tokens))
        parts.append((tokens, targets, np.maximum(order - len(source) + 1, 0) if layout == "prefix" else order))
    return side(parts)


def side(parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    """One row of (tokens, targets, order) a document."""
    if not parts:
        return dict.fromkeys(("tokens", "targets", "order", "document"), np.zeros(0, dtype=np.int64))
    tokens, targets, order = (np.concatenate(column) for column in zip(*parts, strict=True))
    document = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
    return {"tokens": tokens, "targets": targets, "order": order, "document": document}

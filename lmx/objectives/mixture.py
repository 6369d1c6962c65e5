"""Several objectives in one run, a sample belonging to one of them: UL2's denoisers, CLM and MLM, one after the other.

All parts share the trunk, one vocabulary head and, in the encoder-decoder layout, one decoder; the loss is the mean over all
targets of a step, so that parts which ask more weigh more. Each part's own mean is logged, too.

GPT-BERT (Charpentier and Samuel 2024) fixes parts by rank and AntLM (Yu et al. 2024) by epoch; here a part is a function of the
sample and, with `last_weights`, of the share of the budget that is spent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Interval
from torch import Tensor

from lmx.batch import IGNORE, PADDING, Batch, Details
from lmx.data.noise import Keys
from lmx.data.packing import Sample
from lmx.data.tokenizer import Vocabulary
from lmx.errors import LmxError
from lmx.nn.cache import Cache
from lmx.nn.encoder_decoder import Decoder, Sharing
from lmx.nn.transformer import Transformer
from lmx.objectives.objective import BUCKET, Prediction, asked
from lmx.objectives.text_to_text import Layout, TextToText
from lmx.objectives.writing import Opening

Weight = Annotated[float, Ge(0)]


@dataclass(frozen=True, kw_only=True)
class MixtureBatch(Batch):
    part: Tensor  # [B] which part a row belongs to


class Mixture(Prediction):
    def __init__(
        self,
        *,
        model: Transformer,
        vocabulary: Vocabulary,
        parts: Mapping[str, Prediction],
        weights: Mapping[str, Weight],
        by: Literal["example", "token"],
        last_weights: Mapping[str, Weight] | None,
        switch: Annotated[float, Interval(gt=0, lt=1)] | None,
        layout: Layout,
        decoder: Sharing,
        z_loss: Annotated[float, Ge(0)],
    ):
        """Raises LmxError for weights that fit no parts, and for parts that cannot be mixed."""
        super().__init__(model=model, vocabulary=vocabulary, z_loss=z_loss)
        self.names = list(parts)
        self.parts = list(parts.items())  # no modules of this one: their heads are not used
        self.by, self.switch = by, switch
        self.first = self.shares(weights)
        self.last = self.first if last_weights is None else self.shares(last_weights)
        self.lookahead = max(part.lookahead for part in parts.values())
        self.decoder = Decoder(model, decoder) if layout == "encoder_decoder" else None
        self.agree(layout)
        self.weights |= dict.fromkeys(self.names, 0.0)
        self.bounds = any(part.bounds for part in parts.values())
        asks = {name: part for name, part in parts.items() if part.follows}
        self.follower = max(asks, key=lambda name: asks[name].follows_exactly, default=None)
        if self.follower is not None:
            self.follows, self.follows_exactly = asks[self.follower].follows, asks[self.follower].follows_exactly
        hiders = {name: part for name, part in parts.items() if part.hides}
        self.hider = max(hiders, key=lambda name: hiders[name].bounds, default=None)
        if self.hider is not None:
            self.hides, self.fills = hiders[self.hider].hides, hiders[self.hider].fills
        sees_all = [part.summary != "last" for part in parts.values()]
        self.reader = sees_all.index(True) if any(sees_all) else 0
        self.summary = self.parts[self.reader][1].summary

    def shares(self, weights: Mapping[str, float]) -> np.ndarray:
        """[parts] probabilities of the parts."""
        if set(weights) != set(self.names) or not sum(weights.values()):
            raise LmxError(
                f"objective.weights must give each of {', '.join(self.names)} a weight, not all 0, "
                f"got {', '.join(f'{name}={value:g}' for name, value in weights.items()) or 'none'}."
            )
        found = np.array([weights[name] for name in self.names])
        if self.by == "token":
            found = found / self.lengths()
        return found / found.sum()

    def lengths(self) -> np.ndarray:
        """[parts] tokens that a sample of each consumes."""
        one = Keys(seed=0, purpose="train", sample=np.zeros(1, dtype=np.int64))
        return np.array([part.raw_lengths(one)[0] for _, part in self.parts])

    def agree(self, layout: Layout) -> None:
        texts = [part for _, part in self.parts if isinstance(part, TextToText)]
        if any((part.layout == "encoder_decoder") != (layout == "encoder_decoder") for part in texts) or (
            layout == "encoder_decoder" and len(texts) < len(self.parts)
        ):
            raise LmxError(f"objective.layout must be that of all parts, got {layout}. Type it as objective.layout=…")
        if (self.first != self.last).any() and len(set(self.lengths())) > 1:
            raise LmxError(
                "objective.last_weights must mix parts that consume as many tokens a sample as each other, got "
                f"{', '.join(f'{name}={length}' for name, length in zip(self.names, self.lengths(), strict=True))}."
            )
        for part in texts:
            part.target_length = max(part.target_length for part in texts)

    def raw_lengths(self, keys: Keys) -> np.ndarray:
        return self.lengths()[self.draw(keys)]

    def draw(self, keys: Keys) -> np.ndarray:
        """[N] the part of each sample; validation has as many of the last mixture as of the first."""
        moved = keys.progress if self.switch is None else float(keys.progress >= self.switch)
        if keys.purpose == "validation":
            moved = 0.5
        edges = np.cumsum(self.first + (self.last - self.first) * moved)
        luck = np.array([keys.generator(number, "part").random() for number in range(len(keys))])
        return np.minimum(np.searchsorted(edges, luck, side="right"), len(edges) - 1)

    def collate(self, samples: Sequence[Sample], keys: Keys) -> Batch:
        drawn = self.draw(keys)
        batches, places = [], []
        for number, (_, part) in enumerate(self.parts):
            mine = np.flatnonzero(drawn == number)
            if len(mine):
                length = int(self.lengths()[number]) + part.lookahead
                own = [shortened(samples[index], length) for index in mine.tolist()]
                batches.append(part.collate(own, replace(keys, sample=keys.sample[mine])))
                places.append(mine)
        order = np.argsort(np.concatenate(places))
        return joined(batches, torch.from_numpy(order), torch.from_numpy(drawn))

    def details(self, batch: Batch) -> Details:
        assert isinstance(batch, MixtureBatch)
        shares = ", ".join(f"{name} {share:.0%}" for name, share in zip(self.names, self.first, strict=True))
        return Details(
            facts=[f"part {self.names[part]}, drawn by the seed from {shares}" for part in batch.part.tolist()]
        )

    def opening(self, parts: Sequence[np.ndarray]) -> Opening:
        """As the first part writes that can: gaps are filled as those that hide do it."""
        several, error = dict(self.parts), None
        for name in filter(None, [self.hider if len(parts) > 1 else self.follower, *several]):
            try:
                return several[name].opening(parts)
            except LmxError as failure:
                error = failure
        raise error or LmxError("Mixture has no part that writes.")

    def writer(self, model: Transformer, batch: Batch) -> Cache:
        return super().writer(model, batch) if self.decoder is None else self.decoder.cache(model, batch)

    def following(self, texts: Sequence[np.ndarray], contexts: Sequence[int]) -> Batch:
        """As the first part asks that can, preferably one that was trained to."""
        return dict(self.parts)[str(self.follower)].following(texts, contexts)

    def hiding(self, texts: Sequence[np.ndarray], hidden: Sequence[np.ndarray]) -> Batch:
        return dict(self.parts)[str(self.hider)].hiding(texts, hidden)

    def reading(self, texts: Sequence[np.ndarray], cuts: Sequence[int] | None = None) -> Batch:
        return self.parts[self.reader][1].reading(texts, cuts)

    def layers(self, model: Transformer, batch: Batch) -> list[Tensor]:
        return super().layers(model, batch) if self.decoder is None else self.decoder.layers(model, batch)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(batch, MixtureBatch)
        rows = (batch.targets != IGNORE).sum(1)
        own = {name: rows[batch.part == number].sum() for number, name in enumerate(self.names)}
        return dict.fromkeys(self.weights, batch.num_targets) | own

    def forward(self, model: Transformer, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(batch, MixtureBatch)
        hidden, targets = asked(self.hidden(model, batch), batch)
        part, _ = asked(batch.part[:, None].expand_as(batch.targets), batch)
        nats, z, rows = self.score(hidden, self.output_weight(model), targets)
        return self.terms(nats, z) | {name: (rows * (part == number)).sum() for number, name in enumerate(self.names)}

    def hidden(self, model: Transformer, batch: Batch) -> Tensor:
        return model(batch) if self.decoder is None else self.decoder(model, batch)


def shortened(sample: Sample, length: int) -> Sample:
    """The first `length` tokens."""
    segment = sample.segment[:length]
    return Sample(
        sample.tokens[:length], segment, sample.documents[: segment[-1] + 1] if segment.any() else sample.documents
    )


def joined(batches: Sequence[Batch], order: Tensor, part: Tensor) -> MixtureBatch:
    """The rows of all batches in the order of their samples."""
    tensors = {
        field.name: torch.cat([getattr(batch, field.name) for batch in batches])[order]
        for field in fields(Batch)
        if isinstance(getattr(batches[0], field.name), Tensor)
    }
    patterns = {batch.pattern for batch in batches}
    whole = not (tensors["document"] == PADDING).any()
    return MixtureBatch(
        **tensors,
        pattern=batches[0].pattern if len(patterns) == 1 and whole else "mixed",
        capacity=-(-int((tensors["targets"] != IGNORE).sum()) // BUCKET) * BUCKET,
        source=joined([batch.source for batch in batches if batch.source], order, part) if batches[0].source else None,
        part=part,
    )

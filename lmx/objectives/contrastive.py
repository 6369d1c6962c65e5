"""Contrastive pairs: among all texts of a batch, find the one that belongs to a text (SimCSE, Gao et al. 2021, arXiv:2104.08821;
E5, Wang et al. 2022, arXiv:2212.03533).

With [CLS] 2 and [SEP] 3, and a text 10 11 12 13:

    dropout     tokens    2 10 11 12 13  3             read twice, under two dropout masks
    adjacent    tokens    2 10 11  3  2 12 13  3       two passages that do not see each other
                document  0  0  0  0  1  1  1  1

A row poses one question, and all rows are its candidates, those of other ranks too: a batch cannot be cut. No token is asked, so
no position has a target. Evaluation draws no dropout, and there the two views of SimCSE are one: its loss then says how far apart
the texts are. `sub_batch` holds the activations of a few rows at a time (GradCache, Gao et al. 2021, arXiv:2101.06983).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from hashlib import blake2b
from typing import Annotated, Literal, cast

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lmx.batch import IGNORE, PADDING, Batch, Details
from lmx.data.noise import Keys
from lmx.data.packing import Sample
from lmx.data.tokenizer import Vocabulary
from lmx.errors import LmxError
from lmx.nn.block import Block
from lmx.nn.transformer import Transformer
from lmx.objectives.objective import Objective, Summary, plain, stack
from lmx.objectives.segment_pair import longest
from lmx.objectives.writing import Opening

Pooling = Literal["cls", "mean", "last"]
SUMMARY: dict[Pooling, Summary] = {"cls": "first", "mean": "mean", "last": "last"}


@dataclass(frozen=True, kw_only=True)
class ContrastiveBatch(Batch):
    text: Tensor  # [B, 2] a hash of each view's text
    readings: int  # of each row: 2 with dropout

    @property
    def num_targets(self) -> Tensor:
        return real(self).sum()

    @property
    def num_positions(self) -> int:
        return self.readings * super().num_positions

    def pairs(self, kind: str) -> int:
        return self.readings * super().pairs(kind)


class Contrastive(Objective):
    indivisible = True

    def __init__(
        self,
        *,
        length: int,
        model: Transformer,
        vocabulary: Vocabulary,
        views: Literal["dropout", "adjacent"],
        pooling: Pooling,
        mlp: bool,
        temperature: Annotated[float, Gt(0)],
        symmetric: bool,
        sub_batch: Annotated[int, Ge(1)] | None,
        dropout: Annotated[float, Interval(gt=0, lt=1)],
    ):
        super().__init__()
        if views == "dropout" and not model.dropout:  # two readings would be the same
            model.dropout = dropout
            for block in cast(Iterable[Block], model.blocks):
                block.dropout = dropout
        self.length, self.vocabulary = length, vocabulary
        self.views, self.symmetric, self.temperature, self.sub_batch = views, symmetric, temperature, sub_batch
        self.pooling: Pooling = pooling
        self.summary = SUMMARY[pooling]
        self.mlp = nn.Sequential(nn.Linear(model.width, model.width), nn.Tanh()) if mlp else nn.Identity()
        self.weights["chance"] = 0.0  # nats of a guess: the logarithm of the number of candidates

    def opening(self, parts: Sequence[np.ndarray]) -> Opening:
        raise LmxError(
            "RUN must be of an objective that writes text, got Contrastive, which compares texts. "
            "Type lmx evaluate RUN embeddings."
        )

    def raw_lengths(self, keys: Keys) -> np.ndarray:
        return np.full(len(keys), self.length - (2 if self.views == "dropout" else 4))

    def collate(self, samples: Sequence[Sample], keys: Keys) -> Batch:
        pairs = [self.pair(longest(sample, self.vocabulary.eos)[0]) for sample in samples]
        rows = [self.row(pair[:1] if self.views == "dropout" else pair) for pair in pairs]
        text = torch.tensor([[digest(view) for view in pair] for pair in pairs])
        readings = 2 if self.views == "dropout" else 1
        return stack(rows, self.length, ContrastiveBatch, text=text, readings=readings)

    def pair(self, text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The two views of a text."""
        if self.views == "dropout":
            return text, text
        middle = len(text) // 2
        starts = (
            np.flatnonzero(self.vocabulary.starts_word[text[1:]]) + 1
        )  # half a word would tell which other half is its own
        cut = int(starts[np.abs(starts - middle).argmin()]) if len(starts) else middle
        return text[:cut], text[cut:]

    def row(self, texts: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Each text between [CLS] and [SEP], as a document of its own."""
        vocabulary = self.vocabulary
        framed = [np.concatenate([[vocabulary.cls], text, [vocabulary.sep]]).astype(np.int64) for text in texts]
        tokens = np.concatenate(framed)
        document = np.repeat(np.arange(len(framed)), [len(text) for text in framed])
        nothing = np.full_like(tokens, IGNORE)
        return {"tokens": tokens, "targets": nothing, "document": document, "order": np.zeros_like(tokens)}

    def reading(self, texts: Sequence[np.ndarray], cuts: Sequence[int] | None = None) -> Batch:
        return plain(texts, [self.vocabulary.cls], [self.vocabulary.sep])

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return dict.fromkeys(self.weights, batch.num_targets)

    def details(self, batch: Batch) -> Details:
        read = {
            "dropout": "a text is read twice, under two dropout masks; the other reading is to be found among those of all rows.",
            "adjacent": "two passages of a text; the other one is to be found among those of all rows.",
        }
        return Details(facts=[read[self.views], "no token is asked: a row is one question."])

    def constants(self, sums: Mapping[str, float], counts: Mapping[str, int]) -> dict[str, float]:
        return {"loss": sums["chance"] / max(counts["chance"], 1)}

    def forward(self, model: Transformer, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(batch, ContrastiveBatch)
        nats, candidates = self.contrast(self.vectors(model, batch), batch.text, real(batch))
        return {"loss": nats, "chance": candidates.float().log().sum()}

    def vectors(self, model: Transformer, batch: ContrastiveBatch) -> Tensor:
        """[B, 2, D] of both views, computed `sub_batch` rows at a time.

        Checkpoints compute a part once more when the gradient of its vectors is known, from the same random state: so the loss
        is that of the whole batch, and activations are those of one part.
        """
        if self.sub_batch is None or batch.tokens.is_meta:  # what is computed twice counts once
            return self.embed(model, batch)
        parts = [
            rows(batch, slice(start, start + self.sub_batch)) for start in range(0, len(batch.tokens), self.sub_batch)
        ]
        return torch.cat([checkpoint(self.embed, model, part, use_reentrant=False) for part in parts])

    def embed(self, model: Transformer, batch: ContrastiveBatch) -> Tensor:
        """[B, 2, D], not normalised"""
        if self.views == "dropout":
            twice = rows(batch, torch.arange(len(batch.tokens), device=batch.tokens.device).repeat(2))
            found = pool(model(twice), twice.document == 0, self.pooling).unflatten(0, (2, -1)).transpose(0, 1)
        else:
            hidden = model(batch)
            found = torch.stack([pool(hidden, batch.document == view, self.pooling) for view in (0, 1)], dim=1)
        return self.mlp(found) if self.training else found

    def contrast(self, vectors: Tensor, text: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """vectors [B, 2, D] of this rank, text [B, 2], real [B] -> nats [], summed over its queries; candidates of each row [B].

        Rows that share a text are no negatives of each other.
        """
        vectors = F.normalize(vectors.float(), dim=-1)
        together = self.training and dist.is_initialized()  # one rank evaluates
        others, texts, candidates = (gather(x) if together else x for x in (vectors, text, real))
        first = dist.get_rank() * len(vectors) if together else 0
        own = torch.arange(first, first + len(vectors), device=vectors.device)
        same = (text[:, None, :, None] == texts[None, :, None, :]).flatten(2).any(-1)
        itself = own[:, None] == torch.arange(len(texts), device=own.device)
        seen = (candidates & ~same) | itself
        device = "cpu" if vectors.is_meta else vectors.device.type
        with torch.autocast(device, enabled=False):  # float32: at 0.01, logits reach 100
            nats = self.nats_of(vectors[:, 0], others[:, 1], seen, own)
            if self.symmetric:
                nats = (nats + self.nats_of(vectors[:, 1], others[:, 0], seen, own)) / 2
        return nats.masked_fill(~real, 0).sum(), seen.sum(1).masked_fill(~real, 1)

    def nats_of(self, queries: Tensor, candidates: Tensor, seen: Tensor, own: Tensor) -> Tensor:
        """queries [B, D], candidates [N, D], seen [B, N], own [B] -> [B]"""
        scores = (queries @ candidates.T / self.temperature).masked_fill(~seen, -torch.inf)
        return F.cross_entropy(scores, own, reduction="none")


class Gather(torch.autograd.Function):
    """The rows of all ranks, in their order. Every rank's loss needs these vectors, so the gradients for them are summed."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, slope: Tensor) -> Tensor:
        slope = slope.contiguous()
        dist.all_reduce(slope)
        return slope.chunk(dist.get_world_size())[dist.get_rank()]


def gather(x: Tensor) -> Tensor:
    """[B, ...] of this rank -> [ranks x B, ...], with the exact gradient."""
    return x.repeat(dist.get_world_size(), *[1] * (x.ndim - 1)) if x.is_meta else Gather.apply(x)


def rows(batch: ContrastiveBatch, index: slice | Tensor) -> ContrastiveBatch:
    """Some rows of a batch, a part of it or more than once."""
    columns = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return replace(batch, **{name: value[index] for name, value in columns.items() if isinstance(value, Tensor)})


def real(batch: Batch) -> Tensor:
    """[B] bool, the rows that are no padding"""
    return (batch.document != PADDING).any(1)


def pool(hidden: Tensor, inside: Tensor, pooling: Pooling) -> Tensor:
    """hidden [B, L, D], inside [B, L] bool, the positions of a text -> [B, D]"""
    if pooling == "mean":
        share = inside / inside.sum(1, keepdim=True).clamp(min=1)
        return (hidden * share[:, :, None]).sum(1)
    place = inside.int().argmax(1)
    if pooling == "last":
        place = place + (inside.sum(1) - 1).clamp(min=0)
    return hidden[torch.arange(len(hidden), device=hidden.device), place]


def digest(text: np.ndarray) -> int:
    """A number by which equal texts are found, over ranks too."""
    return int.from_bytes(blake2b(text.astype(np.int64).tobytes(), digest_size=8).digest(), "little", signed=True)

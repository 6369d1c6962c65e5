"""The one thing every part of lmx agrees on: what a model reads and what it is asked.

Shapes, project-wide: B sequences, L positions, D width, H heads, K head width, V vocabulary.
Attention is data, not architecture: query q may look at key k when both belong to the same document
and `order[k] <= order[q]`.

    causal                 order = 0 1 2 3 4
    bidirectional          order = 0 0 0 0 0
    prefix of 3            order = 0 0 0 1 2
    two packed documents   order = 0 1 2 0 1    document = 0 0 0 1 1
    permutation            order = any permutation
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

IGNORE = -100  # a target that is not scored
PADDING = -1  # a document id that nothing attends to

Pattern = Literal["causal", "full", "mixed"]
Kind = TypeVar("Kind", bound="Batch")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Targets are aligned: position i is asked for `targets[i]`; the model never shifts."""

    tokens: Tensor  # [B, L] what the model reads
    targets: Tensor  # [B, L] what it must predict there, or IGNORE
    position: Tensor  # [B, L] distance from the start of the document
    document: Tensor  # [B, L] document id within the row, or PADDING
    order: Tensor  # [B, L] see above
    source: "Batch | None" = None  # the encoder's side, in the encoder-decoder layout
    pattern: Pattern = "mixed"  # what visible() is, so that a mask is built only where one is needed
    capacity: int  # at least as many as there are targets: the static number of rows that the head sees

    @property
    def num_targets(self) -> Tensor:
        """[] int64, scored positions."""
        return (self.targets != IGNORE).sum()

    @property
    def num_positions(self) -> int:
        """Of the model, padding included; those of the source, too."""
        return self.tokens.numel() + (self.source.num_positions if self.source else 0)

    def pairs(self, kind: str) -> int:
        """Pairs of a query and a key that it may see, for each kind of attention that the objective computes."""
        if kind == "self":
            return visible_pairs(self)
        assert self.source is not None, kind
        return visible_pairs(self.source) if kind == "source" else visible_pairs(self, self.source)

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on `device`; copies overlap with computation when the memory is pinned."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {
            name: value.to(device, non_blocking=True) for name, value in values.items() if isinstance(value, Tensor)
        }
        return replace(self, **moved, source=self.source and self.source.to(device))


@dataclass(frozen=True, kw_only=True)
class Details:
    """What there is to see of a batch beyond what every batch has, by name; IGNORE stands where there is nothing."""

    reads: Mapping[str, Tensor] = field(default_factory=dict)  # [B, L] tokens that another part of the model reads
    asks: Mapping[str, Tensor] = field(default_factory=dict)  # [B, L] tokens that another part of the loss asks for
    numbers: Mapping[str, Tensor] = field(default_factory=dict)  # [B, L]
    grids: Mapping[str, Tensor] = field(default_factory=dict)  # [B, L, L] bool, further query (row) sees key (column)
    facts: Sequence[str] = ()  # sentences about the batch, or one about each row


def fill(batch: Batch, rows: int) -> Batch:
    """The batch with its last row repeated up to `rows`, there padding that is asked nothing: a shape already compiled."""
    missing = rows - len(batch.tokens)
    if missing <= 0:
        return batch
    columns = {field.name: getattr(batch, field.name) for field in fields(batch)}
    longer = {
        name: torch.cat([value, value[-1:].expand(missing, *value.shape[1:])])
        for name, value in columns.items()
        if isinstance(value, Tensor)
    }
    longer["targets"][-missing:], longer["document"][-missing:] = IGNORE, PADDING
    return replace(batch, **longer, source=batch.source and fill(batch.source, rows))


def trimmed(batch: Kind) -> Kind:
    """The batch without the last columns where they are padding in all rows."""
    length = batch.tokens.shape[1]
    used = int((batch.document != PADDING).any(0).nonzero().max()) + 1 if (batch.document != PADDING).any() else 1
    columns = {field.name: getattr(batch, field.name) for field in fields(batch)}
    shorter = {
        name: value[:, :used]
        for name, value in columns.items()
        if isinstance(value, Tensor) and value.dim() > 1 and value.shape[1] == length
    }
    return replace(batch, **shorter, source=batch.source and trimmed(batch.source))


def visible(batch: Batch, *, strict: bool = False) -> Tensor:
    """[B, 1, L, L] bool, True where query (row) may attend to key (column).

    `strict` asks for `order[k] < order[q]` (XLNet's query stream). Every position sees at least
    itself, padding too, so that no softmax runs over nothing.
    """
    same = batch.document[:, :, None] == batch.document[:, None, :]
    q, k = batch.order[:, :, None], batch.order[:, None, :]
    ready = k < q if strict else k <= q
    itself = torch.eye(batch.tokens.shape[1], dtype=torch.bool, device=batch.tokens.device)
    real = (batch.document != PADDING)[:, None, :]
    seen = same & ready & real
    alone = ~seen.any(-1, keepdim=True) & itself
    return (seen | alone)[:, None]


def crossing(batch: Batch, source: Batch) -> Tensor:
    """[B, 1, L, S] bool, True where a decoder's query may attend to the encoder's key: in the same document.

    Padding sees the first key, so that no softmax runs over nothing.
    """
    seen = (batch.document[:, :, None] == source.document[:, None, :]) & (source.document != PADDING)[:, None, :]
    first = torch.arange(source.tokens.shape[1], device=source.tokens.device) == 0
    return (seen | (~seen.any(-1, keepdim=True) & first))[:, None]


def visible_pairs(batch: Batch, source: Batch | None = None) -> int:
    """How many (query, key) pairs of real positions are visible: what attention has to compute.

    With a `source`, its positions are the keys, of the same document.
    """
    documents = max(batch.tokens.shape[1], source.tokens.shape[1] if source else 0)
    group, order = places(batch, documents)
    keys, key_order = places(source, documents) if source else (group, order)
    span = int(max(order.max(initial=0), key_order.max(initial=0))) + 1
    key = np.sort(keys * span + key_order)
    last = group * span + (span - 1 if source else order)
    return int((np.searchsorted(key, last, side="right") - np.searchsorted(key, group * span, side="left")).sum())


def places(batch: Batch, documents: int) -> tuple[np.ndarray, np.ndarray]:
    """(a number for each document of each row, order) of the real positions, both [n]; a row has at most `documents`."""
    document, order = batch.document.cpu().numpy(), batch.order.cpu().numpy()
    row = np.broadcast_to(np.arange(len(document))[:, None], document.shape)
    real = document != PADDING
    return (row * documents + document)[real], order[real]

"""Hidden states of given texts, layer by layer, for a model of any objective: what probes and embeddings are made of.

Layer 0 is the embedding, layer n what block n leaves, the last one normalised. A text is read as its objective says
(`Objective.reading`): from left to right by causal models, from both sides by others, by the encoder where there is one, by the
discriminator of ELECTRA. States are pooled over a text's own tokens, never over what frames them, and uniformly for all models:

    an item          [mean]                                    a text, or a word of it
    a pair           [u, v, |u - v|, u x v]                    two texts read together, u and v the means of each
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lmx.batch import IGNORE, trimmed
from lmx.evals.scoring import batched
from lmx.evals.yardstick import Report
from lmx.train.learner import Learner

POSITIONS = 2**12  # of a batch


@dataclass(frozen=True, kw_only=True, eq=False)
class Items:
    """Things to classify or to compare: stretches of tokens of texts. A pair is two stretches of one text."""

    texts: Sequence[np.ndarray]  # [n] int64 each, read as a whole
    owner: np.ndarray  # [N] which text an item is in
    spans: np.ndarray  # [N, P, 2] where its P parts begin and end
    labels: np.ndarray  # [N] int64, or float where it is a degree
    group: np.ndarray  # [N] items of one document are not independent

    def __len__(self) -> int:
        return len(self.owner)

    @property
    def cuts(self) -> list[int] | None:
        """Where the second text of each pair begins."""
        return self.spans[:, 1, 0].tolist() if self.spans.shape[1] == 2 else None

    @classmethod
    def whole(
        cls, texts: Sequence[np.ndarray], labels: Sequence[float] | np.ndarray, group: Sequence[int] | np.ndarray
    ) -> "Items":
        """An item for each text."""
        spans = np.array([[[0, len(text)]] for text in texts], dtype=np.int64).reshape(-1, 1, 2)
        return cls(
            texts=texts, owner=np.arange(len(texts)), spans=spans, labels=np.array(labels), group=np.array(group)
        )

    @classmethod
    def pairs(
        cls,
        texts: Sequence[tuple[np.ndarray, np.ndarray]],
        labels: Sequence[float] | np.ndarray,
        group: Sequence[int] | np.ndarray,
    ) -> "Items":
        """An item for each two texts, which are read one after the other."""
        spans = [[[0, len(first)], [len(first), len(first) + len(second)]] for first, second in texts]
        return cls(
            texts=[np.concatenate(pair) for pair in texts],
            owner=np.arange(len(texts)),
            spans=np.array(spans, dtype=np.int64).reshape(-1, 2, 2),
            labels=np.array(labels),
            group=np.array(group),
        )


@torch.no_grad()
def states(
    learner: Learner, device: torch.device, texts: Sequence[np.ndarray], cuts: Sequence[int] | None, report: Report
) -> Iterator[tuple[int, Tensor]]:
    """(number of a text, [layers, n, D] float32 on the CPU of its n tokens), short texts first."""
    objective = learner.objective
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    done = 0
    for part in batched(order, [len(text) for text in texts], POSITIONS):
        batch = objective.reading([texts[one] for one in part], None if cuts is None else [cuts[one] for one in part])
        batch = trimmed(batch)
        own = batch.targets != IGNORE
        layers = torch.stack(objective.layers(learner.model, batch.to(device))).float().cpu()
        for row, number in enumerate(part):
            yield number, layers[:, row, own[row]]
        done += len(part)
        report("reading", done / len(texts))


def means(learner: Learner, device: torch.device, items: Items, report: Report) -> Tensor:
    """[layers, N, P, D] float32, the mean of the states of each part of each item."""
    by_text: list[list[int]] = [[] for _ in items.texts]
    for item, owner in enumerate(items.owner.tolist()):
        by_text[owner].append(item)
    found = torch.zeros(0)
    for number, layers in states(learner, device, items.texts, items.cuts, report):
        if not len(found):
            found = torch.zeros(len(layers), *items.spans.shape[:2], layers.shape[2])
        for item in by_text[number]:
            for part, (begin, end) in enumerate(items.spans[item].tolist()):
                found[:, item, part] = layers[:, begin:end].mean(1)
    return found


def joined(parts: Tensor) -> Tensor:
    """[..., P, D] -> [..., D] of one part, [..., 4D] of two"""
    if parts.shape[-2] == 1:
        return parts[..., 0, :]
    u, v = parts.unbind(-2)
    return torch.cat([u, v, (u - v).abs(), u * v], dim=-1)


def words(items: Items, fitted: Items, size: int) -> Tensor:
    """[N, P, V] float32, tf-idf of the tokens of each part, of length 1; how rare a token is, is counted over `fitted`."""
    rarity = np.log((1 + len(fitted)) / (1 + (counts(fitted, size).sum(1) > 0).sum(0))) + 1
    weights = torch.from_numpy(np.log1p(counts(items, size)) * rarity).float()
    return torch.nn.functional.normalize(weights, dim=-1)


def counts(items: Items, size: int) -> np.ndarray:
    """[N, P, V] how often each token is in each part"""
    found = np.zeros((*items.spans.shape[:2], size), dtype=np.float32)
    for item, (owner, spans) in enumerate(zip(items.owner.tolist(), items.spans.tolist(), strict=True)):
        for part, (begin, end) in enumerate(spans):
            np.add.at(found[item, part], items.texts[owner][begin:end], 1)
    return found

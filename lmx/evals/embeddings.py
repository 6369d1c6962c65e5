"""Sentence embeddings without training: the mean of a text's hidden states, uniform for all models, at the layer that is best on
other texts.

    retrieval     of a passage of a held-out document, which of all passages stands behind it
    similarity    of two sentences, against how alike people find them (STS): Spearman's correlation, from files

Hidden states of language models lie in a narrow cone (Ethayarajh 2019, arXiv:1909.00512). So each result is given twice: as they
are (`mean`), and `mean_corrected`, without the mean of the texts that the layer is chosen by and without their largest principal
components (Mu and Viswanath 2018, arXiv:1702.01417). Floors: tf-idf, the model before training, and chance.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor

from lmx.errors import LmxError
from lmx.evals.features import Items, means, words
from lmx.evals.labelled import apart, some
from lmx.evals.records import SPLITS, Column, records, texts
from lmx.evals.tasks import folds, passages
from lmx.evals.texts import longest
from lmx.evals.yardstick import Report, Row, Subject, Yardstick

Metric = Callable[[Tensor, Items], np.ndarray]  # vectors [N, 2, D] of pairs -> a value for each pair, or one for all


class Embeddings(Yardstick):
    def __init__(
        self,
        *,
        path: str | None,
        text: Column,
        pair: Column,
        label: Column,
        items: Annotated[int, Interval(ge=4, le=2**20)],
        tokens: Annotated[int, Interval(ge=4, le=2**20)],
        components: Annotated[int, Interval(ge=0, le=1000)],
        every_layer: bool,
    ):
        self.path, self.items, self.tokens = path, items, tokens
        self.columns: dict[str, Column] = {
            f"embeddings.{k}": v for k, v in (("text", text), ("pair", pair), ("label", label))
        }
        self.components, self.every_layer = components, every_layer

    def __call__(self, subject: Subject, report: Report) -> Sequence[Row]:
        """No retrieval where held-out documents are too short for two passages."""
        report("reading texts", None)
        if self.path is not None:
            return list(
                self.rows(subject, "similarity", self.similar(subject, self.path), {"spearman": spearman}, report)
            )
        splits = self.adjacent(subject)
        if min(map(len, splits.values())) < 2:
            return []
        return list(self.rows(subject, "retrieval", splits, {"recall@1": recall, "mrr": reciprocal}, report))

    def check(self) -> None:
        if self.path is not None:
            records("embeddings", self.path, self.columns)

    def adjacent(self, subject: Subject) -> dict[str, Items]:
        """Pairs of passages that stand next to each other; each is read alone."""
        size, documents = min(self.tokens, longest(subject)), folds(subject)
        found = {split: passages(subject, documents[split], self.items, size) for split in ("dev", "test")}
        return {
            split: alone([pair for _, pair in rows], np.arange(len(rows)), [group for group, _ in rows])
            for split, rows in found.items()
        }

    def similar(self, subject: Subject, path: str) -> dict[str, Items]:
        """At most `items` pairs of each split. Raises LmxError."""
        splits, encode = apart(records("embeddings", path, self.columns)), subject.corpus.vocabulary.encode_batch
        size, made = min(self.tokens, longest(subject)), {}
        for split in SPLITS[1:]:
            rows = some(splits[split], self.items)
            for row in rows:
                texts(row[:2], "embeddings.text and embeddings.pair")
            first, second = (encode([row[place] for row in rows]) for place in (0, 1))
            pairs = [(a[:size], b[:size]) for a, b in zip(first, second, strict=True)]
            made[split] = alone(pairs, np.array([degree(row[2]) for row in rows]), list(range(len(rows))))
        if min(map(len, made.values())) < 3:
            raise LmxError(f"embeddings.path must hold pairs to choose a layer by and to test, got too few in {path}.")
        return made

    def rows(
        self, subject: Subject, task: str, splits: Mapping[str, Items], metrics: Mapping[str, Metric], report: Report
    ) -> Iterator[Row]:
        def half(first: bool) -> Report:
            return lambda phase, share: report(f"{task}, {phase}", ((share or 0.0) + (not first)) / 2)

        first = next(iter(metrics.values()))
        mine = {
            split: paired(means(subject.learner, subject.device, items, half(True))) for split, items in splits.items()
        }
        blank = {
            split: paired(means(subject.untrained(), subject.device, one, half(False))) for split, one in splits.items()
        }
        bag = paired(words(splits["test"], splits["dev"], subject.corpus.vocabulary.size)[None])[0]
        for scorer, components in (("mean", None), ("mean_corrected", self.components)):
            vectors, best = chosen(mine, splits, components, first)
            before, place = chosen(blank, splits, components, first)
            floors = {"tf-idf": bag, "untrained": before[place]}
            for metric, measure in metrics.items():
                heights = {name: float(measure(floor, splits["test"]).mean()) for name, floor in floors.items()}
                heights["chance"] = chance(metric, len(splits["test"]) // 2)
                highest = max(heights, key=lambda name: heights[name])
                layers = range(len(vectors)) if self.every_layer else ()
                for layer in [None, *layers]:
                    values = measure(vectors[best if layer is None else layer], splits["test"])
                    yield Row(
                        task=task if layer is None else f"{task}/layer {layer}",
                        metric=metric,
                        scorer=scorer,
                        value=float(values.mean()),
                        error=float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else None,
                        items=len(splits["test"]) // 2,
                        floor=heights[highest],
                        floor_name=highest,
                        unit="correlation" if metric == "spearman" else "share",
                        better="higher",
                        comparability="D",
                    )
            yield Row(
                task=task, metric="layer", scorer=scorer, value=best, items=len(splits["test"]) // 2, unit="layer",
                better="neither", comparability="D",
            )  # fmt: skip


def alone(pairs: Sequence[tuple[np.ndarray, np.ndarray]], labels: np.ndarray, group: Sequence[int]) -> Items:
    """Both texts of each pair as items of their own, one behind the other."""
    return Items.whole([text for pair in pairs for text in pair], np.repeat(labels, 2), np.repeat(group, 2))


def paired(vectors: Tensor) -> Tensor:
    """[layers, 2N, 1, D] -> [layers, N, 2, D]"""
    return vectors[:, :, 0].unflatten(1, (-1, 2))


def chosen(
    found: Mapping[str, Tensor], splits: Mapping[str, Items], components: int | None, metric: Metric
) -> tuple[list[Tensor], int]:
    """The test split's vectors [N, 2, D] of each layer, corrected, and the layer that is best on the development split."""
    layers, scores = [], []
    for dev, test in zip(found["dev"], found["test"], strict=True):
        dev, test = (dev, test) if components is None else (corrected(x, dev, components) for x in (dev, test))
        layers.append(test)
        scores.append(float(metric(dev, splits["dev"]).mean()))
    return layers, max(range(len(scores)), key=lambda layer: scores[layer])


def corrected(vectors: Tensor, seen: Tensor, components: int) -> Tensor:
    """[N, 2, D] without the mean of `seen` and its largest principal components"""
    flat = seen.flatten(0, 1).double()
    mean = flat.mean(0)
    directions = torch.linalg.svd(flat - mean, full_matrices=False).Vh[:components]
    centred = vectors.double() - mean
    return (centred - centred @ directions.T @ directions).float()


def ranks(vectors: Tensor, items: Items) -> np.ndarray:
    """[N] the rank, from 1, of each first text's second one among all second ones; equals share a rank."""
    a, b = F.normalize(vectors.double(), dim=-1).unbind(1)
    scores = a @ b.T
    own = scores.diagonal()[:, None]
    close = (scores - own).abs() < 1e-9
    above = ((scores > own) & ~close).sum(1)
    return (1 + above + (close.sum(1) - 1) / 2).numpy()


def recall(vectors: Tensor, items: Items) -> np.ndarray:
    return (ranks(vectors, items) <= 1).astype(float)


def reciprocal(vectors: Tensor, items: Items) -> np.ndarray:
    return 1 / ranks(vectors, items)


def spearman(vectors: Tensor, items: Items) -> np.ndarray:
    """[1] the correlation of the ranks of cosine and label"""
    cosine = F.cosine_similarity(*vectors.double().unbind(1), dim=-1).numpy()
    a, b = (np.unique(x, return_inverse=True) for x in (cosine, items.labels[::2]))
    first, second = (midranks(inverse) for _, inverse in (a, b))
    if not first.std() or not second.std():
        return np.zeros(1)
    return np.corrcoef(first, second)[:1, 1]


def midranks(inverse: np.ndarray) -> np.ndarray:
    """[N] ranks of numbers of sorted values; equals have the mean of theirs"""
    count = np.bincount(inverse)
    return (np.cumsum(count) - (count - 1) / 2)[inverse]


def chance(metric: str, number: int) -> float:
    """Of a random order of `number` candidates."""
    if metric == "spearman":
        return 0.0
    return 1 / number if metric == "recall@1" else float((1 / np.arange(1, number + 1)).mean())


def degree(value: object) -> float:
    """Raises LmxError for what is no number."""
    try:
        return float(str(value))
    except ValueError:
        raise LmxError(f"embeddings.label must name a field of numbers, got {value!r:.40}.") from None

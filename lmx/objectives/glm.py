"""GLM: fill blanks from left to right, in a shuffled order, each block with its own positions (Du et al. 2022, arXiv:2103.10360).

With the text 11 to 16, spans 13 and 15 16 drawn in the order second, first, and [CLS] 1, [MASK] 2, [SOP] 3, [EOP] 4:

    tokens      1 11 12  2 14  2   3 15 16   3 13
    targets     .  .  .  .  .  .  15 16  4  13  4
    position    0  1  2  3  4  5   5  5  5   3  3     of the blank, for all of its block
    block       0  0  0  0  0  0   1  2  3   1  2      within the block; an embedding of its own
    order       0  0  0  0  0  0   1  2  3   4  5      the corrupted text from both sides, then block after block

Modes: `token` (spans of Poisson lengths, together `rate`), `sentence` (whole sentences, together `rate`), `document` (one long
end, behind [GMASK], without [EOP]).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from lmx.batch import IGNORE, Batch, Details
from lmx.data.noise import Keys
from lmx.data.packing import Sample
from lmx.data.spans import runs
from lmx.data.tokenizer import Vocabulary
from lmx.errors import LmxError
from lmx.nn.transformer import Transformer
from lmx.objectives.objective import Prediction, each_document, plain, stack
from lmx.objectives.writing import Gap, Opening

LONGEST = 39  # tokens of a span: the Poisson distribution is cut to 1 … 39, as in the original
MODES = ("token", "sentence", "document")
Row = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class BlockBatch(Batch):
    block: Tensor  # [B, L] place within a block, from 1; 0 in the corrupted text


class GLM(Prediction):
    follows = "prefix"
    hides = "blank_word_l2r"

    def __init__(
        self,
        *,
        length: int,
        model: Transformer,
        vocabulary: Vocabulary,
        rate: Annotated[float, Interval(gt=0, le=0.5)],
        mean_span: Annotated[float, Gt(0)],
        modes: Mapping[str, Annotated[float, Ge(0)]],
        shortest_end: Annotated[float, Interval(gt=0, lt=1)],
        z_loss: Annotated[float, Ge(0)],
    ):
        """Raises LmxError for modes that are not there or have no weight."""
        super().__init__(model=model, vocabulary=vocabulary, z_loss=z_loss)
        if set(modes) != set(MODES) or not sum(modes.values()):
            raise LmxError(f"objective.modes must give {', '.join(MODES)} a weight each, not all 0, got {dict(modes)}.")
        self.length, self.rate, self.mean_span, self.shortest_end = length, rate, mean_span, shortest_end
        self.given: Sequence[int] | None = None  # blanks instead of random ones
        self.follows_exactly = modes["document"] > 0
        self.edges = np.cumsum([modes[mode] for mode in MODES]) / sum(modes.values())
        self.block = nn.Embedding(length + 2, model.width)
        nn.init.normal_(self.block.weight, std=0.3 * model.width**-0.5)

    def raw_lengths(self, keys: Keys) -> np.ndarray:
        noise = round(self.rate * self.length)
        return np.full(len(keys), self.length - 2 * max(1, round(noise / self.mean_span)) - 1)

    def collate(self, samples: Sequence[Sample], keys: Keys) -> Batch:
        rows = [self.row(sample, keys, number) for number, sample in enumerate(samples)]
        return stack(rows, self.length, BlockBatch, {"block": 0})

    def row(self, sample: Sample, keys: Keys, number: int) -> Row:
        def pose(text: np.ndarray, document: int) -> Row:
            rng = keys.generator(number, f"document {document}")
            mode = (
                MODES[int(np.searchsorted(self.edges, rng.random(), side="right"))] if self.given is None else "token"
            )
            spans = self.spans(text, mode, rng)
            return self.pose(text, [spans[place] for place in rng.permutation(len(spans))], mode == "document")

        pieces = each_document(
            sample, self.vocabulary.eos, pose, lambda found: sum(len(piece["tokens"]) for piece in found) - self.length
        )
        if not pieces:
            return dict.fromkeys(("tokens", "targets", "order", "position", "block", "document"), np.zeros(0, np.int64))
        columns = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
        return columns | {"document": np.repeat(np.arange(len(pieces)), [len(piece["tokens"]) for piece in pieces])}

    def opening(self, parts: Sequence[np.ndarray]) -> Opening:
        """A blank for each gap, written until [EOP]; a text in one part is continued behind [GMASK]."""
        ids = self.vocabulary
        blank, pieces = (ids.mask, parts) if len(parts) > 1 else (ids.gmask, [*parts, np.zeros(0, dtype=np.int64)])
        shown, places = [np.array([ids.cls]), pieces[0]], []
        for piece in pieces[1:]:
            places.append(sum(map(len, shown)))
            shown += [[blank], piece]
        row = np.concatenate(shown).astype(np.int64)
        fields = {"tokens": row, "targets": np.full(len(row), IGNORE), "order": 0 * row, "block": 0 * row}
        stops = frozenset([ids.eop, ids.eos])
        gaps = [Gap(first=ids.sop, stops=stops, position=place) for place in places]
        return Opening(batch=stack([fields], len(row), BlockBatch, {"block": 0}), gaps=gaps)

    def embedded(self, model: Transformer, batch: Batch) -> Tensor:
        assert isinstance(batch, BlockBatch)
        return model.embed(batch) + torch.where((batch.block > 0)[..., None], self.block(batch.block), 0.0)

    def following(self, texts: Sequence[np.ndarray], contexts: Sequence[int]) -> Batch:
        rows = [self.pose(text, [(given, len(text))], True) for text, given in zip(texts, contexts, strict=True)]
        return stack(rows, max(len(row["tokens"]) for row in rows), BlockBatch, {"block": 0})

    def hiding(self, texts: Sequence[np.ndarray], hidden: Sequence[np.ndarray]) -> Batch:
        """Each run of hidden tokens is a blank; its [EOP] is not asked."""
        rows = []
        for text, hide in zip(texts, hidden, strict=True):
            begins, ends = runs(hide)
            row = self.pose(text, list(zip(begins.tolist(), ends.tolist(), strict=True)), False)
            rows.append(row | {"targets": np.where(row["targets"] == self.vocabulary.eop, IGNORE, row["targets"])})
        return stack(rows, max(len(row["tokens"]) for row in rows), BlockBatch, {"block": 0})

    def reading(self, texts: Sequence[np.ndarray], cuts: Sequence[int] | None = None) -> Batch:
        return plain(texts, [self.vocabulary.cls])

    def fix(self, places: Sequence[int]) -> None:
        self.given = places

    def details(self, batch: Batch) -> Details:
        assert isinstance(batch, BlockBatch)
        return Details(numbers={"block": batch.block})

    def spans(self, text: np.ndarray, mode: str, rng: np.random.Generator) -> list[tuple[int, int]]:
        """(begin, end) of what is blanked, in the text's order."""
        if self.given is not None:
            begins, ends = runs(np.isin(np.arange(len(text)), self.given))
            return list(zip(begins.tolist(), ends.tolist(), strict=True))
        if mode == "document":
            least = max(1, int(self.shortest_end * len(text)))
            return [(len(text) - int(rng.integers(least, max(least, len(text) - 1) + 1)), len(text))]
        if mode == "sentence":
            return self.sentences(text, rng)
        return token_spans(len(text), max(1, int(self.rate * len(text))), self.mean_span, rng)

    def sentences(self, text: np.ndarray, rng: np.random.Generator) -> list[tuple[int, int]]:
        """Whole sentences in random order up to the one that reaches `rate`; a text of one sentence keeps its first token."""
        ends = self.vocabulary.ends_sentence[text].copy()
        ends[-1] = True
        edges = np.concatenate([[0], np.flatnonzero(ends) + 1])
        order = rng.permutation(len(edges) - 1)
        sizes = np.diff(edges)[order]
        chosen = np.sort(order[: int(np.searchsorted(np.cumsum(sizes), self.rate * len(text))) + 1])
        return [(max(int(edges[place]), int(len(edges) == 2)), int(edges[place + 1])) for place in chosen]

    def pose(self, text: np.ndarray, spans: Sequence[tuple[int, int]], document: bool) -> Row:
        """One document's columns: the text with blanks, then the blocks in the order of `spans`."""
        vocabulary = self.vocabulary
        blank = vocabulary.gmask if document else vocabulary.mask
        begins, kept = np.zeros(len(text), dtype=bool), np.ones(len(text), dtype=bool)
        for begin, end in spans:
            begins[begin], kept[begin:end] = True, False
        shown = np.concatenate([[vocabulary.cls], np.where(begins, blank, text)[kept | begins]])
        places = np.cumsum(kept | begins)  # of each token's blank in what is shown
        tokens, targets, position, block = [shown], [np.full(len(shown), IGNORE)], [np.arange(len(shown))], [0 * shown]
        for begin, end in spans:
            span = text[begin:end]
            read = np.concatenate([[vocabulary.sop], span[:-1] if document else span])
            tokens.append(read)
            targets.append(span if document else np.append(span, vocabulary.eop))
            position.append(np.full(len(read), places[begin]))
            block.append(np.arange(1, len(read) + 1))
        columns = {"tokens": tokens, "targets": targets, "position": position, "block": block}
        joined = {name: np.concatenate(parts).astype(np.int64) for name, parts in columns.items()}
        return joined | {"order": np.maximum(np.arange(len(joined["tokens"])) - len(shown) + 1, 0)}

    def hidden(self, model: Transformer, batch: Batch) -> Tensor:
        return model.encode(self.embedded(model, batch), batch)


def token_spans(length: int, total: int, mean: float, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Spans whose lengths, Poisson cut to 1 … 39, reach `total` tokens, with a token at least between two of them."""
    lengths: list[int] = []
    while sum(lengths) < total:
        drawn = int(rng.poisson(mean))
        if 1 <= drawn <= LONGEST:
            lengths.append(min(drawn, total - sum(lengths)))
    free = length - sum(lengths) - (len(lengths) - 1)
    while free < 0:  # too dense for a short text: fewer spans
        free += lengths.pop() + 1
    gaps = np.sort(rng.integers(0, free + 1, size=len(lengths)))
    begins = gaps + np.concatenate([[0], np.cumsum(np.array(lengths[:-1], dtype=np.int64) + 1)])
    return [(int(begin), int(begin) + size) for begin, size in zip(begins, lengths, strict=True)]

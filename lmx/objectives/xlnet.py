"""XLNet: predict some tokens in a random order, each from those before it in that order (Yang et al. 2019, arXiv:1906.08237).

Two streams share all weights: the content stream sees a token and what comes before it, the query stream, run only where
something is asked, knows a position and not its token. With 26 = [CLS], positions 1, 3 and 4 asked and random ranks 4 2 0 5 1 3:

    tokens    21 22 23 24 25 26
    targets    . 22  . 24 25  .
    order      0  3  0  6  2  4      rank + 1; context that is not asked comes first
    asked in the order 25, 22, 24; 24 sees 21 22 23 25 26, 25 sees 21 23
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, cast

import numpy as np
import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from lmx.batch import IGNORE, Batch, Details, visible
from lmx.data.noise import Keys
from lmx.data.packing import Sample
from lmx.data.selection import given
from lmx.data.tokenizer import Vocabulary
from lmx.errors import LmxError
from lmx.nn.attention import View, attend
from lmx.nn.block import Block
from lmx.nn.cache import Cache
from lmx.nn.transformer import Transformer
from lmx.objectives.objective import Prediction, continued, plain, stack
from lmx.objectives.writing import Opening

LONGEST = 5  # words of a span; P(n) is proportional to 1/n


@dataclass(frozen=True, kw_only=True)
class PermutedBatch(Batch):
    query: Tensor  # [B, Q] the asked positions of each row, filled up with 0
    answer: Tensor  # [B, Q] the tokens there, filled up with IGNORE

    def pairs(self, kind: str) -> int:
        if kind != "query":
            return super().pairs(kind)
        return int((visible(self, strict=True)[:, 0] & (self.targets != IGNORE)[:, :, None]).sum())


class XLNet(Prediction):
    follows = "left_to_right"
    summary = "last"  # [CLS]

    def __init__(
        self,
        *,
        length: int,
        model: Transformer,
        vocabulary: Vocabulary,
        rate: Annotated[float, Interval(gt=0, le=0.5)],
        context: Annotated[float, Ge(1)],
        z_loss: Annotated[float, Ge(0)],
    ):
        super().__init__(model=model, vocabulary=vocabulary, z_loss=z_loss)
        self.length, self.rate, self.context = length, rate, context
        self.given: Sequence[int] | None = None  # asked instead of random tokens
        for block in cast(Iterable[Block], model.blocks):
            block.opened = True  # for two streams
        self.start = nn.Parameter(torch.randn(model.width) * 0.3 * model.width**-0.5)

    def raw_lengths(self, keys: Keys) -> np.ndarray:
        return np.full(len(keys), self.length - 2)  # ... [SEP] [CLS]

    def collate(self, samples: Sequence[Sample], keys: Keys) -> Batch:
        rows = [self.pose(sample, keys.generator(number)) for number, sample in enumerate(samples)]
        return self.queried(rows, self.length, max(1, round(self.rate * self.length)))

    def queried(self, rows: Sequence[dict[str, np.ndarray]], length: int, most: int) -> PermutedBatch:
        """The batch of rows that ask for at most `most` tokens each."""
        query, answer = np.zeros((len(rows), most), dtype=np.int64), np.full((len(rows), most), IGNORE)
        for number, row in enumerate(rows):
            places = np.flatnonzero(row["targets"] != IGNORE)
            query[number, : len(places)], answer[number, : len(places)] = places, row["targets"][places]
        return stack(rows, length, PermutedBatch, query=torch.from_numpy(query), answer=torch.from_numpy(answer))

    def pose(self, sample: Sample, rng: np.random.Generator) -> dict[str, np.ndarray]:
        vocabulary = self.vocabulary
        text = np.concatenate([sample.tokens, [vocabulary.sep, vocabulary.cls]])
        document = np.pad(sample.segment, (0, 2), mode="edge")
        asked = self.choose(text, document, rng)
        return {
            "tokens": text,
            "targets": np.where(asked, text, IGNORE),
            "document": document,
            "order": order(asked, vocabulary.special[text], rng.permutation(len(text))),
        }

    def fix(self, places: Sequence[int]) -> None:
        most = max(1, round(self.rate * self.length))
        if len(places) > most:
            raise LmxError(
                f"--noise must name at most {most} tokens at objective.rate={self.rate:g}, got {len(places)}."
            )
        self.given = places

    def details(self, batch: Batch) -> Details:
        asked = (batch.targets != IGNORE)[:, :, None]
        return Details(
            grids={"query stream, where asked": visible(batch, strict=True)[:, 0] & asked},
            facts=["the query stream, which predicts, sees what comes before a token in the order, never the token."],
        )

    def choose(self, text: np.ndarray, document: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """[n] bool: spans of 1 to 5 words, each somewhere in `context` times as many tokens, filled up with single tokens."""
        goal = max(1, round(self.rate * self.length))
        eligible = ~self.vocabulary.special[text]
        starts = (
            self.vocabulary.starts_word[text]
            | ~np.append(False, eligible[:-1])
            | np.append(True, np.diff(document) != 0)
        )
        if self.given is not None:
            return given(self.given)(eligible, starts, self.rate, goal, rng)
        chosen = np.zeros(len(text), dtype=bool)
        odds = 1 / np.arange(1, LONGEST + 1)
        place = 0
        while place < len(text) and chosen.sum() < goal:
            words = int(rng.choice(LONGEST, p=odds / odds.sum())) + 1
            window = round(words * self.context)
            first = place + int(rng.integers(window - words + 1))
            begins = np.flatnonzero(starts[first:]) + first
            if len(begins) == 0:
                break
            last = begins[words] if len(begins) > words else len(text)
            span = np.arange(begins[0], last)
            span = span[eligible[span] & (document[span] == document[begins[0]])][: goal - chosen.sum()]
            chosen[span] = True
            place = max(place + window, int(last))
        rest = rng.permutation(np.flatnonzero(eligible & ~chosen))
        chosen[rest[: max(0, goal - chosen.sum())]] = True
        return chosen

    def forward(self, model: Transformer, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(batch, PermutedBatch)
        hidden = self.query(model, batch)
        nats, z, _ = self.score(hidden.flatten(0, 1), self.output_weight(model), batch.answer.flatten())
        return self.terms(nats, z)

    def following(self, texts: Sequence[np.ndarray], contexts: Sequence[int]) -> Batch:
        """The permutation that is the text's own order, after the end of another text; every order has been asked for."""
        rows = []
        for text, known in zip(texts, contexts, strict=True):
            place = np.arange(len(text) + 1)
            read = np.append(self.vocabulary.eos, text)
            rows.append({"tokens": read, "targets": np.where(place > known, read, IGNORE), "order": place})
        length = max(map(len, texts))
        return self.queried(rows, length + 1, length)

    def opening(self, parts: Sequence[np.ndarray]) -> Opening:
        return continued(np.append(self.vocabulary.eos, parts[0]), parts, [self.vocabulary.eos], type(self).__name__)

    def writer(self, model: Transformer, batch: Batch) -> Cache:
        return Streams(self, model)

    def reading(self, texts: Sequence[np.ndarray], cuts: Sequence[int] | None = None) -> Batch:
        """The content stream, which sees all of a text whose tokens are not asked."""
        return plain(texts, end=[self.vocabulary.sep, self.vocabulary.cls])

    def posed(self, model: Transformer, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        assert isinstance(batch, PermutedBatch)
        hidden, answer = self.query(model, batch).flatten(0, 1), batch.answer.flatten()
        row = torch.arange(len(batch.query), device=answer.device)[:, None] * batch.tokens.shape[1]
        return hidden, answer, (row + batch.query).flatten().masked_fill(answer == IGNORE, -1)

    def query(self, model: Transformer, batch: PermutedBatch) -> Tensor:
        """[B, Q, D] the query stream's hidden states, normalised"""
        strict = visible(batch, strict=True)[:, 0]
        strict = strict.gather(1, batch.query[:, :, None].expand(-1, -1, strict.shape[2]))[:, None]
        seen, asked = model.view(batch), model.view(batch, mask=strict, kind="query")
        rotation, turned = model.rotation(batch.position), model.rotation(batch.position.gather(1, batch.query))
        x = model.embed(batch)
        g = self.start.to(x.dtype).expand(*batch.query.shape, -1)
        dropout = model.dropout if model.training else 0.0
        for number, block in enumerate(cast(Iterable[Block], model.blocks), start=1):
            q, k, v = block.project(x, rotation)
            g = block.think(block.join(g, attend(block.query(g, turned), k, v, asked, dropout)))
            if number < model.depth:  # nobody reads the content stream after the last block
                x = block.think(block.join(x, attend(q, k, v, seen, dropout)))
        return model.norm(g)


class Streams(Cache):
    """Keeps the content stream of what is read; gives the query stream's view of the place after it."""

    def __init__(self, objective: XLNet, model: Transformer):
        super().__init__(cast(Sequence[Block], list(model.blocks)), model.norm)
        self.objective, self.model = objective, model

    def read(self, x: Tensor, rotation: tuple[Tensor, Tensor], order: Tensor) -> Tensor:
        """-> [B, 1, D]; what is read stands in its own order"""
        super().read(x, rotation, order)
        place = order[:, -1:] + 1
        turned, everything = self.model.rotation(place), View("explicit", "full")
        g = self.objective.start.to(x.dtype).expand(len(x), 1, -1)
        for block, (k, v) in zip(self.blocks, self.kept, strict=True):
            g = block.think(block.join(g, attend(block.query(g, turned), k, v, everything)))
        return self.norm(g)


def order(asked: np.ndarray, special: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """[n] rank + 1 of what is asked and of special tokens; 0 for the rest, which everything may see."""
    return np.where(asked | special, ranks + 1, 0)

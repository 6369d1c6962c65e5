"""RetroMAE: masked LM, and a one-layer decoder that restores the whole text from its [CLS] vector and a few tokens (Xiao et al.
2022, arXiv:2205.12035).

With [CLS] 2, [SEP] 3 and [MASK] 4:

    tokens     2 10  4 12  3     the encoder reads what masking leaves
    targets    .  . 11  .  .
    restore    . 10 11 12  .     the decoder is asked for every token of the text
    sees       1  0  0  0  0     row i: what position i sees, of the [CLS] vector and the clean embeddings behind it
               1  0  0  1  0
               1  1  0  0  1     never its own token
               1  0  1  0  0
               1  0  0  1  0

The decoder's queries are the [CLS] vector plus an embedding of the position: what a query sees differs from position to position,
so that every token is asked, under another corruption each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from lmx.batch import IGNORE, PADDING, Batch, Details
from lmx.data.noise import Keys
from lmx.data.packing import Sample
from lmx.data.tokenizer import Vocabulary
from lmx.nn.attention import attend
from lmx.nn.block import EPSILON, Block
from lmx.nn.init import initialize
from lmx.nn.transformer import Transformer
from lmx.objectives.mlm import MLM, Select, Share
from lmx.objectives.objective import asked, stack
from lmx.objectives.segment_pair import longest


@dataclass(frozen=True, kw_only=True)
class RetroBatch(Batch):
    clean: Tensor  # [B, L] the text before masking
    restore: Tensor  # [B, L] what the decoder is asked for, or IGNORE
    sees: Tensor  # [B, L, L] bool, query (row) may attend to key (column) in the decoder

    def pairs(self, kind: str) -> int:
        if kind != "decoder":
            return super().pairs(kind)
        return int((self.sees & (self.document != PADDING)[:, :, None]).sum())


class RetroMAE(MLM):
    RULES = {"mask + swap <= 1": "objective.mask + objective.swap must be at most 1"}

    def __init__(
        self,
        *,
        length: int,
        model: Transformer,
        vocabulary: Vocabulary,
        select: Select,
        rate: Annotated[float, Interval(gt=0, lt=1)],
        mask: Share,
        swap: Share,
        decoder_rate: Share,
        z_loss: Annotated[float, Ge(0)],
    ):
        super().__init__(
            length=length, model=model, vocabulary=vocabulary, select=select, rate=rate, last_rate=None, predict=1.0, mask=mask,
            swap=swap, evaluate_rate=rate, wrap=True, shift=False, max_targets=None, z_loss=z_loss,
        )  # fmt: skip
        self.decoder_rate = decoder_rate
        self.places = nn.Embedding(length, model.width)  # rotary ones tell nothing where only the [CLS] vector is seen
        self.block, self.norm = Block(**model.shape), nn.RMSNorm(model.width, eps=EPSILON)
        self.block.opened = True  # its queries are not its keys
        initialize(self.places, depth=1)
        initialize(self.block, depth=1)
        self.weights["decoder"] = 1.0

    def collate(self, samples: Sequence[Sample], keys: Keys) -> Batch:
        rows, sees = [], np.zeros((len(samples), self.length, self.length), dtype=bool)
        for number, sample in enumerate(samples):
            text, _ = longest(sample, self.vocabulary.eos)
            clean = np.concatenate([[self.vocabulary.cls], text, [self.vocabulary.sep]]).astype(np.int64)
            restore = np.where(self.vocabulary.special[clean], IGNORE, clean)
            row = self.hide(clean, np.zeros_like(clean), self.rate, keys.generator(number))
            rows.append(row | {"clean": clean, "restore": restore})
            sees[number] = self.visibility(len(clean), keys.generator(number, "decoder"))
        return stack(rows, self.length, RetroBatch, {"clean": 0, "restore": IGNORE}, sees=torch.from_numpy(sees))

    def details(self, batch: Batch) -> Details:
        assert isinstance(batch, RetroBatch)
        return Details(
            asks={"decoder": answers(batch)},
            grids={"decoder": batch.sees},
            facts=["of [CLS] the decoder sees the encoder's vector, of other tokens the clean embeddings."],
        )

    def visibility(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """[L, L] bool: the [CLS] vector, which is the first key, always; of the other tokens, but its own, each by luck."""
        sees = np.zeros((self.length, self.length), dtype=bool)
        sees[1:size, 1:size] = rng.random((size - 1, size - 1)) >= self.decoder_rate
        np.fill_diagonal(sees, False)
        sees[:, 0] = True
        return sees

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return super().counts(batch) | {"decoder": (answers(batch) != IGNORE).sum()}

    def forward(self, model: Transformer, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(batch, RetroBatch)
        hidden, weight = model(batch), self.output_weight(model)
        rows, targets = asked(hidden, batch)
        nats, z, _ = self.score(rows, weight, targets)
        restored = self.decode(model, hidden[:, 0], batch).flatten(0, 1)
        return self.terms(nats, z) | {"decoder": self.score(restored, weight, answers(batch).flatten())[0]}

    def decode(self, model: Transformer, vector: Tensor, batch: RetroBatch) -> Tensor:
        """The [CLS] vector [B, D] -> [B, L, D], normalised, from which the text is restored"""
        seen = model.view(batch, mask=batch.sees[:, None], kind="decoder")
        rotation, dropout = model.rotation(batch.position), model.dropout if model.training else 0.0
        content = model.embed(replace(batch, tokens=batch.clean))
        vector = vector[:, None].to(content.dtype)
        _, k, v = self.block.project(torch.cat([vector, content[:, 1:]], dim=1), rotation)
        x = vector + self.places(batch.position)
        x = self.block.join(x, attend(self.block.query(x, rotation), k, v, seen, dropout))
        return self.norm(self.block.think(x))


def answers(batch: Batch) -> Tensor:
    """[B, L] what the decoder is asked for, IGNORE in rows of padding"""
    assert isinstance(batch, RetroBatch)
    return batch.restore.masked_fill(batch.document == PADDING, IGNORE)

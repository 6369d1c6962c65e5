"""Masked diffusion: MLM at every rate, weighted so that the loss bounds the text's likelihood (Sahoo et al. 2024,
arXiv:2406.07524; Nie et al. 2025, arXiv:2502.09992).

Of n tokens k are masked, k uniform in 1 … n; the k predictions count n / k each, so that for any text

    E [ n / k x sum of nats of the masked ]  >=  -log p(text)

With text 11 12 13 14, [MASK] 4 and k = 2 of n = 4, each of the two counts twice:

    tokens     11  4 13  4
    targets     . 12  . 14
    shares      .  2  .  2
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from lmx.batch import IGNORE, PADDING, Batch, Details
from lmx.data.noise import Keys
from lmx.data.packing import Sample
from lmx.data.selection import Rule, given, without_replacement
from lmx.data.tokenizer import Vocabulary
from lmx.nn.transformer import Transformer
from lmx.objectives.asking import masked
from lmx.objectives.objective import Prediction, asked, stack


@dataclass(frozen=True, kw_only=True)
class WeightedBatch(Batch):
    share: Tensor  # [B] float, how much each prediction of a row counts
    size: Tensor  # [B] tokens of a row that can be masked


class MLMUniform(Prediction):
    hides, fills = "pll_word_l2r", True
    bounds = True

    def __init__(self, *, length: int, model: Transformer, vocabulary: Vocabulary, z_loss: Annotated[float, Ge(0)]):
        super().__init__(model=model, vocabulary=vocabulary, z_loss=z_loss)
        self.length = length
        self.select: Rule = uniform

    def raw_lengths(self, keys: Keys) -> np.ndarray:
        return np.full(len(keys), self.length)

    def collate(self, samples: Sequence[Sample], keys: Keys) -> Batch:
        rows, sizes, masked = [], [], []
        for number, sample in enumerate(samples):
            rng = keys.generator(number)
            eligible = ~self.vocabulary.special[sample.tokens]
            chosen = self.select(eligible, eligible, 1.0, None, rng)
            rows.append(self.pose(sample, chosen))
            sizes.append(int(eligible.sum()))
            masked.append(max(1, int(chosen.sum())))
        size = torch.tensor(sizes)
        return stack(rows, self.length, WeightedBatch, share=size / torch.tensor(masked), size=size)

    def pose(self, sample: Sample, chosen: np.ndarray) -> dict[str, np.ndarray]:
        return {
            "tokens": np.where(chosen, self.vocabulary.mask, sample.tokens),
            "targets": np.where(chosen, sample.tokens, IGNORE),
            "document": sample.segment,
            "order": np.zeros_like(sample.tokens),
        }

    def hiding(self, texts: Sequence[np.ndarray], hidden: Sequence[np.ndarray]) -> Batch:
        return masked(texts, hidden, self.vocabulary.mask)

    def fix(self, places: Sequence[int]) -> None:
        self.select = given(places)

    def details(self, batch: Batch) -> Details:
        assert isinstance(batch, WeightedBatch)
        asked = (batch.targets != IGNORE).sum(1)
        told = zip(batch.share.tolist(), batch.size.tolist(), asked.tolist(), strict=True)
        return Details(
            facts=[f"each prediction counts {share:.4g} times: {size} tokens, {n} masked" for share, size, n in told]
        )

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Tokens of the text, not predictions: the mean is a bound in nats a token."""
        assert isinstance(batch, WeightedBatch)
        return dict.fromkeys(self.weights, (batch.size * (batch.document != PADDING).any(1)).sum())

    def forward(self, model: Transformer, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(batch, WeightedBatch)
        hidden, targets = asked(model(batch), batch)
        shares, _ = asked(batch.share[:, None].expand(batch.targets.shape), batch)
        nats, z, _ = self.score(hidden, self.output_weight(model), targets, shares)
        return self.terms(nats, z)


def uniform(eligible, starts, rate, most, rng) -> np.ndarray:
    """k of the n eligible tokens, k uniform in 1 … n."""
    count = int(rng.integers(1, max(1, eligible.sum()) + 1))
    return without_replacement(eligible, count, rng)

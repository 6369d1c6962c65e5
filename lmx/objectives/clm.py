"""Causal language modeling: predict each token from the ones before it (Radford et al. 2018).

A window of L + 1 tokens, moved on by L, so that every token but the first is asked exactly once. With documents
5 6 7 and 8 9, end of document 1 and L = 4 (| ends a window, . is not asked):

    stream      5 6 7 1 | 8 9 1
    tokens      5 6 7 1 | 8 9 1 pad
    targets     6 7 1 8 | 9 1 . .       packing=concat
    targets     6 7 1 . | 9 1 . .       packing=docmask: the next document's first token cannot be known
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from annotated_types import Ge

from lmx.batch import IGNORE, Batch
from lmx.data.noise import Keys
from lmx.data.packing import Sample
from lmx.data.tokenizer import Vocabulary
from lmx.nn.transformer import Transformer
from lmx.objectives.asking import left_to_right
from lmx.objectives.objective import Prediction, continued, plain, stack
from lmx.objectives.writing import Opening


class Causal(Prediction):
    """Objectives whose model reads a plain text from left to right, after the end of another one."""

    follows = "causal"
    summary = "last"

    def following(self, texts: Sequence[np.ndarray], contexts: Sequence[int]) -> Batch:
        return left_to_right(texts, contexts, self.vocabulary.eos)

    def reading(self, texts: Sequence[np.ndarray], cuts: Sequence[int] | None = None) -> Batch:
        return plain(texts, [self.vocabulary.eos], causal=True)


class CLM(Causal):
    lookahead = 1
    measures_text = True

    def __init__(self, *, length: int, model: Transformer, vocabulary: Vocabulary, z_loss: Annotated[float, Ge(0)]):
        super().__init__(model=model, vocabulary=vocabulary, z_loss=z_loss)
        self.length = length

    def raw_lengths(self, keys: Keys) -> np.ndarray:
        return np.full(len(keys), self.length)

    def collate(self, samples: Sequence[Sample], keys: Keys) -> Batch:
        return stack([self.pose(sample) for sample in samples], self.length)

    def pose(self, sample: Sample) -> dict[str, np.ndarray]:
        """One row, at most L positions; the last token of a document that ends the sample is read, not asked."""
        size = min(len(sample.tokens), self.length)
        following = np.append(sample.tokens, 0)[1 : size + 1]
        same = np.append(sample.segment, -1)[1 : size + 1] == sample.segment[:size]
        return {
            "tokens": sample.tokens[:size],
            "targets": np.where(same, following, IGNORE),
            "document": sample.segment[:size],
            "order": np.arange(size),
        }

    def opening(self, parts: Sequence[np.ndarray]) -> Opening:
        eos = self.vocabulary.eos
        return continued(np.append(eos, parts[0]), parts, [eos], type(self).__name__)

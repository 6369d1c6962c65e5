"""Prefix language modeling: read a prefix from both sides, continue it (Liu et al. 2018; Raffel et al. 2020, arXiv:1910.10683).

With the prefix 7 8 5 of the text 7 8 5 3 9 and end of text 1, layout=prefix:

    tokens    7 8 5 3 9 1
    targets   . . 3 9 1 .
    order     0 0 0 1 2 3
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Interval

from lmx.batch import Batch
from lmx.data.noise import Keys
from lmx.data.tokenizer import Vocabulary
from lmx.errors import LmxError
from lmx.nn.encoder_decoder import Sharing
from lmx.nn.transformer import Transformer
from lmx.objectives.span import Mode
from lmx.objectives.text_to_text import Layout, Pair, TextToText
from lmx.objectives.writing import Gap, Opening


class PrefixLM(TextToText):
    follows = "prefix"

    def __init__(
        self,
        *,
        length: int,
        model: Transformer,
        vocabulary: Vocabulary,
        split: Literal["uniform", "fixed"],
        rate: Annotated[float, Interval(gt=0, le=0.5)],
        mode: Mode | None,
        layout: Layout,
        decoder: Sharing,
        z_loss: Annotated[float, Ge(0)],
    ):
        self.split, self.rate = split, rate
        self.prompt = np.array([getattr(vocabulary, mode)] if mode else [], dtype=np.int64)
        super().__init__(
            length=length, model=model, vocabulary=vocabulary, layout=layout, decoder=decoder, z_loss=z_loss
        )

    def longest(self) -> int:
        if self.layout == "encoder_decoder":
            return self.length - 1
        return self.length - 1 - len(self.prompt)

    def pose(self, text: np.ndarray, keys: Keys, rng: np.random.Generator) -> Pair:
        place = self.prefix(len(text), rng)
        return np.concatenate([self.prompt, text[:place]]), np.append(text[place:], self.vocabulary.eos)

    def opening(self, parts: Sequence[np.ndarray]) -> Opening:
        if len(parts) > 1:
            raise LmxError(f"--prompt must have no gap for PrefixLM, which continues a text, got {len(parts) - 1}.")
        source = np.concatenate([self.prompt, parts[0]]).astype(np.int64)
        return self.opens(source, [Gap(first=None, stops=frozenset([self.vocabulary.eos]))])

    def following(self, texts: Sequence[np.ndarray], contexts: Sequence[int]) -> Batch:
        """The context is the prefix; a text without one follows the end of another."""
        pairs = [
            (
                np.concatenate([self.prompt, text[:given] if given else [self.vocabulary.eos]]).astype(np.int64),
                text[given:],
            )
            for text, given in zip(texts, contexts, strict=True)
        ]
        return self.ask(pairs, [np.ones(len(target), dtype=bool) for _, target in pairs])

    def prefix(self, length: int, rng: np.random.Generator) -> int:
        """Tokens of the prefix: uniform with a mean target of `rate` of the text, as T5 draws it, or fixed."""
        if self.split == "fixed":
            return min(max(round((1 - self.rate) * length), 1), length - 1)
        least = min(max(round((1 - 2 * self.rate) * (length - 1)), 1), length - 1)
        return int(rng.integers(least, length))

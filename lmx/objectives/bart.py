"""BART: restore a text whose sentences are permuted and whose spans are masked (Lewis et al. 2020, arXiv:1910.13461).

With words 10 to 17 of one token, [MASK] 99, a span of 3 words from the third and one of 2 from the last but one:

    text      10 11 12 13 14 15 16 17
    source    10 99 14 15 99              replace=span: one [MASK] a span; a span of no words inserts one
              10 99 99 99 14 15 99 99     replace=tokens: one [MASK] a token
    target    10 11 12 13 14 15 16 17

In the encoder-decoder layout all of these stand between BOS and EOS, and the decoder begins with EOS, as in fairseq.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Interval

from lmx.batch import Batch
from lmx.data.noise import Keys
from lmx.data.spans import runs
from lmx.data.tokenizer import Vocabulary
from lmx.nn.encoder_decoder import Sharing
from lmx.nn.transformer import Transformer
from lmx.objectives.text_to_text import Layout, Pair, TextToText
from lmx.objectives.writing import Gap, Opening

Share = Annotated[float, Interval(ge=0, le=1)]
Replace = Literal["span", "tokens", "nothing"]


class BART(TextToText):
    follows, follows_exactly, hides = "infill", False, "infill_word_l2r"

    def __init__(
        self,
        *,
        length: int,
        model: Transformer,
        vocabulary: Vocabulary,
        rate: Share,
        mean_span: Annotated[float, Gt(0)],
        replace: Replace,
        swap: Share,
        permute: Share,
        delete: Share,
        rotate: Share,
        layout: Layout,
        decoder: Sharing,
        z_loss: Annotated[float, Ge(0)],
    ):
        self.rate, self.mean_span, self.swap = rate, mean_span, swap
        self.replace: Replace = replace
        self.given: Sequence[int] | None = None  # masked instead of random spans, and nothing else changed
        self.permute, self.delete, self.rotate = permute, delete, rotate
        super().__init__(
            length=length, model=model, vocabulary=vocabulary, layout=layout, decoder=decoder, z_loss=z_loss
        )
        self.start = vocabulary.eos
        self.prompt = np.array([vocabulary.bos])

    def longest(self) -> int:
        return self.length - 2 if self.layout == "encoder_decoder" else (self.length - 2) // 2

    def pose(self, text: np.ndarray, keys: Keys, rng: np.random.Generator) -> Pair:
        if self.given is not None:
            return self.framed(self.masked(text), text)
        noised = permute_sentences(text, self.vocabulary.ends_sentence[text], self.permute, rng)
        noised = self.infill(noised, rng)
        if self.delete:
            noised = noised[rng.random(len(noised)) >= self.delete]
        if rng.random() < self.rotate:
            noised = np.roll(noised, -rng.integers(len(noised)))
        return self.framed(noised, text)

    def opening(self, parts: Sequence[np.ndarray]) -> Opening:
        """A mask for each gap; a text in one part has one at its end. The whole text is written again."""
        pieces = [*parts, np.zeros(0, dtype=np.int64)] if len(parts) == 1 else list(parts)
        noised = pieces[0]
        for piece in pieces[1:]:
            noised = np.concatenate([noised, [self.vocabulary.mask], piece])
        source, target = self.framed(noised.astype(np.int64), np.zeros(0, dtype=np.int64))
        return self.opens(
            source, [Gap(first=None, stops=frozenset([self.vocabulary.eos]))], target[:-1].tolist(), whole=True
        )

    def hiding(self, texts: Sequence[np.ndarray], hidden: Sequence[np.ndarray]) -> Batch:
        """Each run of hidden tokens is masked as one word is; of the whole text, which is restored, they are asked."""
        pairs, asked = [], []
        for text, hide in zip(texts, hidden, strict=True):
            begins, ends = runs(hide)
            filler = np.full(len(begins), self.vocabulary.mask)
            every = np.ones(len(text), dtype=bool)
            pairs.append(self.framed(replaced(text, every, begins, ends - begins, filler, self.replace), text))
            asked.append(np.pad(hide, (len(pairs[-1][1]) - len(text) - 1, 1)))
        return self.ask(pairs, asked)

    def fix(self, places: Sequence[int]) -> None:
        self.given = places

    def masked(self, text: np.ndarray) -> np.ndarray:
        """The text with the given tokens masked, each token a word."""
        begins, ends = runs(np.isin(np.arange(len(text)), self.given or []))
        filler = np.full(len(begins), self.vocabulary.mask)
        return replaced(text, np.ones(len(text), dtype=bool), begins, ends - begins, filler, self.replace)

    def framed(self, noised: np.ndarray, text: np.ndarray) -> Pair:
        """Source and target with the special tokens of the layout."""
        target = np.append(text, self.vocabulary.eos)
        return np.concatenate([self.prompt, noised]), np.concatenate(
            [self.prompt, target]
        ) if self.layout == "encoder_decoder" else target

    def infill(self, text: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """`rate` of the words replaced in spans of Poisson lengths, which may overlap."""
        starts = self.vocabulary.starts_word[text]
        starts[:1] = True
        words = np.flatnonzero(starts)
        lengths = span_lengths(math.ceil(len(words) * self.rate - 1e-9), self.mean_span, rng)
        spans = lengths[lengths > 0]
        first = rng.permutation(words)[: len(spans)]
        filler = np.full(len(first), self.vocabulary.mask)
        swapped = rng.random(len(first)) < self.swap
        filler[swapped] = rng.choice(self.vocabulary.ordinary, size=int(swapped.sum()))
        result = replaced(text, starts, first, spans[: len(first)], filler, self.replace)
        return inserted(result, len(lengths) - len(spans), self.vocabulary.mask, rng)


def span_lengths(total: int, mean: float, rng: np.random.Generator) -> np.ndarray:
    """Poisson lengths, in words, up to the one with which their sum reaches `total`; that one is cut."""
    lengths = np.zeros(0, dtype=np.int64)
    while lengths.sum() < total:
        lengths = np.concatenate([lengths, rng.poisson(mean, size=total)])
    reached = np.cumsum(lengths)
    lengths = lengths[: int(np.searchsorted(reached, total)) + 1] if total else lengths
    if total:
        lengths[-1] -= lengths.sum() - total
    return lengths


def replaced(
    text: np.ndarray,
    starts: np.ndarray,
    first: np.ndarray,
    lengths: np.ndarray,
    filler: np.ndarray,
    replace: Replace,
) -> np.ndarray:
    """Spans of `lengths` words from the tokens `first`, each replaced by its filler; what two spans cover goes once."""
    words = np.append(np.flatnonzero(starts), len(text))
    result, kept = text.copy(), np.ones(len(text), dtype=bool)
    place = np.searchsorted(words, first)
    for begin, last, token in zip(first, np.minimum(place + lengths, len(words) - 1), filler, strict=True):
        end = words[last]
        result[begin : end if replace == "tokens" else begin + 1] = token
        kept[begin + (replace == "span") : end] = replace == "tokens"
    return result[kept]


def inserted(text: np.ndarray, number: int, token: int, rng: np.random.Generator) -> np.ndarray:
    """`token` at `number` random places."""
    places = rng.permutation(len(text) + number)[:number]
    result = np.full(len(text) + number, token, dtype=np.int64)
    old = np.ones(len(result), dtype=bool)
    old[places] = False
    result[old] = text
    return result


def permute_sentences(text: np.ndarray, ends: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A `share` of the sentences in random order among the places they had; `ends` [n] bool marks last tokens."""
    last = ends.copy()
    last[:-1] &= ~ends[1:]  # several full stops end one sentence
    sentences = np.split(text, np.flatnonzero(last[:-1]) + 1)
    chosen = rng.permutation(len(sentences))[: math.ceil(len(sentences) * share - 1e-9)]
    order = np.arange(len(sentences))
    order[np.sort(chosen)] = chosen
    return np.concatenate([sentences[number] for number in order])

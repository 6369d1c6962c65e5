"""Span corruption: a sentinel stands for each hidden span, the target says what it was (T5, arXiv:1910.10683).

With tokens 10 to 21, spans of 1, 2 and 2 tokens, sentinels 99, 98, 97 and end of text 1:

    noise     0 0 0 1 0 0 1 1 0 0 1 1
    source    10 11 12 99 14 15 98 18 19 97
    target    99 13 98 16 17 97 20 21 1         final_sentinel: ... 97 20 21 96 1

The target is built from the spans, not from the complement of the noise as T5 does: the same where the last token is noise, which
without `roll` it always is, and right where it is not.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Interval

from lmx.batch import Batch, Details
from lmx.data.noise import Keys
from lmx.data.spans import counts, longest_encoded, longest_joined, random_spans, runs, sizes
from lmx.data.tokenizer import Vocabulary
from lmx.errors import LmxError
from lmx.nn.encoder_decoder import Sharing
from lmx.nn.transformer import Transformer
from lmx.objectives.text_to_text import Layout, Pair, TextToText
from lmx.objectives.writing import Gap, Opening

Mode = Literal["r", "s", "x"]


class SpanCorruption(TextToText):
    RULES = {
        "length * rate / mean_span / (1 + 2 * rate / mean_span) <= 128 + 384 * (vocabulary >= 16384)": (
            "objective.rate / objective.mean_span must leave a sentinel for each span (128; 512 from 16384 rows up)"
        ),
    }

    def __init__(
        self,
        *,
        length: int,
        model: Transformer,
        vocabulary: Vocabulary,
        noise: Literal["spans", "iid", "shuffle"],
        rate: Annotated[float, Interval(gt=0, lt=1)],
        mean_span: Annotated[float, Ge(1)],
        roll: bool,
        final_sentinel: bool,
        mode: Mode | None,
        layout: Layout,
        decoder: Sharing,
        z_loss: Annotated[float, Ge(0)],
    ):
        self.noise, self.rate, self.mean_span, self.roll, self.final_sentinel = (
            noise,
            rate,
            mean_span,
            roll,
            final_sentinel,
        )
        self.given: Sequence[int] | None = None  # noise instead of random one
        if noise != "shuffle":
            self.follows, self.follows_exactly, self.hides = "infill", False, "span_word_l2r"
        self.spare = roll + final_sentinel  # a rolled span may be cut in two
        self.prompt = np.array([getattr(vocabulary, mode)] if mode else [], dtype=np.int64)
        super().__init__(
            length=length, model=model, vocabulary=vocabulary, layout=layout, decoder=decoder, z_loss=z_loss
        )
        most = self.most_sentinels()
        if most > len(vocabulary.sentinels):
            raise LmxError(
                f"objective.rate / objective.mean_span must leave a sentinel for each span, got {most} spans for "
                f"{len(vocabulary.sentinels)} sentinels. Raise objective.mean_span, or lower length or objective.rate."
            )

    def longest(self) -> int:
        if self.noise != "spans":
            return self.length - 1 - len(self.prompt) if self.layout == "encoder_decoder" else (self.length - 2) // 2
        if self.layout == "encoder_decoder":
            return longest_encoded(self.length - len(self.prompt) - self.roll, self.rate, self.mean_span)
        return longest_joined(self.length - 2 * self.roll - self.final_sentinel, self.rate, self.mean_span)

    def longest_target(self) -> int:
        if self.noise != "spans":
            return self.length
        return sizes(self.raw_length, self.rate, self.mean_span)[1] + self.spare

    def most_sentinels(self) -> int:
        if self.noise == "shuffle":
            return 0
        if self.noise == "iid":  # as many runs as the mean and five deviations
            mean = self.raw_length * self.rate * (1 - self.rate)
            return int(mean + 5 * mean**0.5) + self.spare
        return counts(self.raw_length, self.rate, self.mean_span)[1] + self.spare

    def pose(self, text: np.ndarray, keys: Keys, rng: np.random.Generator) -> Pair:
        if self.noise == "shuffle":
            return np.concatenate([self.prompt, rng.permutation(text)]), np.append(text, self.vocabulary.eos)
        source, target = self.split(text, self.mask(len(text), rng))
        return np.concatenate([self.prompt, source]), target

    def opening(self, parts: Sequence[np.ndarray]) -> Opening:
        """A sentinel for each gap; a text in one part has one at its end."""
        if self.noise == "shuffle":
            return super().opening(parts)
        pieces = [*parts, np.zeros(0, dtype=np.int64)] if len(parts) == 1 else list(parts)
        marks = self.vocabulary.sentinels[: len(pieces) - 1]
        if len(marks) < len(pieces) - 1:
            raise LmxError(f"--prompt must have at most {len(self.vocabulary.sentinels)} gaps, got {len(pieces) - 1}.")
        source = [self.prompt, pieces[0]]
        for mark, piece in zip(marks, pieces[1:], strict=True):
            source += [[mark], piece]
        stops = frozenset([self.vocabulary.eos, *self.vocabulary.sentinels.tolist()])
        return self.opens(
            np.concatenate(source).astype(np.int64), [Gap(first=int(mark), stops=stops) for mark in marks]
        )

    def hiding(self, texts: Sequence[np.ndarray], hidden: Sequence[np.ndarray]) -> Batch:
        """Each run of hidden tokens is a span; sentinels are not asked."""
        split = [self.split(text, hide) for text, hide in zip(texts, hidden, strict=True)]
        pairs = [(np.concatenate([self.prompt, source]), target) for source, target in split]
        return self.ask(pairs, [~self.vocabulary.special[target] for _, target in pairs])

    def fix(self, places: Sequence[int]) -> None:
        if self.noise == "shuffle":
            raise LmxError("--noise must go with objective.noise=spans or iid, got shuffle: it moves every token.")
        self.given = places

    def details(self, batch: Batch) -> Details:
        if self.noise == "shuffle":
            return Details()
        names = "[SENTINEL_0] is T5's <extra_id_0>, and so on; T5's ids count down from 32099, these count up."
        end = (
            "The target ends with one more sentinel, as in the figure of T5's paper; T5's code adds it only where the text "
            "ends unhidden, and its random noise always hides the end."
            if self.final_sentinel
            else "Where the text ends unhidden, T5's target has one more sentinel before [EOS], as in the figure of its "
            "paper: objective.final_sentinel=true adds it. T5's random noise always hides the end."
        )
        return Details(facts=[names, end])

    def mask(self, length: int, rng: np.random.Generator) -> np.ndarray:
        """[length] bool, True is noise."""
        if self.given is not None:
            return np.isin(np.arange(length), self.given)
        if self.noise == "iid":
            mask = rng.random(length) < self.rate
            mask[rng.integers(length)] = True  # something is asked
            begins, most = runs(mask)[0], len(self.vocabulary.sentinels) - self.spare
            if len(begins) > most:
                mask[begins[most] :] = False
            return mask
        mask = random_spans(length, self.rate, self.mean_span, rng)
        return np.roll(mask, rng.integers(length)) if self.roll else mask

    def split(self, text: np.ndarray, mask: np.ndarray) -> Pair:
        """Source and target of a text [n] and its noise [n] bool."""
        begins, ends = runs(mask)
        sentinels = self.vocabulary.sentinels
        shown = text.copy()
        shown[begins] = sentinels[: len(begins)]
        first = np.zeros_like(mask)
        first[begins] = True
        target = np.insert(text[mask], np.cumsum(ends - begins) - (ends - begins), sentinels[: len(begins)])
        last = [sentinels[len(begins)]] if self.final_sentinel else []
        return shown[~mask | first], np.concatenate([target, [*last, self.vocabulary.eos]]).astype(np.int64)

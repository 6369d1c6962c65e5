"""Gaps in passages, and what could stand in them.

Candidates have as many tokens as the answer, so that no length is favoured, and are the nearest to it in the frequency of their
tokens. If the answer stands elsewhere in the passage, so do the others; if not, they are the answers of other passages, and
stand nowhere in this one: whether a word was there before does not tell it apart.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lmx.data.noise import generator
from lmx.data.tokenizer import Vocabulary
from lmx.evals.ngram import Ngrams

LETTERS = 4  # of an answer and of a candidate, at least: no function words
WORD = re.compile(r"[A-Za-z]+(?:['’-][A-Za-z]+)*")
END = re.compile(rf"\b[A-Za-z]{{{LETTERS},}}(?=[.!?](?:\s|$))")
LONGEST = 8  # letters a token: more than is needed of a document before its passage is cut by tokens


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A passage without the answer; a space is before it."""

    before: str
    answer: str
    after: str = ""


@dataclass(frozen=True, kw_only=True)
class Item:
    """`texts` [K][n] tokens, each with a candidate at start … stop; the first one is right."""

    texts: Sequence[np.ndarray]
    start: int
    stop: int


def ends(documents: Iterator[str], vocabulary: Vocabulary, most: int) -> Iterator[str]:
    """Stretches of at most so many tokens, up to the end of a sentence whose last word stands in them before."""
    for document in documents:
        text = " ".join(document.split())
        stretches = [text[max(0, found.end() - LONGEST * most) : found.end()] for found in END.finditer(text)]
        for passage in shortened(stretches, vocabulary, most):
            before, _, answer = passage.rpartition(" ")
            if stands(answer, before):
                yield passage


def shortened(texts: Sequence[str], vocabulary: Vocabulary, most: int) -> Iterator[str]:
    """The last `most` tokens of each, from the beginning of a word on."""
    for tokens in vocabulary.encode_batch(texts):
        kept = tokens[-most:]
        if len(tokens) > most:
            kept = kept[int(vocabulary.starts_word[kept].argmax()) :]
        yield vocabulary.decode(kept).strip()


def last(text: str, words: int) -> Iterator[Gap]:
    """The gap of the last words, which are nothing but words."""
    parts = text.rsplit(" ", words)
    if len(parts) == words + 1 and len(parts[-1]) >= LETTERS and all(WORD.fullmatch(part) for part in parts[1:]):
        yield Gap(before=parts[0], answer=" ".join(parts[1:]))


def middle(text: str) -> Iterator[Gap]:
    """The gap of the word nearest to the middle that is long enough and stands after a space."""
    fit = [found for found in WORD.finditer(text) if len(found[0]) >= LETTERS and text[: found.start()].endswith(" ")]
    if fit:
        nearest = min(fit, key=lambda found: abs(found.start() + found.end() - len(text)))
        yield Gap(before=text[: nearest.start() - 1], answer=nearest[0], after=text[nearest.end() :])


def posed(
    gaps: Sequence[Gap], vocabulary: Vocabulary, ngrams: Ngrams, *, number: int, candidates: int, most: int
) -> list[Item]:
    """At most `number` of the gaps, spread over all: those that have enough candidates and fit into `most` tokens."""
    answers = Options(vocabulary, ngrams, [gap.answer for gap in gaps])
    found: dict[int, Item] = {}
    for place in generator(0, "cloze").permutation(len(gaps)):
        gap = gaps[place]
        passage = f"{gap.before} {gap.after}"
        inside = stands(gap.answer, passage)
        options = Options(vocabulary, ngrams, [gap.answer, *WORD.findall(passage)]) if inside else answers
        others = options.nearest(gap.answer, candidates - 1, passage, inside=inside)
        item = encoded(vocabulary, gap, [gap.answer, *others]) if len(others) == candidates - 1 else None
        if item is not None and len(item.texts[0]) <= most:
            found[int(place)] = item
        if len(found) == number:
            break
    return [found[place] for place in sorted(found)]


class Options:
    """Words or phrases to choose candidates from."""

    def __init__(self, vocabulary: Vocabulary, ngrams: Ngrams, texts: Sequence[str]):
        self.texts = sorted(set(texts))
        tokens = vocabulary.encode_batch([f" {text}" for text in self.texts])
        self.sizes = np.array([len(one) for one in tokens])
        self.nats = np.array([ngrams.unigram_nats(one) for one in tokens])

    def nearest(self, answer: str, number: int, passage: str, inside: bool) -> list[str]:
        """Of the same size and case, in the passage or not."""
        place = self.texts.index(answer)
        found: list[str] = []
        for other in np.argsort(np.abs(self.nats - self.nats[place]), kind="stable"):
            if len(found) == number:
                break
            text = self.texts[other]
            alike = len(text) >= LETTERS and text[0].isupper() == answer[0].isupper()
            new = text.lower() not in {answer.lower(), *(one.lower() for one in found)}
            if self.sizes[other] == self.sizes[place] and alike and new and stands(text, passage) == inside:
                found.append(text)
        return found


def stands(text: str, passage: str) -> bool:
    return re.search(rf"\b{re.escape(text)}\b", passage, re.IGNORECASE) is not None


def encoded(vocabulary: Vocabulary, gap: Gap, candidates: Sequence[str]) -> Item | None:
    """None where the tokenizer makes more of a candidate than its own tokens."""
    start = len(vocabulary.encode(gap.before))
    stops = [len(one) for one in vocabulary.encode_batch([f"{gap.before} {text}" for text in candidates])]
    texts = vocabulary.encode_batch([f"{gap.before} {text}{gap.after}" for text in candidates])
    same = len(set(stops)) == 1 and len({len(text) for text in texts}) == 1
    return Item(texts=texts, start=start, stop=stops[0]) if same and 0 < start < stops[0] else None

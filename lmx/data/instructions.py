"""Short conversations made by rule: questions about numbers and words, with answers that a function can check.

A question belongs to one split, whatever conversation it stands in: its digest decides. So no held-out question, not even one
turn of a longer conversation, is ever trained on.
"""

import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Annotated

import numpy as np
from annotated_types import Interval

from lmx.data.conversations import Turn, write
from lmx.data.noise import generator
from lmx.data.sources import MaxTokens, Share, Source
from lmx.data.splits import digest

SYSTEM = "Answer with the result alone."
WITH_SYSTEM = 0.25  # of the conversations
FEWEST = 0.01  # of all questions belong to a split that is held out, so that some are soon found
WORDS = str.split(
    "apple bear bird boat book bread bridge candle castle chair cloud coin corn desk dog door eagle engine farm field fire "
    "fish flower forest fox garden glass grass hammer hill honey horse house island jacket king kite lake lamp leaf lemon "
    "letter lion market milk mirror moon mountain needle ocean olive onion paper pencil pepper piano pilot pocket potato "
    "queen rabbit rain ring river road rocket rose sail salt sand school ship silver snow spoon spring star stone storm "
    "street sugar summer table tiger tower train tree valley violin wagon water wheel whale wind window winter wolf yard"
)

Draw = Callable[[np.random.Generator], dict[str, str]]


@dataclass(frozen=True)
class Template:
    """A question with fields in braces, how they are drawn, and the answer that follows from them."""

    question: str
    draw: Draw
    solve: Callable[..., str]

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        parts = string.Formatter().parse(self.question)
        return re.compile("".join(re.escape(text) + (f"(?P<{name}>.+)" if name else "") for text, name, *_ in parts))


def numbers(*names: str, low: int = 0, high: int = 99) -> Draw:
    return lambda rng: {name: str(rng.integers(low, high, endpoint=True)) for name in names}


def words(name: str, low: int, high: int) -> Draw:
    """Different words, `low` to `high` of them."""
    return lambda rng: {name: ", ".join(rng.choice(WORDS, rng.integers(low, high, endpoint=True), replace=False))}


def both(*draws: Draw) -> Draw:
    return lambda rng: {name: value for draw in draws for name, value in draw(rng).items()}


def letter_of_word(rng: np.random.Generator) -> dict[str, str]:
    """A letter that occurs in the word, mostly."""
    word = str(rng.choice(WORDS))
    letters = list(word) if rng.random() < 0.8 else list(string.ascii_lowercase)
    return {"letter": str(rng.choice(letters)), "word": word}


def word_or_not(rng: np.random.Generator) -> dict[str, str]:
    """A list of words, and a word that is in every other."""
    chosen = rng.choice(WORDS, 5, replace=False).tolist()
    return {"word": str(rng.choice(chosen[:4])) if rng.random() < 0.5 else chosen[4], "words": ", ".join(chosen[:4])}


def steps(rng: np.random.Generator) -> dict[str, str]:
    """Four numbers in even steps."""
    start, step = rng.integers(0, 40), rng.integers(1, 12, endpoint=True)
    return {"numbers": ", ".join(str(start + step * place) for place in range(4))}


def following(numbers: str) -> str:
    *_, before, last = map(int, numbers.split(", "))
    return str(2 * last - before)


def two_words(rng: np.random.Generator) -> dict[str, str]:
    a, b = rng.choice(WORDS, 2, replace=False).tolist()
    return {"a": a, "b": b}


TEMPLATES = {
    "add": Template("What is {a} plus {b}?", numbers("a", "b"), lambda a, b: str(int(a) + int(b))),
    "subtract": Template("What is {a} minus {b}?", numbers("a", "b"), lambda a, b: str(int(a) - int(b))),
    "multiply": Template("What is {a} times {b}?", numbers("a", "b", high=20), lambda a, b: str(int(a) * int(b))),
    "larger": Template(
        "Which is larger, {a} or {b}?", numbers("a", "b", high=999), lambda a, b: str(max(int(a), int(b)))
    ),
    "continue": Template("Which number comes next: {numbers}?", steps, following),
    "copy": Template("Repeat these words: {words}.", words("words", 1, 4), lambda words: words),
    "reverse": Template(
        "Write {word} backwards, then the number {n}.",
        both(words("word", 1, 1), numbers("n")),
        lambda word, n: f"{word[::-1]} {n}",
    ),
    "uppercase": Template("Write {a} {b} in capital letters.", two_words, lambda a, b: f"{a} {b}".upper()),
    "count": Template(
        "How many times does the letter {letter} occur in {word}?",
        letter_of_word,
        lambda letter, word: str(word.count(letter)),
    ),
    "sort": Template(
        "Sort these words by the alphabet: {words}.",
        words("words", 2, 4),
        lambda words: ", ".join(sorted(words.split(", "))),
    ),
    "first": Template("Which word is the first of {words}?", words("words", 2, 5), lambda words: words.split(", ")[0]),
    "last": Template("Which word is the last of {words}?", words("words", 2, 5), lambda words: words.split(", ")[-1]),
    "member": Template(
        "Is {word} one of {words}?",
        word_or_not,
        lambda word, words: "yes" if word in words.split(", ") else "no",
    ),
}


def check(template: str, prompt: str) -> str:
    """The answer to a question of TEMPLATES[template]. Raises ValueError when it is none."""
    match = TEMPLATES[template].pattern.fullmatch(prompt)
    if match is None:
        raise ValueError(f"no question of {template}: {prompt!r}")
    return TEMPLATES[template].solve(**match.groupdict())


def template_of(prompt: str) -> str:
    """The template whose question it is. Raises ValueError when there is none."""
    for name, template in TEMPLATES.items():
        if template.pattern.fullmatch(prompt):
            return name
    raise ValueError(f"no question of any template: {prompt!r}")


class Instructions(Source):
    """Conversations of one to `turns` questions from TEMPLATES; all of it is a function of `seed`."""

    advice = "Type a larger data.number."

    def __init__(
        self,
        *,
        number: Annotated[int, Interval(ge=100, le=10_000_000)],
        turns: Annotated[int, Interval(ge=1, le=16)],
        seed: Annotated[int, Interval(ge=0, lt=2**32)],
        validation: Share,
        test: Share,
        max_tokens: MaxTokens,
    ):
        super().__init__(validation=validation, test=test, passage=None, max_tokens=max_tokens)
        self.number, self.turns, self.seed = number, turns, seed

    @property
    def key(self) -> str:
        content = sha256("\0".join(text for _, text in self.documents).encode()).hexdigest()
        return f"{self.settings} {content}"

    def read(self) -> Iterator[tuple[str | None, str]]:
        return iter(self.documents)

    @cached_property
    def documents(self) -> list[tuple[str, str]]:
        """(split, text), held-out ones first."""
        held_out = {split: max(1, round(share * self.number)) for split, share in self.shares.items()}
        sizes = held_out | {"train": self.number - sum(held_out.values())}
        return [
            (split, write(self.conversation(split, number))) for split, size in sizes.items() for number in range(size)
        ]

    def conversation(self, split: str, number: int) -> list[Turn]:
        rng = generator(self.seed, f"instructions/{split}", number)
        turns: list[Turn] = [("system", SYSTEM)] if rng.random() < WITH_SYSTEM else []
        for _ in range(rng.integers(1, self.turns, endpoint=True)):
            name, prompt = self.question(rng, split)
            turns.append(("user", prompt))
            turns.append(("assistant", check(name, prompt)))
        return turns

    def question(self, rng: np.random.Generator, split: str) -> tuple[str, str]:
        """(template, a question that belongs to the split)"""
        while True:
            name = list(TEMPLATES)[rng.integers(len(TEMPLATES))]
            prompt = TEMPLATES[name].question.format(**TEMPLATES[name].draw(rng))
            if self.split(prompt) == split:
                return name, prompt

    def split(self, prompt: str) -> str:
        """Where a question belongs: the digests are cut as the shares say."""
        place = int.from_bytes(digest(prompt)[:8]) / 2**64
        edge = 0.0
        for split, share in self.shares.items():
            edge += max(share, FEWEST)
            if place < edge:
                return split
        return "train"

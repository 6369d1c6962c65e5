"""Classification tasks from labelled files: a text and its class, two texts and theirs, or words with a tag each.

Files whose names say train, dev (or valid) and test are those splits. What is missing is taken from the others by the hash of
the (first) text, so that no text is in two splits; where only dev is given, as in GLUE, it is what is tested on. Texts that are
tested on are dropped from the other splits.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from lmx.data.noise import generator
from lmx.data.splits import digest
from lmx.errors import LmxError
from lmx.evals import brown
from lmx.evals.features import Items
from lmx.evals.records import SPLITS, Column, Record, records, texts
from lmx.evals.tasks import FOLDS, Task, usable
from lmx.evals.texts import longest
from lmx.evals.yardstick import Subject

MOST_CLASSES = 1000


def labelled(
    subject: Subject, key: str, path: str, columns: Mapping[str, Column | None], items: int, tokens: int
) -> list[Task]:
    """Raises LmxError, naming settings of the yardstick `key`, for files that cannot be used."""
    size, sizes = min(tokens, longest(subject)), {"train": items, "dev": items // 2, "test": items // 2}
    if brown.is_brown(path):
        return [task_of(subject, name, splits, sizes, size) for name, splits in brown.tasks(path, size).items()]
    name = path.rstrip("/").rpartition("/")[2].partition(".")[0].partition("*")[0].rstrip("_-") or "file"
    splits = apart(read(key, path, columns))
    task = task_of(subject, name, splits, sizes, size, key)
    if not usable(task):
        found = ", ".join(f"{len(part)} to {split}" for split, part in task.splits.items())
        raise LmxError(f"{key}.path must hold rows of two classes to learn from and to test, got {found} in {path}.")
    return [task]


def read(key: str, path: str, columns: Mapping[str, Column | None]) -> dict[str | None, list[Record]]:
    """Raises LmxError."""
    return records(key, path, {f"{key}.{name}": column for name, column in columns.items() if column is not None})


def check(key: str, path: str, columns: Mapping[str, Column | None]) -> None:
    """Raises LmxError for files that cannot be read."""
    if not brown.is_brown(path):
        read(key, path, columns)


def apart(found: Mapping[str | None, list[Record]]) -> dict[str, list[Record]]:
    """Three splits of rows whose last value is the label; rows without one are left out."""
    given = {split: [row for row in rows if row[-1] not in (None, "", -1, "-1")] for split, rows in found.items()}
    named = {split: given[split] for split in SPLITS if given.get(split)}
    rest = [*named.pop("train", []), *given.get(None, [])]
    if "test" not in named and "dev" in named:
        named["test"] = named.pop("dev")
    for place, split in enumerate(("test", "dev")):
        if split not in named:
            named[split] = [row for row in rest if digest(str(row[0]))[place] % FOLDS == 0]
            rest = [row for row in rest if digest(str(row[0]))[place] % FOLDS]
    tested = {str(row[:-1]) for row in named["test"]}
    splits = {"train": rest, "dev": named["dev"]}
    return {split: [row for row in rows if str(row[:-1]) not in tested] for split, rows in splits.items()} | {
        "test": named["test"]
    }


def task_of(
    subject: Subject,
    name: str,
    splits: Mapping[str, Sequence[Record]],
    sizes: Mapping[str, int],
    size: int,
    key: str = "",
) -> Task:
    """At most `sizes` rows of each split, drawn once for all."""
    drawn = {split: some(rows, sizes[split]) for split, rows in splits.items()}
    tagged = any(isinstance(row[0], list) for row in drawn["train"])
    labels = (tag for rows in drawn.values() for row in rows for tag in (row[-1] if tagged else [row[-1]]))
    known = {label: place for place, label in enumerate(sorted(Counter(map(str, labels))))}
    if len(known) > MOST_CLASSES:
        raise LmxError(
            f"{key}.label must name classes, at most {MOST_CLASSES} of them, got {len(known)} different values."
        )
    make = tags if tagged else whole
    made = {split: make(subject, rows, known, sizes[split], size, key) for split, rows in drawn.items()}
    return Task(name=name, splits=made, metrics=("accuracy", "macro_f1") if tagged else ("accuracy", "macro_f1", "mcc"))


def some(rows: Sequence[Record], number: int) -> list[Record]:
    """At most `number` rows, drawn once for all: files are often sorted."""
    order: list[int] = generator(0, "labelled").permutation(len(rows)).tolist()
    return [rows[place] for place in order[:number]]


def whole(
    subject: Subject, rows: Sequence[Record], known: Mapping[str, int], number: int, size: int, key: str
) -> Items:
    """Texts, or pairs of texts, that are classified as one."""
    vocabulary = subject.corpus.vocabulary
    for row in rows:
        texts(row[:-1], f"{key}.text and {key}.pair")
    labels, firsts = [known[str(row[-1])] for row in rows], [row[0] for row in rows]
    group = [int.from_bytes(digest(str(first))[:7], "little") for first in firsts]
    encoded = vocabulary.encode_batch(firsts)
    if not rows or len(rows[0]) == 2:
        return Items.whole([text[:size] for text in encoded], labels, group)
    seconds = vocabulary.encode_batch([f" {row[1]}" for row in rows])
    pairs = [(first[: size // 2], second[: size // 2]) for first, second in zip(encoded, seconds, strict=True)]
    return Items.pairs(pairs, labels, group)


def tags(subject: Subject, rows: Sequence[Record], known: Mapping[str, int], number: int, size: int, key: str) -> Items:
    """At most `number` words, each an item of its own, read in its sentence."""
    vocabulary, read = subject.corpus.vocabulary, []
    owner: list[int] = []
    spans: list[list[list[int]]] = []
    labels: list[int] = []
    for words, marks in ((row[0], row[-1]) for row in rows):
        if not isinstance(marks, list) or len(words) != len(marks):
            raise LmxError(
                f"{key}.label must have a tag for each word of {key}.text, got {marks!r:.40} for {words!r:.40}."
            )
        pieces = vocabulary.encode_batch([f" {word}" if place else str(word) for place, word in enumerate(words)])
        edges = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])])
        for place, mark in enumerate(marks):
            if edges[place] < edges[place + 1] <= size and len(labels) < number:
                owner.append(len(read))
                spans.append([[int(edges[place]), int(edges[place + 1])]])
                labels.append(known[str(mark)])
        read.append(np.concatenate(pieces)[:size])
        if len(labels) >= number:
            break
    return Items(
        texts=read, owner=np.array(owner), spans=np.array(spans).reshape(-1, 1, 2), labels=np.array(labels), group=np.array(owner)
    )  # fmt: skip

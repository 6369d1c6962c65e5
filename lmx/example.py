"""One question as a model sees it: `python -m lmx.example` reads a JSON object of what to show, and prints a JSON list.

It is a process of its own because the command line does not import torch.
"""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmx.batch import IGNORE, PADDING, Batch, Details, crossing, visible
from lmx.build import build
from lmx.data.corpus import Corpus, prepare
from lmx.data.noise import Keys
from lmx.data.packing import Sample
from lmx.data.vocabulary import Vocabulary
from lmx.data.words import corpus_of_words
from lmx.errors import LmxError
from lmx.experiment import new_learner, stream
from lmx.objectives.objective import Objective
from lmx.train.learner import Learner

ROOM = 4  # positions for what an objective adds to a text
ROOM_WITH_NOISE = 16  # for each token of a text, so that any noise fits
MOST_ROOM = 5  # the same, so that several documents fit


def example(
    config: Mapping[str, Any], texts: Sequence[str], noise: Sequence[int], *, words: bool, fit: bool
) -> dict[str, Any]:
    """One row of a batch: every position's token, what is asked there, and who sees whom.

    Of `texts`, each a document, or else of the first sample of the corpus. `words`: their tokens are words and signs, and no
    corpus is prepared. `fit`: `length` is what they need. `noise`: places of the tokens to hide.
    """
    typed = bool(texts) and words
    corpus = corpus_of_words(texts) if typed else prepare(build(config["data"]), build(config["tokenizer"]), quiet)
    keys = Keys(seed=config["seed"], purpose="train", sample=np.zeros(1, dtype=np.int64))
    own = joined(texts, corpus.vocabulary, config["packing"]) if texts else None
    config = dict(config) | {"length": roomy(config, corpus, keys, own, bool(noise))} if own and fit else config
    learner = light(config, corpus)
    objective = learner.objective
    if own is None:
        sample = stream(config, corpus, learner, "train").read(0, 1)[0]
    else:
        sample = first(own, int(objective.raw_lengths(keys)[0]) + objective.lookahead)
    if noise:
        check(noise, sample, corpus.vocabulary)
        objective.fix(noise)
    batch = objective.collate([sample], keys)
    if not (batch.document != PADDING).any():
        raise LmxError(
            f"--text must have at least two tokens for {type(objective).__name__}, got {len(sample.tokens) - 1}."
        )
    reader = Reader(corpus.vocabulary, sample, words=typed)
    weighted = [term for term, weight in objective.weights.items() if weight and term != "z"]
    counts = objective.counts(batch)
    return {
        "objective": config["choices"]["objective"],
        "class": config["objective"]["_target_"].rpartition(".")[2],
        "tokenizer": "words" if typed else config["choices"]["tokenizer"],
        "length": config["length"],
        "vocabulary": corpus.vocabulary.size,
        "text": printable(corpus.vocabulary.decode(sample.tokens).replace("\n", "↵")),
        "pieces": [reader.piece(token) for token in sample.tokens.tolist()],
        "left_out": 0 if own is None else len(own.tokens) - len(sample.tokens),
        "documents_left_out": 0 if own is None else lost(sample, batch),
        "rows": [row(batch, number, reader, objective.details(batch)) for number in range(len(batch.tokens))],
        "counts": {term: int(counts[term]) for term in weighted},
    }


def light(config: Mapping[str, Any], corpus: Corpus) -> Learner:
    """Model and objective. Nobody looks at the weights, so the model is small."""
    heads = config["model"]["heads"]
    small = {"depth": 2, "width": 8 * heads, "mlp": 8}
    return new_learner(dict(config) | {"model": config["model"] | small}, corpus)


def joined(texts: Sequence[str], vocabulary: Vocabulary, packing: str) -> Sample:
    """The texts as documents of one sample, packed as the config says."""
    documents = [np.append(vocabulary.encode(text), vocabulary.eos).astype(np.int64) for text in texts]
    numbers = np.arange(len(documents))
    segment = np.repeat(numbers, [len(document) for document in documents])
    return Sample(np.concatenate(documents), segment * (packing != "concat"), numbers)


def first(sample: Sample, most: int) -> Sample:
    """At most so many tokens of a sample."""
    segment = sample.segment[:most]
    return Sample(sample.tokens[:most], segment, sample.documents)


def roomy(config: Mapping[str, Any], corpus: Corpus, keys: Keys, sample: Sample, noise: bool) -> int:
    """The shortest length, or nearly so, at which a sample consumes these tokens and a row has all its documents."""
    need = len(sample.tokens) + ROOM + 2 * ROOM * int(sample.segment[-1])
    if noise:
        return ROOM_WITH_NOISE * need

    def objective(length: int) -> Objective:
        return light(dict(config) | {"length": length}, corpus).objective

    def missing(reader: Objective) -> int:
        return need - int(reader.raw_lengths(keys)[0]) - min(reader.lookahead, 1)

    length = max(need, 8)
    while (more := missing(objective(length))) > 0:
        length += more
    trials = range(length, MOST_ROOM * need, need) if sample.segment[-1] else ()
    return next((trial for trial in trials if not lost(sample, objective(trial).collate([sample], keys))), length)


def lost(sample: Sample, batch: Batch) -> int:
    """How many documents of a sample are not in its row."""
    shown = batch.document[batch.document != PADDING].unique()
    return max(0, int(sample.segment[-1]) + 1 - len(shown))


def check(noise: Sequence[int], sample: Sample, vocabulary: Vocabulary) -> None:
    """Raises LmxError for places that the text does not have."""
    count = int((sample.tokens != vocabulary.eos).sum())
    if max(noise) >= count:
        raise LmxError(f"--noise must name tokens of the text, 0 to {count - 1}, got {max(noise)}.")


def printable(text: str) -> str:
    """Control characters as pictures or numbers: a text may hold what a terminal obeys."""
    pictures = {number: chr(0x2400 + number) for number in range(32)} | {127: "␡"}
    text = text.translate(pictures)
    return "".join(char if char.isprintable() else f"<U+{ord(char):04X}>" for char in text)


class Reader:
    """Tokens as a person reads them."""

    def __init__(self, vocabulary: Vocabulary, sample: Sample, *, words: bool):
        self.vocabulary, self.text, self.words = vocabulary, sample.tokens.tolist(), words
        self.masks = {vocabulary.mask, vocabulary.gmask, vocabulary.dblock}
        self.sentinels = set(vocabulary.sentinels.tolist())

    def piece(self, token: int) -> str:
        """Words stand apart on their own; other tokens show the space before them."""
        piece = printable(self.vocabulary.piece(token))
        return piece[1:] if self.words and piece.startswith("·") and len(piece) > 1 else piece

    def kinds(self, tokens: Sequence[int]) -> list[str]:
        """Of each token that is read: mask, sentinel, special, text, or replaced: one that the text does not have there."""
        blocks = SequenceMatcher(None, self.text, tokens, autojunk=False).get_matching_blocks()
        kept = {place for block in blocks for place in range(block.b, block.b + block.size)}
        moved = Counter(self.text) - Counter(tokens[place] for place in kept)
        found = []
        for place, token in enumerate(tokens):
            ours = place in kept or moved[token] > 0
            moved[token] -= place not in kept
            found.append(self.special(token) or ("text" if ours else "replaced"))
        return found

    def special(self, token: int) -> str | None:
        if token in self.masks:
            return "mask"
        return "sentinel" if token in self.sentinels else "special" if self.vocabulary.special[token] else None


def row(batch: Batch, number: int, reader: Reader, details: Details) -> dict[str, Any]:
    """One row without its padding."""
    size = int((batch.document[number] != PADDING).sum())
    text = torch.where(batch.targets == IGNORE, batch.tokens, batch.targets)[number, :size].tolist()

    def column(name: str, kind: str, values: Tensor) -> dict[str, Any]:
        told = values[number, :size].tolist()
        shown = [None if value == IGNORE else value if kind == "numbers" else reader.piece(value) for value in told]
        kinds = [
            reader.special(value) or ("text" if value == was else "replaced") if kind == "reads" else kind
            for value, was in zip(told, text, strict=True)
        ]
        return {"name": name, "kind": kind, "values": shown, "kinds": kinds}

    groups = {"reads": details.reads, "asks": details.asks, "numbers": details.numbers}
    grids = {name: grid[number, :size, :size] for name, grid in details.grids.items()}
    found = {
        **side(batch, number, size, reader),
        "columns": [column(name, kind, values) for kind, group in groups.items() for name, values in group.items()],
        "grids": [{"name": name, "visible": grid.int().tolist()} for name, grid in grids.items()],
        "facts": list(details.facts),
    }
    if batch.source is not None:
        keys = int((batch.source.document[number] != PADDING).sum())
        found["source"] = side(batch.source, number, keys, reader)
        found["cross"] = crossing(part(batch, number, size), part(batch.source, number, keys))[0, 0].int().tolist()
    return found


def side(batch: Batch, number: int, size: int, reader: Reader) -> dict[str, Any]:
    """What one stack of the model reads."""
    fields = (batch.tokens, batch.targets, batch.document, batch.position, batch.order)
    columns = [field[number, :size].tolist() for field in fields]
    tokens = [
        {
            "id": token,
            "piece": reader.piece(token),
            "kind": kind,
            "asked": target != IGNORE,
            "target": reader.piece(target) if target != IGNORE else None,
            "document": document,
            "position": position,
            "order": order,
        }
        for kind, token, target, document, position, order in zip(reader.kinds(columns[0]), *columns, strict=True)
    ]
    return {"tokens": tokens, "visible": visible(part(batch, number, size))[0, 0].int().tolist()}


def part(batch: Batch, number: int, size: int) -> Batch:
    """The fields of every batch, of one row without its padding."""
    names = ("tokens", "targets", "document", "position", "order")
    cut = {name: getattr(batch, name)[number : number + 1, :size] for name in names}
    return Batch(**cut, capacity=batch.capacity)


def quiet(phase: str, share: float | None = None) -> None:
    """The command line shows that it waits."""


def main() -> int:
    asked = json.loads(sys.stdin.read() or "{}")
    try:
        print(json.dumps([example(config, **asked["how"]) for config in asked.get("configs", [])]))
    except LmxError as error:
        print(f"lmx: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

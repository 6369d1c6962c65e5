"""A cache of its own for each test, and corpora small enough to read in the failure message."""

import random
from pathlib import Path

import numpy as np
import pytest

from lmx.data.corpus import Corpus, Documents, prepare
from lmx.data.sources import Jsonl, Text
from lmx.data.tokenizer import Bytes

EOS = 1


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("LMX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def silent(phase: str, fraction: float | None) -> None:
    """A report that nobody reads."""


def prose(number: int, words: int = 60) -> str:
    """A document that differs from those of other numbers."""
    rng = random.Random(number)
    return f"Document {number}. " + " ".join(
        rng.choice(["tree", "river", "naïve", "Über", "stone", "—", "fox."]) for _ in range(words)
    )


def text(path, document="file", max_tokens=None, validation=0.05, test=0.05, passage=None) -> Text:
    shares = {"validation": validation, "test": test}
    return Text(path=str(path), document=document, **shares, passage=passage, max_tokens=max_tokens)


def rows(kind, path, field="text", max_tokens=None, passage=None):
    return kind(path=str(path), field=field, validation=0.05, test=0.05, passage=passage, max_tokens=max_tokens)


def jsonl(path, **settings) -> Jsonl:
    return rows(Jsonl, path, **settings)


def read(source, tokenizer=None) -> Corpus:
    return prepare(source, tokenizer or Bytes(), silent)


def decoded(corpus: Corpus, split: str) -> list[str]:
    documents = getattr(corpus, split)
    return [corpus.vocabulary.decode(documents[number]) for number in range(len(documents))]


def documents(sizes) -> Documents:
    """Documents of these sizes, EOS included; every other token is there once, so that each can be followed."""
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    tokens = np.arange(100, 100 + offsets[-1], dtype=np.uint32)
    tokens[offsets[1:] - 1] = EOS
    return Documents(tokens=tokens, offsets=offsets, bytes=np.asarray(sizes, dtype=np.int64))

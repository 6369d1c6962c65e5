"""Fixtures: the smallest model on the smallest vocabulary, composed from conf/ wherever a config is involved."""

import os

os.environ.update(WANDB_MODE="offline", HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", OMP_NUM_THREADS="1")

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lmx.data.corpus import Corpus, Documents
from lmx.data.packing import Sample
from lmx.data.tokenizer import Bytes, Vocabulary
from lmx.nn.transformer import Transformer

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    return Bytes().train([], 0)


@pytest.fixture
def make_model(vocabulary):
    """make_model(depth=2, ...) -> a small Transformer with weights from a fixed seed."""

    def make(**changes) -> Transformer:
        torch.manual_seed(0)
        knobs = {
            "vocabulary_size": vocabulary.size, "width": 32, "depth": 2, "heads": 4, "kv_heads": 2, "mlp": 48, "rope_base": 1e4,
            "dropout": 0.0, "tied": True, "embedding_norm": True, "attention": "auto",
        }  # fmt: skip
        return Transformer(**knobs | changes)

    return make


def documents(vocabulary: Vocabulary, number: int = 8, length: int = 60, seed: int = 0) -> Documents:
    """A split of random ordinary tokens; every seventh or so ends a sentence."""
    rng = np.random.default_rng(seed)
    full_stop = int(np.flatnonzero(vocabulary.ends_sentence)[0])
    text = rng.choice(vocabulary.ordinary, size=(number, length))
    text[rng.random(text.shape) < 1 / 7] = full_stop
    text[:, -1] = vocabulary.eos
    return Documents(
        tokens=text.ravel(), offsets=np.arange(number + 1) * length, bytes=np.full(number, length - 1, dtype=np.int64)
    )


def corpus_of(vocabulary: Vocabulary) -> Corpus:
    train, validation, test = (documents(vocabulary, seed=seed) for seed in range(3))
    return Corpus(train=train, validation=validation, test=test, vocabulary=vocabulary, fingerprint="random/words")


@pytest.fixture(scope="session")
def small_corpus(vocabulary) -> Corpus:
    return corpus_of(vocabulary)


def trunk(width: int = 8, tied: bool = True) -> Any:
    """What an objective with one head reads off a model while it is built."""
    return SimpleNamespace(width=width, tied=tied)


def sample(*documents: list[int]) -> Sample:
    """Documents, end-of-document tokens included, packed into one sample."""
    tokens = np.concatenate([np.array(document, dtype=np.int64) for document in documents])
    segment = np.repeat(np.arange(len(documents)), [len(document) for document in documents])
    return Sample(tokens=tokens, segment=segment, documents=np.arange(len(documents)))


def texts(vocabulary: Vocabulary, number: int, length: int, seed: int = 0) -> list[Sample]:
    """Samples of random ordinary tokens, one document each."""
    rng = np.random.default_rng(seed)
    return [sample(list(rng.choice(vocabulary.ordinary, size=length))) for _ in range(number)]

"""Subjects for yardsticks: small models of any objective with random weights, and models that are known to know nothing."""

from collections.abc import Callable

import pytest
import torch

from lmx.build import build
from lmx.config import load
from lmx.data.corpus import Corpus
from lmx.evals.yardstick import Subject
from lmx.train.learner import Learner

NANO = ["model=nano", "model.width=32", "model.heads=2", "model.kv_heads=1", "model.mlp=48", "model.depth=2"]


@pytest.fixture(scope="session")
def new_subject(vocabulary, small_corpus) -> Callable[..., Subject]:
    """new_subject("mlm", "objective.wrap=true", length=32, corpus=…) -> a Subject in double precision."""

    def make(objective: str, *more: str, length: int = 32, corpus: Corpus = small_corpus) -> Subject:
        node = load([f"objective={objective}", *NANO, f"length={length}", *more])
        torch.manual_seed(0)
        model = build(node["model"], vocabulary_size=vocabulary.size)
        made = build(node["objective"], length=length, model=model, vocabulary=vocabulary, corpus=corpus)
        learner = Learner(model, made).double().eval()
        device = torch.device("cpu")
        return Subject(learner=learner, corpus=corpus, device=device, length=length, seed=0, untrained=lambda: learner)

    return make


@pytest.fixture(scope="session")
def ignorant(new_subject) -> Callable[..., Subject]:
    """The same, but every prediction is the same for all tokens and in all contexts."""

    def make(objective: str, *more: str, **changes) -> Subject:
        subject = new_subject(objective, *more, **changes)
        for parameter in subject.learner.parameters():
            torch.nn.init.zeros_(parameter)
        return subject

    return make


@pytest.fixture(scope="session")
def silent() -> Callable[[str, float | None], None]:
    return lambda phase, share: None

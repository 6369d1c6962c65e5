"""Validation: the same figures every time, bits per byte as defined, and texts that the seed decides."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lmx.batch import IGNORE
from lmx.compare.results import native_terms, unit
from lmx.data.noise import Keys
from lmx.evals.ngram import Ngrams
from lmx.evals.samples import samples
from lmx.evals.validation import Validation, constant_nats
from lmx.evals.yardstick import Subject
from lmx.objectives.clm import CLM
from lmx.objectives.electra import ELECTRA
from lmx.objectives.mlm import MLM
from lmx.track.figures import further, quality
from lmx.train.learner import Learner
from tests.conftest import texts, trunk
from tests.golden.test_electra import KNOBS as DETECTION
from tests.golden.test_mlm import KNOBS

L = 16
CPU = torch.device("cpu")


@pytest.fixture
def corpus(vocabulary):
    """Two documents of running bytes as the training split; validation documents to prompt from."""
    text = vocabulary.encode("We meet here tonight in this historic Chamber, and we are strong. " * 4)
    validation = [np.append(text[start : start + 30], vocabulary.eos) for start in (0, 5)]
    return SimpleNamespace(train=SimpleNamespace(tokens=text), validation=validation, vocabulary=vocabulary)


def make(make_model, vocabulary, corpus, objective):
    learner = Learner(make_model(dropout=0.3), objective)
    size = objective.raw_lengths(Keys(seed=0, purpose="validation", sample=np.arange(1)))[0] + objective.lookahead
    keys = [Keys(seed=0, purpose="validation", sample=np.arange(first, first + 2)) for first in (0, 2)]
    batches = [objective.collate(texts(vocabulary, 2, size, seed), key) for seed, key in enumerate(keys)]
    knobs = {"every": 0.1, "tokens": 64, "samples": 1, "sample_tokens": 8, "yardsticks": {}}
    subject = Subject(learner=learner, corpus=corpus, device=CPU, length=L, seed=0, untrained=lambda: learner)
    return Validation(subject, "fp32", batches, **knobs), learner, batches


def test_bits_per_byte(make_model, vocabulary, corpus):
    clm = CLM(length=L, model=trunk(32, True), vocabulary=vocabulary, z_loss=0.0)
    validation, learner, batches = make(make_model, vocabulary, corpus, clm)
    result = validation()
    nats = 0.0
    learner.eval()
    for batch in batches:
        with torch.no_grad():
            scores = learner.objective.logits(learner.model, learner.model(batch)).log_softmax(-1)
        asked = batch.targets != IGNORE
        nats -= float(scores[asked].gather(1, batch.targets[asked][:, None]).sum())
    assert result["targets"] == 4 * L
    assert result["bytes"] == 4 * L  # one byte a token here
    assert result["loss"] == pytest.approx(nats / (4 * L), rel=1e-5)
    assert result["bits_per_byte"] == pytest.approx(nats / math.log(2) / (4 * L), rel=1e-5)
    assert result["unigram_bits_per_byte"] > 0
    assert result["bigram_bits_per_byte"] > 0


def test_the_same_every_time_and_without_dropout(make_model, vocabulary, corpus):
    mlm = MLM(vocabulary=vocabulary, **KNOBS | {"length": L, "model": trunk(32)})
    validation, learner, _ = make(make_model, vocabulary, corpus, mlm)
    first = validation()
    assert learner.training
    assert first == validation()
    assert first["bits_per_byte"] is None  # masked losses are no probability of the text
    assert first["unigram_nats"] > 0


def test_what_is_counted_is_a_share_and_no_loss(make_model, vocabulary, corpus):
    electra = ELECTRA(model=make_model(), vocabulary=vocabulary, **DETECTION | {"length": L})
    validation, _, _ = make(make_model, vocabulary, corpus, electra)
    result = validation()
    assert 0 < result["share/replaced"] <= 1
    assert "loss/replaced" not in result
    assert further(result, "share/replaced") in quality(result)
    assert native_terms(result) == {"loss": "loss/loss", "trunk": "loss/trunk", "replaced": "share/replaced"}
    assert [unit(key) for key in native_terms(result).values()] == ["nats", "nats", "share"]


def test_texts_follow_the_seed(make_model, vocabulary, corpus):
    clm = CLM(length=L, model=trunk(32, True), vocabulary=vocabulary, z_loss=0.0)
    learner = Learner(make_model(), clm)
    options = {"number": 2, "tokens": 12, "length": L}
    a, b, c = (samples(learner, corpus, seed=seed, **options) for seed in (0, 0, 1))
    assert a == b != c
    assert len(a) == 2
    assert a[0]["prompt"] == vocabulary.decode(corpus.validation[0][:8])


def test_an_objective_that_cannot_write_is_not_asked_to(make_model, vocabulary, corpus):
    mlm = MLM(vocabulary=vocabulary, **KNOBS | {"length": L, "model": trunk(32)})
    assert samples(Learner(make_model(), mlm), corpus, number=2, tokens=3, length=L, seed=0) == []


def test_the_constant_knows_what_an_objective_adds(vocabulary):
    """Half of the targets are a sentinel, the other half a text token that training has a quarter of the time: the constant
    gives each half its share, and the text its frequency within."""
    a, b = vocabulary.ordinary[:2]
    ngrams = Ngrams.count(np.tile([a, b, b, b], 20_000), vocabulary.size)
    targets = np.tile([vocabulary.sentinels[0], a], 50)
    assert constant_nats(ngrams, targets, vocabulary.special) == pytest.approx(
        50 * math.log(2) + 50 * (math.log(2) + math.log(4)), rel=0.01
    )
    assert constant_nats(ngrams, targets[1::2], vocabulary.special) == ngrams.unigram_nats(targets[1::2])

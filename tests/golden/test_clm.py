"""CLM on the worked example of its module docstring, and its window arithmetic against Hugging Face's shift."""

import numpy as np
import pytest

from lmx.batch import IGNORE, PADDING
from lmx.data.noise import Keys
from lmx.data.packing import Samples
from lmx.objectives.clm import CLM
from tests.conftest import sample, trunk
from tests.data.conftest import documents

KEYS = Keys(seed=0, purpose="train", sample=np.arange(1))
_ = IGNORE


@pytest.fixture
def clm(vocabulary) -> CLM:
    return CLM(length=4, model=trunk(), vocabulary=vocabulary, z_loss=0.0)


def test_window_0_of_a_running_stream(clm):
    batch = clm.collate([sample([5, 6, 7, 1, 8])], KEYS)
    assert batch.tokens.tolist() == [[5, 6, 7, 1]]
    assert batch.targets.tolist() == [[6, 7, 1, 8]]
    assert batch.document.tolist() == [[0, 0, 0, 0]]
    assert batch.position.tolist() == [[0, 1, 2, 3]]
    assert batch.order.tolist() == [[0, 1, 2, 3]]
    assert batch.pattern == "causal"


def test_window_0_with_documents_apart(clm):
    batch = clm.collate([sample([5, 6, 7, 1], [8])], KEYS)
    assert batch.tokens.tolist() == [[5, 6, 7, 1]]
    assert batch.targets.tolist() == [[6, 7, 1, _]]


def test_window_1_is_padded(clm):
    batch = clm.collate([sample([8, 9, 1])], KEYS)
    assert batch.tokens[0, :3].tolist() == [8, 9, 1]
    assert batch.targets.tolist() == [[9, 1, _, _]]
    assert batch.document.tolist() == [[0, 0, 0, PADDING]]
    assert batch.position.tolist() == [[0, 1, 2, 0]]
    assert batch.pattern == "mixed"


def test_positions_restart_with_each_packed_document(clm):
    batch = clm.collate([sample([5, 1], [8, 9, 1])], KEYS)
    assert batch.position.tolist() == [[0, 1, 0, 1]]
    assert batch.document.tolist() == [[0, 0, 1, 1]]
    assert batch.targets.tolist() == [[1, _, 9, 1]]


def test_end_of_document_is_asked_like_any_token(clm, vocabulary):
    """Masking by id would hide every end of a document when padding shares its id."""
    batch = clm.collate([sample([vocabulary.pad, 6, vocabulary.pad, 1, 8])], KEYS)
    assert batch.targets.tolist() == [[6, vocabulary.pad, 1, 8]]


def test_a_stream_is_asked_without_a_gap(clm):
    """Windows of L tokens shifted within themselves would not ask one token in L."""
    docs = documents([7, 13, 5])
    stream = Samples(docs, clm.raw_lengths, clm.lookahead, seed=0, packing="concat", purpose="train", shuffle=False)
    batch = clm.collate(stream.read(0, len(stream)), stream.keys(0, len(stream)))
    asked = batch.targets[batch.targets != IGNORE]
    assert asked.tolist() == docs.tokens[1:].tolist()


def test_a_token_of_id_0_counts(make_model, vocabulary):
    """Where targets are known by their sign, the first token of a vocabulary is never learned."""
    objective, model = CLM(length=4, model=trunk(32), vocabulary=vocabulary, z_loss=0.0), make_model()
    batch = objective.collate([sample([5, 0, 6, 0, 7])], KEYS)
    assert int(objective.counts(batch)["loss"]) == 4
    logits = objective.logits(model, model(batch))[0].log_softmax(-1)
    assert float(objective(model, batch)["loss"]) == pytest.approx(
        -float(logits[range(4), [0, 6, 0, 7]].sum()), rel=1e-5
    )

"""A step's samples are shared by ranks and micro-batches, in order, once each, and made ahead of time or not."""

import numpy as np
import pytest

from lmx.data.loader import Loader
from lmx.data.packing import Samples
from lmx.errors import LmxError
from tests.data.conftest import documents

STREAM = Samples(
    documents([30] * 20), lambda keys: np.full(len(keys), 5), 1, seed=0, packing="concat", purpose="train", shuffle=True
)


def collate(samples, keys):
    """What a batch is made of, instead of the batch."""
    return [sample.tokens.tolist() for sample in samples], keys.sample.tolist(), keys.progress


def make(**changes) -> Loader:
    return Loader(STREAM, collate, **{"sequences": 12, "micro": None} | changes)


def test_ranks_and_micro_batches_share_a_step():
    for step in (1, 2, 3):
        found = [micro for rank in range(2) for micro in make(micro=3, rank=rank, world_size=2)(step, 0.25)]
        first = (step - 1) * 12
        assert [micro.first for micro in found] == [first, first + 3, first + 6, first + 9]
        assert [micro.samples for micro in found] == [3] * 4
        assert [micro.tokens for micro in found] == [15] * 4
        assert [number for micro in found for number in micro.batch[1]] == list(range(first, first + 12))
        assert {micro.batch[2] for micro in found} == {0.25}
        (whole,) = make()(step, 0.25)
        assert whole.batch[0] == [tokens for micro in found for tokens in micro.batch[0]]


def test_what_was_made_ahead_is_taken_if_it_is_what_is_asked():
    loader = make()
    loader.prepare(2, 0.5)
    assert loader.ahead is not None
    ready = loader.ahead[1].result()
    assert loader(2, 0.5) is ready
    assert loader(2, 0.5) is not ready, "once"
    loader.prepare(2, 0.5)
    assert loader(2, 0.6)[0].batch[2] == 0.6
    loader.prepare(2, 0.5)
    assert loader(3, 0.5)[0].first == 24


@pytest.mark.parametrize(("sequences", "ranks", "micro"), [(12, 5, None), (12, 2, 4), (1, 2, None)])
def test_numbers_that_do_not_divide_each_other(sequences, ranks, micro):
    with pytest.raises(LmxError, match=f"^trainer.batch_tokens must be a multiple .* got {sequences} sequences"):
        make(sequences=sequences, world_size=ranks, micro=micro)

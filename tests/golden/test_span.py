"""Span corruption: T5's worked examples and published lengths, in all layouts, and what T5's construction gets wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lmx.batch import IGNORE
from lmx.data import spans
from lmx.data.noise import Keys
from lmx.errors import LmxError
from lmx.objectives.span import SpanCorruption
from tests.conftest import sample, texts

_ = IGNORE
KNOBS = {
    "length": 64, "noise": "spans", "rate": 0.15, "mean_span": 3.0, "roll": False, "final_sentinel": False, "mode": None,
    "layout": "encoder_decoder", "decoder": "full", "z_loss": 0.0,
}  # fmt: skip
MASK = np.array([0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 1, 1], dtype=bool)


@pytest.fixture
def make(make_model, vocabulary):
    return lambda **changes: SpanCorruption(model=make_model(), vocabulary=vocabulary, **KNOBS | changes)


def words(vocabulary):
    """Twelve tokens, called 10 to 21 below, sentinels 99 to 96, and end of text 1."""
    named = dict(zip(range(10, 22), vocabulary.ordinary[:12].tolist(), strict=True))
    named |= {99 - k: int(vocabulary.sentinels[k]) for k in range(4)} | {1: vocabulary.eos, 0: vocabulary.pad}
    return named | {201: vocabulary.x, 202: vocabulary.s}


def read(vocabulary, text):
    named = words(vocabulary)
    return [_ if word == "." else named[int(word)] for word in text.split()]


def test_sentinels_stand_for_spans(make, vocabulary):
    text = np.array(read(vocabulary, "10 11 12 13 14 15 16 17 18 19 20 21"))
    source, target = make().split(text, MASK)
    assert source.tolist() == read(vocabulary, "10 11 12 99 14 15 98 18 19 97")
    assert target.tolist() == read(vocabulary, "99 13 98 16 17 97 20 21 1")
    assert make(final_sentinel=True).split(text, MASK)[1].tolist() == read(vocabulary, "99 13 98 16 17 97 20 21 96 1")


def test_a_rolled_mask_keeps_sentinels_and_spans_together(make, vocabulary):
    """T5 builds the target from the complement of the noise: 10 99 14 98 17 18 97 21 1, every span with another's sentinel."""
    text = np.array(read(vocabulary, "10 11 12 13 14 15 16 17 18 19 20 21"))
    source, target = make(roll=True).split(text, np.roll(MASK, 1))
    assert source.tolist() == read(vocabulary, "99 11 12 13 98 15 16 97 19 20 96")
    assert target.tolist() == read(vocabulary, "99 10 98 14 97 17 18 96 21 1")


def test_t5_s_own_example(make, vocabulary):
    """19 tokens, spans of 1 from the ninth and of 5 at the end: 15 inputs with EOS."""
    text = vocabulary.ordinary[:19]
    mask = np.isin(np.arange(19), [8, *range(14, 19)])
    source, target = make().split(text, mask)
    assert len(source) == 15
    assert source[-1] == vocabulary.sentinels[1]
    first, second = vocabulary.sentinels[:2]
    assert target.tolist() == [first, text[8], second, *text[14:], vocabulary.eos]


def test_the_encoder_decoder_layout(make, vocabulary):
    objective = make(length=16)
    pair = objective.split(np.array(read(vocabulary, "10 11 12 13 14 15 16 17 18 19 20 21")), MASK)
    objective.target_length = 10
    batch = objective.arrange([[pair]])
    assert batch.source.tokens[0].tolist()[:11] == read(vocabulary, "10 11 12 99 14 15 98 18 19 97 1")
    assert (batch.source.document[0, 11:] == -1).all()
    assert not batch.source.order.any()
    assert batch.tokens[0].tolist()[:9] == read(vocabulary, "0 99 13 98 16 17 97 20 21")
    assert batch.targets[0].tolist() == [*read(vocabulary, "99 13 98 16 17 97 20 21 1"), _]
    assert batch.order[0].tolist()[:9] == list(range(9))
    assert int(batch.num_targets) == 9


@pytest.mark.parametrize("layout", ["prefix", "causal"])
def test_ul2_s_single_stack_layout(make, vocabulary, layout):
    objective = make(length=20, layout=layout, mode="x")
    source, target = objective.split(np.array(read(vocabulary, "10 11 12 13 14 15 16 17 18 19 20 21")), MASK)
    batch = objective.arrange([[(np.concatenate([objective.prompt, source]), target)]])
    assert batch.tokens[0].tolist() == read(vocabulary, "201 10 11 12 99 14 15 98 18 19 97 99 13 98 16 17 97 20 21 1")
    assert batch.targets[0].tolist() == [_] * 10 + read(vocabulary, "99 13 98 16 17 97 20 21 1 .")
    assert batch.order[0].tolist() == ([0] * 11 + list(range(1, 10)) if layout == "prefix" else list(range(20)))


def test_packed_documents_have_sentinels_of_their_own(make, vocabulary):
    objective = make(length=40)
    texts = [[*vocabulary.ordinary[:12], vocabulary.eos], list(vocabulary.ordinary[20:34])]
    keys = Keys(seed=0, purpose="train", sample=np.arange(1))
    batch = objective.collate([sample(*texts)], keys)
    first = vocabulary.sentinels[0]
    assert (batch.targets[0] == first).sum() == 2
    assert (batch.source.tokens[0] == first).sum() == 2
    assert set(batch.document[0].tolist()) >= {0, 1}
    assert sorted(set(batch.source.document[0].tolist())) == [-1, 0, 1]


@pytest.mark.parametrize(
    ("length", "rate", "mean", "text", "targets"),
    [
        (64, 0.2, 2, 70, 22), (64, 0.2, 1, 63, 27), (512, 0.15, 3, 568, 114),  # t5's own tests
        (128, 0.15, 3, 141, 29), (128, 0.15, 8, 146, 26), (128, 0.5, 3, 190, 128), (128, 0.5, 8, 226, 128),
        (128, 0.5, 64, 250, 128), (128, 0.15, 32, 148, 24), (128, 0.25, 3, 152, 52), (128, 0.3, 3, 159, 65),
        (256, 0.15, 3, 284, 58), (256, 0.5, 8, 454, 256), (256, 0.15, 64, 299, 47), (512, 0.15, 8, 588, 100),
        (512, 0.5, 3, 766, 512), (512, 0.5, 8, 908, 512), (512, 0.15, 64, 600, 92), (512, 0.5, 64, 1006, 512),
        (512, 0.15, 32, 598, 94), (512, 0.25, 3, 614, 206), (512, 0.3, 3, 639, 257), (1024, 0.15, 3, 1137, 229),
        (1024, 0.5, 64, 2014, 1024), (2048, 0.15, 3, 2274, 456), (2048, 0.15, 8, 2357, 399), (2048, 0.5, 8, 3638, 2047),

        # with UL2's mode token in the encoder: one place fewer
        (511, 0.15, 3, 567, 114), (511, 0.15, 8, 587, 100), (511, 0.5, 3, 765, 510), (511, 0.5, 8, 906, 511),
        (511, 0.15, 64, 599, 92), (511, 0.5, 64, 1004, 511),
    ],
)  # fmt: skip
def test_published_lengths(length, rate, mean, text, targets):
    """The last of 2048: t5 says 2048 targets, one more than its mask then has."""
    assert spans.longest_encoded(length, rate, mean) == text
    inputs, found = spans.sizes(text, rate, mean)
    assert found == targets
    assert length - 1 <= inputs <= length


def test_where_no_span_would_be_left_there_is_one():
    """(64, .15) at 128: t5's helper computes no span, its mask has one, and the inputs are too long. Here both have one."""
    text = spans.longest_encoded(128, 0.15, 64)
    assert text == 148
    assert spans.sizes(text, 0.15, 64) == (128, 24)


@pytest.mark.parametrize(
    ("length", "rate", "mean", "text", "noise", "number"),
    [
        (512, 0.15, 3, 464, 70, 23), (512, 0.15, 8, 492, 74, 9), (512, 0.5, 3, 382, 191, 64), (512, 0.5, 8, 454, 227, 28),
        (512, 0.15, 64, 508, 76, 1), (512, 0.5, 64, 502, 251, 4), (1024, 0.15, 3, 929, 139, 46), (1024, 0.15, 8, 986, 148, 18),
        (1024, 0.5, 3, 766, 383, 128), (1024, 0.5, 8, 908, 454, 57), (2048, 0.15, 3, 1860, 279, 93),
        (2048, 0.5, 8, 1818, 909, 114), (2048, 0.5, 64, 2014, 1007, 16),
    ],
)  # fmt: skip
def test_lengths_in_a_single_stack(length, rate, mean, text, noise, number):
    assert spans.longest_joined(length, rate, mean) == text
    assert spans.counts(text, rate, mean) == (noise, number)


def test_too_few_sentinels_are_said_before_data_is_read(make_model, vocabulary):
    with pytest.raises(LmxError, match="sentinel for each span, got 256 spans for 128 sentinels"):
        SpanCorruption(model=make_model(), vocabulary=vocabulary, **KNOBS | {"length": 1024, "rate": 0.5})


@pytest.mark.parametrize("layout", ["prefix", "encoder_decoder"])
@pytest.mark.parametrize("noise", ["spans", "iid", "shuffle"])
def test_the_text_can_be_put_together_again(make, vocabulary, layout, noise):
    objective = make(layout=layout, noise=noise, mode="r", roll=noise == "spans")
    size = objective.raw_length
    for number, text in enumerate(texts(vocabulary, 50, size)):
        source, target = objective.pose(text.tokens, None, np.random.default_rng(number))
        assert source[0] == vocabulary.r
        assert target[-1] == vocabulary.eos
        if noise == "shuffle":
            assert sorted(source[1:]) == sorted(text.tokens)
            assert target[:-1].tolist() == text.tokens.tolist()
        else:
            assert refill(vocabulary, source[1:], target[:-1]) == text.tokens.tolist()
        assert objective.overflow([(source, target)]) <= 0


def refill(vocabulary, source, target) -> list[int]:
    sentinel = np.isin(target, vocabulary.sentinels)
    parts = np.split(target, np.flatnonzero(sentinel))[1:]
    spans = {int(part[0]): part[1:].tolist() for part in parts}
    return [token for place in source.tolist() for token in spans.get(place, [place])]


@pytest.mark.parametrize("sharing", ["full", "half", "shared"])
def test_a_decoder_sees_all_of_its_source_and_its_own_past(make_model, vocabulary, sharing):
    model = make_model(depth=2)
    objective = SpanCorruption(model=model, vocabulary=vocabulary, **KNOBS | {"decoder": sharing, "length": 32})
    keys = Keys(seed=0, purpose="train", sample=np.arange(1))
    batch = objective.collate(texts(vocabulary, 1, objective.raw_length), keys)
    with torch.no_grad():
        before = objective.hidden(model, batch)
        later = batch.tokens.clone()
        later[0, 4] = vocabulary.ordinary[5]
        changed = objective.hidden(model, replace(batch, tokens=later))
        source = batch.source.tokens.clone()
        source[0, -1] = vocabulary.ordinary[5]
        moved = objective.hidden(model, replace(batch, source=replace(batch.source, tokens=source)))
    assert (before - changed)[0, :4].abs().max() == 0.0
    assert (before - changed)[0, 4:].abs().max() > 0
    assert (before - moved)[0].abs().amax(-1).min() > 0


def test_the_final_sentinel_is_one_more(make_model, vocabulary):
    """128 spans have the 128 sentinels that there are, and no end."""
    knobs = KNOBS | {"length": 512, "rate": 0.5}
    SpanCorruption(model=make_model(), vocabulary=vocabulary, **knobs)
    with pytest.raises(LmxError, match="got 129 spans for 128 sentinels"):
        SpanCorruption(model=make_model(), vocabulary=vocabulary, **knobs | {"final_sentinel": True})


def test_rounded_as_python_does():
    """0.15 x 190 is 28.5: 28 in float64, half to even, 29 in TensorFlow's float32."""
    assert spans.counts(190, 0.15, 3) == (28, 9)
    assert spans.counts(350, 0.15, 3) == (52, 17)


def test_iid_noise_ends_where_the_sentinels_do(make, vocabulary):
    objective = make(noise="iid", rate=0.5, length=128)
    objective.rate, text = 0.5, vocabulary.ordinary[np.arange(600) % 200]
    masks = [objective.mask(len(text), np.random.default_rng(seed)) for seed in range(20)]
    begins = [len(spans.runs(mask)[0]) for mask in masks]
    assert set(begins) == {len(vocabulary.sentinels)}
    assert all(len(objective.split(text, mask)[0]) > 0 for mask in masks)


def test_padding_of_the_source_changes_nothing(make_model, vocabulary):
    model = make_model()
    objective = SpanCorruption(model=model, vocabulary=vocabulary, **KNOBS | {"length": 32})
    keys = Keys(seed=0, purpose="train", sample=np.arange(1))
    batch = objective.collate(texts(vocabulary, 1, 20), keys)
    padding = batch.source.document == -1
    other = torch.where(padding, int(vocabulary.ordinary[3]), batch.source.tokens)
    assert padding.any()
    with torch.no_grad():
        a, b = (
            objective.nats(model, one) for one in (batch, replace(batch, source=replace(batch.source, tokens=other)))
        )
    assert torch.equal(a, b)


def test_packed_documents_have_noise_of_their_own(make, vocabulary):
    objective, text = make(length=128), [*vocabulary.ordinary[:50], vocabulary.eos]
    keys = Keys(seed=0, purpose="train", sample=np.arange(8))
    pairs = [objective.pairs(sample(text, text), keys, number) for number in range(8)]
    assert any(one[0].tolist() != other[0].tolist() for one, other in pairs)
    for source, target in (pair for both in pairs for pair in both):
        assert vocabulary.eos not in [*source, *target[:-1]], "a document's own end is left out"

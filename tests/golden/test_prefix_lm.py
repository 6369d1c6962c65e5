"""Prefix LM: seqio's worked example without its shift, UL2's S-denoiser, and how long a prefix is."""

import numpy as np
import pytest

from lmx.batch import IGNORE
from lmx.objectives.prefix_lm import PrefixLM
from lmx.objectives.text_to_text import joined

_ = IGNORE
KNOBS = {
    "length": 16, "split": "uniform", "rate": 0.5, "mode": None, "layout": "prefix", "decoder": "full", "z_loss": 0.0,
}  # fmt: skip


@pytest.fixture
def make(make_model, vocabulary):
    return lambda **changes: PrefixLM(model=make_model(), vocabulary=vocabulary, **KNOBS | changes)


def test_seqio_s_example():
    """Inputs 7 8 5 1, targets 3 9 1: its row is 0 7 8 5 1 3 9, shifted; the last token, read for nothing, is kept here."""
    row = joined([(np.array([7, 8, 5, 1]), np.array([3, 9, 1]))], "prefix")
    assert row["tokens"].tolist() == [7, 8, 5, 1, 3, 9, 1]
    assert row["targets"].tolist() == [_, _, _, 3, 9, 1, _]
    assert row["order"].tolist() == [0, 0, 0, 0, 1, 2, 3]


def test_two_packed_examples():
    pairs = [(np.array([7, 8, 5]), np.array([3, 1])), (np.array([8]), np.array([4, 1]))]
    row = joined(pairs, "prefix")
    assert row["tokens"].tolist() == [7, 8, 5, 3, 1, 8, 4, 1]
    assert row["targets"].tolist() == [_, _, 3, 1, _, 4, 1, _]
    assert row["document"].tolist() == [0, 0, 0, 0, 0, 1, 1, 1]


def test_ul2_s_s_denoiser(make, vocabulary):
    objective = make(mode="s")
    objective.prefix = lambda length, rng: 5
    text = vocabulary.ordinary[:8]
    source, target = objective.pose(text, None, np.random.default_rng(0))
    row = joined([(source, target)], "prefix")
    assert row["tokens"].tolist() == [vocabulary.s, *text, vocabulary.eos]
    assert row["order"].tolist() == [0] * 6 + [1, 2, 3, 4]
    assert row["targets"].tolist() == [_] * 5 + [*text[5:], vocabulary.eos, _]


@pytest.mark.parametrize(("rate", "least", "mean"), [(0.5, 1, 50), (0.25, 50, 74.5)])
def test_uniform_prefixes(make, rate, least, mean):
    objective, rng = make(rate=rate), np.random.default_rng(0)
    drawn = np.array([objective.prefix(100, rng) for _ in range(20_000)])
    assert (drawn.min(), drawn.max()) == (least, 99)
    assert drawn.mean() == pytest.approx(mean, abs=0.7)


def test_a_fixed_prefix(make):
    objective = make(split="fixed", rate=0.25)
    assert objective.prefix(100, np.random.default_rng(0)) == 75


def test_lengths(make):
    assert make().raw_length == 15
    assert make(mode="s").raw_length == 14
    assert make(layout="encoder_decoder", mode="s").raw_length == 15


def test_at_a_low_rate_one_token_is_asked(make):
    objective = make(rate=0.01)
    assert {objective.prefix(10, np.random.default_rng(seed)) for seed in range(30)} == {9}

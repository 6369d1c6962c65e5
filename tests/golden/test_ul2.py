"""UL2 and other mixtures: the denoisers' lengths and shares, one head for all, and schedules that follow the budget."""

import numpy as np
import pytest
import torch

from lmx import config
from lmx.batch import IGNORE
from lmx.build import build
from lmx.data.noise import Keys
from lmx.errors import LmxError
from tests.conftest import texts


@pytest.fixture
def make(make_model, vocabulary):
    def build_one(choice="ul2", *overrides, length=512):
        node = config.load([f"objective={choice}", f"length={length}", "tokenizer.size=32768", *overrides])["objective"]
        model = make_model()
        return build(node, length=length, model=model, vocabulary=Wide(vocabulary), corpus=None)

    return build_one


class Wide:
    """A vocabulary with as many sentinels as one of 32768 rows has: the ids repeat, which lengths do not care about."""

    def __init__(self, inner):
        self.inner, self.sentinels = inner, np.tile(inner.sentinels, 4)

    def __getattr__(self, name):
        return getattr(self.inner, name)


def keys(count, progress=0.0, purpose="train"):
    return Keys(seed=0, purpose=purpose, sample=np.arange(count), progress=progress)


def test_lengths_of_the_seven_denoisers(make):
    both = {layout: make("ul2", f"objective.layout={layout}") for layout in ("encoder_decoder", "prefix")}
    lengths = {layout: dict(zip(one.names, one.lengths().tolist(), strict=True)) for layout, one in both.items()}
    assert lengths["encoder_decoder"] == {
        "r3": 567, "r8": 587, "x3": 765, "x8": 906, "x64": 599, "x64_half": 1004, "s": 511,
    }  # fmt: skip
    assert lengths["prefix"] == {"r3": 464, "r8": 492, "x3": 382, "x8": 454, "x64": 508, "x64_half": 502, "s": 510}


def test_shares_by_example_and_by_token(make):
    drawn = np.bincount(make().draw(keys(7000)), minlength=7) / 7000
    assert np.allclose(drawn, 1 / 7, atol=0.015)
    mixture = make("ul2", "objective.by=token")
    number = mixture.draw(keys(7000))
    tokens = np.bincount(number, weights=mixture.lengths()[number], minlength=7)
    assert np.allclose(tokens / tokens.sum(), 1 / 7, atol=0.015)


def test_ul2r_is_half_a_quarter_a_quarter(make):
    mixture = make("ul2r")
    share = dict(zip(mixture.names, mixture.first, strict=True))
    r, s, x = (sum(value for name, value in share.items() if name.startswith(kind)) for kind in "rsx")
    assert (r, s, x) == pytest.approx((0.25, 0.5, 0.25))
    spans = {name: (part.mean_span, part.rate) for name, part in mixture.parts if name != "s"}
    assert spans == {"r3": (3, 0.15), "x32": (32, 0.15), "x3": (3, 0.5)}, "X: either long or many"


def test_raw_lengths_are_those_of_the_denoiser_that_was_drawn(make):
    mixture = make()
    assert (mixture.raw_lengths(keys(50)) == mixture.lengths()[mixture.draw(keys(50))]).all()


def test_rows_stay_with_their_samples_and_their_modes(make, vocabulary):
    mixture = make(length=128)
    given = texts(vocabulary, 24, int(mixture.lengths().max()))
    batch = mixture.collate(given, keys(24))
    drawn = mixture.draw(keys(24))
    modes = {"r": vocabulary.r, "s": vocabulary.s, "x": vocabulary.x}
    assert batch.tokens[:, 0].tolist() == [modes[mixture.names[number][0]] for number in drawn]
    assert batch.part.tolist() == drawn.tolist()
    for row, item in enumerate(given):
        assert np.isin(item.tokens[:5], batch.tokens[row].tolist() + batch.targets[row].tolist()).all()


def test_each_part_s_mean_is_its_own(make, make_model, vocabulary):
    mixture = make(length=128)
    model = make_model()
    batch = mixture.collate(texts(vocabulary, 24, int(mixture.lengths().max())), keys(24))
    with torch.no_grad():
        losses, counts = mixture(model, batch), mixture.counts(batch)
    parts = [name for name in mixture.weights if name not in ("loss", "z")]
    assert float(losses["loss"]) == pytest.approx(sum(float(losses[name]) for name in parts), rel=1e-5)
    assert int(counts["loss"]) == sum(int(counts[name]) for name in parts) == int((batch.targets != IGNORE).sum())
    assert all(mixture.weights[name] == 0 for name in parts)


def test_one_head_and_no_unused_parameters(make, make_model):
    mixture = make(length=128)
    assert [name for name, _ in mixture.named_parameters()] == []  # tied: the trunk's table is the head
    decoding = make("ul2", "objective.layout=encoder_decoder", length=128)
    assert all(name.startswith("decoder.") for name, _ in decoding.named_parameters())


def test_clm_then_mlm(make):
    mixture = make("biphasic")
    assert mixture.draw(keys(50, 0.49)).tolist() == [0] * 50
    assert mixture.draw(keys(50, 0.51)).tolist() == [1] * 50
    held_out = mixture.draw(keys(400, purpose="validation"))
    assert 0.4 < held_out.mean() < 0.6
    assert (held_out == mixture.draw(keys(400, 0.9, "validation"))).all()  # the same at every evaluation


def test_little_by_little(make):
    mixture = make("mixture", "objective.last_weights={clm: 0.0, mlm: 1.0}")
    assert mixture.draw(keys(2000, 0.0)).mean() == pytest.approx(0.5, abs=0.04)
    assert mixture.draw(keys(2000, 0.5)).mean() == pytest.approx(0.75, abs=0.04)
    assert mixture.draw(keys(50, 1.0)).min() == 1


def test_what_cannot_be_mixed_is_said(make):
    with pytest.raises(LmxError, match="as many tokens a sample as each other, got clm=512, mlm=510"):
        make("biphasic", "objective.parts.mlm.wrap=true")
    with pytest.raises(LmxError, match="objective.weights must give each of clm, mlm a weight"):
        make("mixture", "objective.weights.clm=0", "objective.weights.mlm=0")
    with pytest.raises(LmxError, match="objective.layout must be that of all parts"):
        make("mixture", "objective.layout=encoder_decoder")

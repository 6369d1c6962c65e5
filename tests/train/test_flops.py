"""FLOPs agree with the closed formulas for one sequence of T tokens (d width, f SwiGLU width, V vocabulary):

block, a token: B(c) = 2 (4 d^2 + 3 d f) + 4 c d with c visible keys on average; head, an asked position: 2 d V;
training: 3 x forward.
"""

import numpy as np
import pytest

from lmx.batch import visible_pairs
from lmx.data.noise import Keys
from lmx.objectives.clm import CLM
from lmx.objectives.electra import ELECTRA
from lmx.objectives.mlm import MLM
from lmx.objectives.mtp import MTP
from lmx.objectives.prefix_lm import PrefixLM
from lmx.objectives.segment_pair import SegmentPair
from lmx.objectives.span import SpanCorruption
from lmx.objectives.xlnet import XLNet
from lmx.train.flops import Flops
from lmx.train.learner import Learner
from tests.conftest import texts, trunk
from tests.golden.test_electra import KNOBS as ELECTRA_KNOBS
from tests.golden.test_mlm import KNOBS
from tests.golden.test_segment_pair import KNOBS as PAIR
from tests.golden.test_span import KNOBS as SPAN

T, D, F, DEPTH, ROWS = 64, 48, 96, 3, 4
SHAPE = {"width": D, "mlp": F, "depth": DEPTH, "heads": 4, "kv_heads": 4}


def counted(make_model, vocabulary, objective, depth=DEPTH):
    model = make_model(**SHAPE | {"depth": depth})
    keys = Keys(seed=0, purpose="train", sample=np.arange(ROWS))
    size = objective.raw_lengths(keys)[0] + objective.lookahead
    batch = objective.collate(texts(vocabulary, ROWS, size), keys)
    return Flops(Learner(model, objective))(batch), batch


def block(c):
    return 2 * (4 * D * D + 3 * D * F) + 4 * c * D


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("z_loss", [0.0, 1e-4])
def test_clm(make_model, vocabulary, tied, z_loss):
    objective = CLM(length=T, model=trunk(D, tied), vocabulary=vocabulary, z_loss=z_loss)
    flops, _ = counted(make_model, vocabulary, objective)
    assert flops == pytest.approx(3 * ROWS * (T * DEPTH * block((T + 1) / 2) + T * 2 * D * vocabulary.size), rel=0.01)


@pytest.mark.parametrize("rate", [0.15, 0.4])
@pytest.mark.parametrize("select", ["fixed_round", "bernoulli"])
def test_mlm_pays_the_head_only_where_asked(make_model, vocabulary, rate, select):
    objective = MLM(vocabulary=vocabulary, **KNOBS | {"length": T, "model": trunk(D), "rate": rate, "select": select})
    flops, batch = counted(make_model, vocabulary, objective)
    formula = 3 * (ROWS * T * DEPTH * block(T) + int(batch.num_targets) * 2 * D * vocabulary.size)
    assert flops == pytest.approx(formula, rel=0.01)


def decoder_block(c, n_e):
    """A decoder's block, a token: its own part, queries and output of the cross-attention, and n_e keys seen there."""
    return block(c) + 2 * (2 * D * D) + 4 * n_e * D


def spans(make_model, vocabulary, **changes):
    return SpanCorruption(model=make_model(**SHAPE), vocabulary=vocabulary, **SPAN | {"length": T} | changes)


@pytest.mark.parametrize(("decoder", "encoder_depth", "decoder_depth"), [("full", 3, 3), ("shared", 3, 3)])
def test_encoder_decoder(make_model, vocabulary, decoder, encoder_depth, decoder_depth):
    objective = spans(make_model, vocabulary, decoder=decoder)
    flops, batch = counted(make_model, vocabulary, objective)
    n_e, n_d = T, objective.target_length
    formula = (
        3
        * ROWS
        * (
            n_e * encoder_depth * block(n_e)
            + n_d * decoder_depth * decoder_block((n_d + 1) / 2, n_e)
            + decoder_depth * n_e * 2 * 2 * D * D  # keys and values of the encoder's states
            + n_d * 2 * D * vocabulary.size
        )
    )
    assert int(batch.num_targets) == ROWS * n_d
    assert flops == pytest.approx(formula, rel=0.01)


def test_half_a_trunk_each(make_model, vocabulary):
    model = make_model(**SHAPE | {"depth": 4})
    objective = SpanCorruption(model=model, vocabulary=vocabulary, **SPAN | {"length": T, "decoder": "half"})
    flops, _ = counted(make_model, vocabulary, objective, depth=4)
    n_e, n_d = T, objective.target_length
    formula = 3 * ROWS * (
        n_e * 2 * block(n_e) + n_d * 2 * decoder_block((n_d + 1) / 2, n_e) + 2 * n_e * 4 * D * D
        + n_d * 2 * D * vocabulary.size
    )  # fmt: skip
    assert flops == pytest.approx(formula, rel=0.01)


def test_prefix(make_model, vocabulary):
    objective = PrefixLM(
        model=make_model(**SHAPE), vocabulary=vocabulary, length=T, split="fixed", rate=0.5, mode=None, layout="prefix",
        decoder="full", z_loss=0.0,
    )  # fmt: skip
    flops, _ = counted(make_model, vocabulary, objective)
    prefix = objective.prefix(T - 1, None)
    c = (prefix**2 + (T - prefix) * (T + prefix + 1) / 2) / T
    formula = 3 * ROWS * (T * DEPTH * block(c) + (T - prefix) * 2 * D * vocabulary.size)
    assert flops == pytest.approx(formula, rel=0.01)


@pytest.mark.parametrize("width", [0.5, 1.0])
def test_electra(make_model, vocabulary, width):
    objective = ELECTRA(
        model=make_model(**SHAPE), vocabulary=vocabulary, **ELECTRA_KNOBS | {"length": T, "generator_width": width}
    )
    flops, batch = counted(make_model, vocabulary, objective)
    w, f = objective.generator.width, objective.generator.shape["mlp"]
    small = 2 * (4 * w * w + 3 * w * f) + 4 * T * w
    ways = 2 * 2 * D * w if w != D else 0
    formula = 3 * (
        ROWS * T * (DEPTH * (block(T) + small) + ways + 2 * D * D + 2 * D)
        + int(batch.num_targets) * 2 * D * vocabulary.size
    )
    assert flops == pytest.approx(formula, rel=0.01)


def test_xlnet(make_model, vocabulary):
    """Both streams; a query row has no keys and values of its own, and the last block's content is read for those alone."""
    objective = XLNet(model=make_model(**SHAPE), vocabulary=vocabulary, length=T, rate=1 / 6, context=6.0, z_loss=0.0)
    flops, batch = counted(make_model, vocabulary, objective)
    queries = batch.query.numel()
    formula = 3 * (
        ROWS * T * ((DEPTH - 1) * block(0) + 6 * D * D) + queries * DEPTH * (block(0) - 4 * D * D)
        + 4 * D * ((DEPTH - 1) * visible_pairs(batch) + DEPTH * batch.pairs("query")) + queries * 2 * D * vocabulary.size
    )  # fmt: skip
    assert flops == pytest.approx(formula, rel=0.01)


@pytest.mark.parametrize("kind", ["parallel", "linear", "sequential"])
def test_mtp(make_model, vocabulary, kind):
    objective = MTP(
        model=make_model(**SHAPE), vocabulary=vocabulary, length=T, ahead=3, kind=kind, weight=1.0, z_loss=0.0
    )
    flops, _ = counted(make_model, vocabulary, objective)
    c = (T + 1) / 2
    further = {"parallel": block(c), "linear": 0, "sequential": block(c) + 4 * D * D}[kind]
    formula = 3 * ROWS * T * (DEPTH * block(c) + 2 * further + 3 * 2 * D * vocabulary.size)
    assert flops == pytest.approx(formula, rel=0.01)


@pytest.mark.parametrize("relation", ["none", "nsp"])
def test_segment_pairs(make_model, vocabulary, small_corpus, relation):
    objective = SegmentPair(
        model=make_model(**SHAPE),
        vocabulary=vocabulary,
        corpus=small_corpus,
        **PAIR | {"length": T, "relation": relation},
    )
    flops, batch = counted(make_model, vocabulary, objective)
    extra = ROWS * (2 * D * D + 4 * D) if relation == "nsp" else 0
    real = visible_pairs(batch)
    formula = 3 * (
        ROWS * T * DEPTH * block(0) + DEPTH * 4 * D * real + int(batch.num_targets) * 2 * D * vocabulary.size + extra
    )
    assert flops == pytest.approx(formula, rel=0.01)


def test_counting_leaves_the_learner_alone(make_model, vocabulary):
    objective = CLM(length=T, model=trunk(D, True), vocabulary=vocabulary, z_loss=0.0)
    learner = Learner(make_model(width=D), objective)
    before = learner.model.embedding.weight.clone()
    Flops(learner)
    assert (learner.model.embedding.weight == before).all()
    assert all(parameter.grad is None for parameter in learner.parameters())

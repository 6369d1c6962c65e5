"""FLOPs agree with the closed formulas for one sequence of T tokens (d width, f SwiGLU width, V vocabulary):

block, a token: B(c) = 2 (4 d^2 + 3 d f) + 4 c d with c visible keys on average; head, an asked position: 2 d V;
training: 3 x forward.
"""

import numpy as np
import pytest

from lmx.data.noise import Keys
from lmx.objectives.clm import CLM
from lmx.objectives.mlm import MLM
from lmx.train.flops import Flops
from lmx.train.learner import Learner
from tests.conftest import texts, trunk
from tests.golden.test_mlm import KNOBS

T, D, F, DEPTH, ROWS = 64, 48, 96, 3, 4


def counted(make_model, vocabulary, objective):
    model = make_model(width=D, mlp=F, depth=DEPTH, heads=4, kv_heads=4)
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


def test_counting_leaves_the_learner_alone(make_model, vocabulary):
    objective = CLM(length=T, model=trunk(D, True), vocabulary=vocabulary, z_loss=0.0)
    learner = Learner(make_model(width=D), objective)
    before = learner.model.embedding.weight.clone()
    Flops(learner)
    assert (learner.model.embedding.weight == before).all()
    assert all(parameter.grad is None for parameter in learner.parameters())

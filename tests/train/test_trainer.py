"""A step does not depend on how it is cut, nothing that is not finite is applied, and every objective can learn."""

import math

import numpy as np
import pytest
import torch

from lmx.batch import IGNORE
from lmx.data.loader import Micro
from lmx.data.noise import Keys
from lmx.errors import NonFinite
from lmx.nn.block import Block
from lmx.nn.cross_entropy import Slopes
from lmx.objectives.clm import CLM
from lmx.objectives.mlm import MLM
from lmx.optim.optimizer import AdamW
from lmx.optim.schedule import Cosine
from lmx.train.budget import Budget
from lmx.train.flops import Flops
from lmx.train.learner import Learner
from lmx.train.trainer import Trainer
from tests.conftest import texts, trunk
from tests.golden.test_mlm import KNOBS

L = 32


def make_trainer(model, objective, vocabulary, cut, *, steps=1, **changes):
    """A trainer whose every step reads the same eight samples, in micro-batches of `cut`."""
    learner = Learner(model, objective)
    size = objective.raw_lengths(Keys(seed=0, purpose="train", sample=np.arange(1)))[0] + objective.lookahead
    samples = texts(vocabulary, 8, size)

    def loader(step, progress):
        keys = [Keys(seed=0, purpose="train", sample=np.arange(a, a + cut)) for a in range(0, 8, cut)]
        return [
            Micro(batch=objective.collate(samples[a : a + cut], key), tokens=cut * size, first=a, samples=cut)
            for a, key in zip(range(0, 8, cut), keys, strict=True)
        ]

    loader.prepare = lambda step, progress: None
    knobs = {
        "batch_tokens": 8 * L, "micro_batch": None, "precision": "fp32", "compile": False, "clip": 1e9, "skip_limit": 2,
        "log_every": 1, "checkpoint_every": 1, "keep": 2,
        "determinism": None, "parallel": "ddp", "gather": "fp32", "offload": False, "recompute": False,
    }  # fmt: skip
    optimizer = AdamW(
        learner, lr=1e-3, embedding_lr=3e-3, betas=[0.9, 0.99], weight_decay=0.0, schedule=Cosine(warmup=0.0, floor=1.0)
    )
    budget = Budget(tokens=None, flops=None, targets=None, seconds=None, steps=steps)
    return Trainer(learner, optimizer, budget, Flops(learner), loader, torch.device("cpu"), 0, **knobs | changes)


def objectives(vocabulary, name):
    if name == "clm":
        return CLM(length=L, model=trunk(32, True), vocabulary=vocabulary, z_loss=1e-3)
    return MLM(
        vocabulary=vocabulary,
        **KNOBS | {"length": L, "model": trunk(32), "select": "bernoulli", "rate": 0.3, "z_loss": 1e-3},
    )


def gradients(trainer):
    kept = {}
    trainer.gradient_norm = lambda: (
        kept.update({n: p.grad.clone() for n, p in trainer.learner.named_parameters()}) or 0.0
    )
    return next(trainer.run()), kept


@pytest.mark.parametrize("name", ["clm", "mlm"])
@pytest.mark.parametrize("cut", [1, 2, 4])
def test_a_batch_of_eight_equals_parts_of_it(make_model, vocabulary, name, cut):
    whole, a = gradients(make_trainer(make_model(), objectives(vocabulary, name), vocabulary, 8))
    parts, b = gradients(make_trainer(make_model(), objectives(vocabulary, name), vocabulary, cut))
    assert whole.losses == pytest.approx(parts.losses, rel=1e-6)
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=0, atol=1e-6 * float(a[key].abs().max()) + 1e-9)


def test_the_mean_of_means_is_caught(make_model, vocabulary, monkeypatch):
    """The seeded bug: each micro-batch divided by its own count, with uneven counts."""

    def own_mean(self, micro, counts):
        own = {term: int(n) * 4 for term, n in self.learner.objective.counts(micro.batch).items()}
        return backward(self, micro, own)

    backward = Trainer.backward
    whole, a = gradients(make_trainer(make_model(), objectives(vocabulary, "mlm"), vocabulary, 8))
    monkeypatch.setattr(Trainer, "backward", own_mean)
    parts, b = gradients(make_trainer(make_model(), objectives(vocabulary, "mlm"), vocabulary, 2))
    worst = max(float((a[key] - b[key]).abs().max() / a[key].abs().max()) for key in a)
    assert worst > 0.01


@pytest.mark.parametrize("name", ["clm", "mlm"])
def test_learns_eight_samples_by_heart(make_model, vocabulary, name):
    model = make_model(width=64, mlp=128, tied=False)  # a tied head starts below ln V where a token is shown
    objective = CLM(length=L, model=trunk(64, False), vocabulary=vocabulary, z_loss=0.0)
    if name == "mlm":
        objective = MLM(vocabulary=vocabulary, **KNOBS | {"length": L, "model": trunk(64, False), "rate": 0.3})
    trainer = make_trainer(model, objective, vocabulary, 8, steps=300)
    losses = [step.losses["loss"] for step in trainer.run()]
    assert losses[0] == pytest.approx(math.log(vocabulary.size), abs=0.15)
    assert losses[-1] < 0.1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_never_applied(make_model, vocabulary, bad):
    trainer = make_trainer(make_model(), objectives(vocabulary, "clm"), vocabulary, 8, steps=10)
    steps = trainer.run()
    next(steps)
    weights = {key: value.clone() for key, value in trainer.learner.state_dict().items()}
    moments = {key: value.clone() for key, value in trainer.optimizer.state().items()}
    forward = trainer.learner.forward
    trainer.learner.forward = lambda batch: {term: value * bad for term, value in forward(batch).items()}
    for _ in range(2):
        assert not next(steps).applied
    assert all(torch.equal(weights[key], value) for key, value in trainer.learner.state_dict().items())
    assert all(torch.equal(moments[key], value) for key, value in trainer.optimizer.state().items())
    assert trainer.ledger.skipped == 2
    with pytest.raises(NonFinite, match=r"step 4: term loss, z .* \(samples 0-7\)"):
        next(steps)


def test_a_bad_gradient_alone_is_caught(make_model, vocabulary):
    trainer = make_trainer(make_model(), objectives(vocabulary, "clm"), vocabulary, 8, steps=3)
    trainer.learner.model.norm.weight.register_hook(lambda grad: grad * math.nan)
    assert not next(trainer.run()).applied


def test_a_batch_without_targets_is_zero_not_nan(make_model, vocabulary):
    objective = objectives(vocabulary, "clm")
    collate = objective.collate
    from dataclasses import replace

    objective.collate = lambda samples, keys: replace(
        (batch := collate(samples, keys)), targets=torch.full_like(batch.targets, IGNORE), capacity=0
    )
    step = next(make_trainer(make_model(), objective, vocabulary, 8).run())
    assert step.losses == {"loss": None, "z": None}
    assert step.applied


@pytest.mark.parametrize("currency", ["tokens", "flops", "targets", "steps"])
def test_stops_at_the_step_nearest_the_budget(make_model, vocabulary, currency):
    trainer = make_trainer(make_model(), objectives(vocabulary, "clm"), vocabulary, 8)
    cost = trainer.cost(trainer.loader(1, 0.0))
    price = 1 if currency == "steps" else getattr(cost, currency)
    for wanted, amount in [(3, 3.4), (4, 3.6), (3, 3)]:
        if currency == "steps":
            amount = wanted
        amounts = dict.fromkeys(("tokens", "flops", "targets", "seconds", "steps")) | {currency: amount * price}
        trainer = make_trainer(make_model(), objectives(vocabulary, "clm"), vocabulary, 8)
        trainer.budget = Budget(**amounts)
        assert len(list(trainer.run())) == wanted


def test_gradients_are_those_of_one_step(make_model, vocabulary):
    """The eight samples are the same at every step: at a rate of 0 so is their gradient, and warming up leaves none behind."""
    trainer = make_trainer(make_model(), objectives(vocabulary, "clm"), vocabulary, 8, steps=3)
    trainer.optimizer.step = lambda progress: 0.0
    trainer.warm_up()
    norms = [step.grad_norm for step in trainer.run()]
    assert norms == [norms[0]] * 3


@pytest.mark.parametrize("broken", [True, False])
def test_compiled_code_that_is_wrong_is_not_used(make_model, vocabulary, monkeypatch, broken):
    """As torch 2.13 makes with bf16 on some CPUs: gradients that are not finite."""

    class Nothing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, slope):
            return slope * (float("nan") if broken else 1.0)

    def compiled(block):
        block._compiled_call_impl = lambda *given: Nothing.apply(block._call_impl(*given))

    monkeypatch.setattr(Block, "compile", compiled)
    monkeypatch.setattr(Slopes, "compile", lambda slopes: None)
    trainer = make_trainer(make_model(), objectives(vocabulary, "clm"), vocabulary, 8)
    trainer.compiled = True
    trainer.warm_up()
    assert trainer.compiled is not broken
    assert next(trainer.run()).applied


def test_dropout_is_that_of_the_sample(make_model, vocabulary):
    """Whatever was drawn before: so a resumed step is the one that it would have been."""
    losses = []
    for seed in (1, 2):
        trainer = make_trainer(make_model(dropout=0.5), objectives(vocabulary, "clm"), vocabulary, 4)
        torch.manual_seed(seed)
        losses.append(next(trainer.run()).losses)
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", ["clm", "mlm"])
def test_what_is_computed_again_is_the_same(make_model, vocabulary, name):
    """Every bit of the gradient, with dropout, too."""
    found = []
    for again in (False, True):
        model = make_model(dropout=0.3)
        for block in model.blocks:
            block.recomputes = again
        found.append(gradients(make_trainer(model, objectives(vocabulary, name), vocabulary, 4)))
    (step, slopes), (other, others) = found
    assert step.losses == other.losses
    assert all(torch.equal(slope, others[key]) for key, slope in slopes.items())


def test_blocks_keep_less_when_they_compute_again(make_model, vocabulary):
    """Counted in tensors that the backward pass has kept."""
    kept = []
    for again in (False, True):
        model, saved = make_model(), []
        for block in model.blocks:
            block.recomputes = again
        trainer = make_trainer(model, objectives(vocabulary, "clm"), vocabulary, 8)
        with torch.autograd.graph.saved_tensors_hooks(lambda x, saved=saved: saved.append(x.numel()) or x, lambda x: x):
            trainer.learner(trainer.loader(1, 0.0)[0].batch)
        kept.append(sum(saved))
    assert kept[1] < kept[0] / 2

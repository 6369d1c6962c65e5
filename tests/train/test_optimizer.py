"""Groups of parameters, parity with torch.optim, and a state that goes to a file and back without a bit of change."""

import pytest
import torch

from lmx.objectives.clm import CLM
from lmx.optim.muon import orthogonal
from lmx.optim.optimizer import EPSILON, AdamW, Muon, split
from lmx.optim.schedule import WSD, Linear
from lmx.train import tensor_file
from lmx.train.learner import Learner
from tests.conftest import trunk

SHARED = {"lr": 0.01, "embedding_lr": 0.02, "betas": [0.9, 0.95], "weight_decay": 0.1}
KINDS = {"adamw": (AdamW, {}), "muon": (Muon, {"momentum": 0.9})}


def make(kind: str, module: torch.nn.Module, schedule=None):
    cls, more = KINDS[kind]
    return cls(module, schedule=schedule or WSD(warmup=0.0, decay=0.0), **SHARED, **more)


@pytest.fixture
def learner(make_model, vocabulary):
    def build(tied: bool) -> Learner:
        model = make_model(tied=tied)
        torch.manual_seed(1)
        return Learner(model, CLM(length=8, model=trunk(32, tied), vocabulary=vocabulary, z_loss=0.0))

    return build


def walk(optimizer, module: torch.nn.Module, steps: range) -> None:
    """Steps whose gradients follow from their number."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for parameter in module.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step(step / 20)


def weights(module: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_is_in_one_group_and_tables_are_no_matrices(learner, tied):
    module = learner(tied)
    matrices, others = split(module)
    assert len(matrices) + len(others) == len(list(module.parameters()))
    assert not {id(p) for p in matrices.values()} & {id(p) for p in others.values()}
    vocabulary = module.model.embedding.num_embeddings
    assert [name for name, p in matrices.items() if p.ndim != 2 or vocabulary in p.shape] == []
    tables = [name for name, p in others.items() if p.ndim == 2]
    assert len(tables) == (1 if tied else 2)
    assert {name for name, p in others.items() if p.ndim != 2} == {
        name for name, p in module.named_parameters() if p.ndim != 2
    }


@pytest.mark.parametrize("kind", KINDS)
def test_only_matrices_decay_and_each_group_has_its_rate(learner, kind):
    module = learner(True)
    optimizer = make(kind, module)
    matrices, others = split(module)
    found = {id(p): g for part in optimizer.parts for g in part.param_groups for p in g["params"]}
    assert {(found[id(p)]["lr"], found[id(p)]["weight_decay"]) for p in matrices.values()} == {(0.01, 0.1)}
    assert {(found[id(p)]["lr"], found[id(p)]["weight_decay"]) for p in others.values()} == {(0.02, 0.0)}


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_parameters_are_left_out(learner, kind):
    module = learner(True)
    module.model.embedding.weight.requires_grad_(False)
    held = {id(p) for part in make(kind, module).parts for g in part.param_groups for p in g["params"]}
    assert id(module.model.embedding.weight) not in held


@pytest.mark.parametrize("kind", KINDS)
def test_equals_torch(learner, kind):
    """Ours behind a schedule; torch.optim with the rates set by hand."""
    ours, theirs = learner(True), learner(True)
    optimizer = make(kind, ours, Linear(warmup=0.0))
    matrices, others = (list(group.values()) for group in split(theirs))
    adamw = {"betas": (0.9, 0.95), "eps": EPSILON}
    small = torch.optim.AdamW(others, lr=0.02, weight_decay=0.0, **adamw)
    if kind == "adamw":
        large = torch.optim.AdamW(matrices, lr=0.01, weight_decay=0.1, **adamw)
    else:
        large = torch.optim.Muon(matrices, lr=0.01, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(5):
        walk(optimizer, ours, range(step, step + 1))
        generator = torch.Generator().manual_seed(step)
        for parameter in theirs.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        for part, peak in ((large, 0.01), (small, 0.02)):
            part.param_groups[0]["lr"] = peak * (1 - step / 20)
            part.step()
    for a, b in zip(weights(ours), weights(theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)  # fused and for-loop AdamW round differently


def test_returns_the_rate_of_the_matrices(learner):
    module = learner(True)
    optimizer = make("muon", module, WSD(warmup=0.5, decay=0.5))
    assert optimizer.step(0.25) == pytest.approx(0.005)


@pytest.mark.parametrize("kind", KINDS)
def test_state_goes_to_a_file_and_back_exactly(learner, kind, tmp_path):
    straight, before, after = learner(False), learner(False), learner(False)
    walk(make(kind, straight), straight, range(8))
    optimizer = make(kind, before)
    walk(optimizer, before, range(4))
    tensor_file.write(tmp_path / "optim.safetensors", optimizer.state())
    after.load_state_dict(before.state_dict())
    resumed = make(kind, after)
    loaded = tensor_file.read((tmp_path / "optim.safetensors").read_bytes())
    resumed.load(loaded)
    assert resumed.state().keys() == optimizer.state().keys()
    assert all(torch.equal(resumed.state()[key], value) for key, value in optimizer.state().items())
    walk(resumed, after, range(4, 8))
    assert all(torch.equal(a, b) for a, b in zip(weights(straight), weights(after), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_forgotten_state_would_be_seen(learner, kind):
    """The control of the test above."""
    straight, after = learner(False), learner(False)
    walk(make(kind, straight), straight, range(8))
    walk(make(kind, after), after, range(4))
    walk(make(kind, after), after, range(4, 8))
    assert not all(torch.equal(a, b) for a, b in zip(weights(straight), weights(after), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_loaded_state_is_a_copy(learner, kind):
    module = learner(True)
    optimizer = make(kind, module)
    walk(optimizer, module, range(2))
    saved = {key: value.clone() for key, value in optimizer.state().items()}
    optimizer.load(saved)
    kept = {key: value.clone() for key, value in saved.items()}
    walk(optimizer, module, range(2, 4))
    assert all(torch.equal(saved[key], value) for key, value in kept.items())


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_of_another_model_is_refused(learner, make_model, kind):
    module = learner(True)
    optimizer = make(kind, module)
    walk(optimizer, module, range(1))
    with pytest.raises(KeyError):
        make(kind, make_model(depth=1)).load(optimizer.state())


@pytest.mark.parametrize("shape", [(6, 10), (10, 6), (8, 8)])
def test_sharded_matrices_are_made_orthogonal_as_whole_ones_are(shape):
    """Every bit of what torch.optim.Muon adds to a matrix of zeros."""
    weight = torch.nn.Parameter(torch.zeros(shape))
    weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    muon = torch.optim.Muon([weight], lr=1.0, momentum=0.0, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    group = muon.param_groups[0]
    update = orthogonal(weight.grad, group["ns_coefficients"], group["ns_steps"], group["eps"])
    muon.step()
    assert torch.equal(weight, torch.zeros(shape).add_(update, alpha=-0.2 * max(shape) ** 0.5))

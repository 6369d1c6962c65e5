"""trainer.parallel=fsdp: parameters, gradients and moments that ranks share train as whole ones do, and load on any number."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lmx.runs import Run
from lmx.train import checkpoint
from tests.dist.ranks import Ranks, alike, serving
from tests.faults import tiny

STEPS = 6
SETTINGS = [
    "objective=mlm", "trainer.batch_tokens=384", "trainer.micro_batch=2", "trainer.log_every=1", "eval.every=0.5",
    "trainer.checkpoint_every=2", "trainer.keep=9", f"budget.steps={STEPS}",
]  # fmt: skip
TOLERANCE = {"muon": 2e-3, "adamw": 1e-5}  # Muon multiplies in bf16: what differs by rounding soon differs by more
MORE = {
    "muon": ["trainer.recompute=true"],
    "adamw": ["objective=clm", "optim=adamw", "trainer.offload=true"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("runs")
    tiny.corpus(path / "text")
    return path


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Ranks]:
    with serving(folder) as started:
        yield started


def log(run: Run) -> str:
    return (run.path / "log.txt").read_text()


def loaded(run: Run, step: int) -> checkpoint.Loaded:
    found = checkpoint.load(run.path / "checkpoints", step)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def alone(server: Ranks, folder: Path) -> dict[str, Run]:
    """One process, whole parameters."""
    runs = {}
    for name, more in MORE.items():
        plain = [word for word in more if not word.startswith("trainer.")]
        runs[name] = tiny.new(folder, *SETTINGS, *plain)
        assert server.work(runs[name], 1) == [0], log(runs[name])
    return runs


@pytest.fixture(scope="module")
def pair(server: Ranks, folder: Path) -> dict[str, Run]:
    """Two processes that share the parameters."""
    runs = {}
    for name, more in MORE.items():
        runs[name] = tiny.new(folder, *SETTINGS, "trainer.parallel=fsdp", *more)
        assert server.work(runs[name], 2) == [0, 0], log(runs[name])
    return runs


@pytest.mark.parametrize("name", MORE)
def test_two_ranks_train_what_one_does(alone, pair, name):
    alike(alone[name], pair[name], TOLERANCE[name])
    assert pair["adamw"].lines("evals/samples.jsonl") == alone["adamw"].lines("evals/samples.jsonl")


@pytest.mark.parametrize("name", MORE)
def test_a_checkpoint_in_parts_is_a_checkpoint(alone, pair, name):
    """Its files together hold every tensor once, under the same names and in the same shapes."""
    parts = sorted(path.name for path in loaded(pair[name], 2).path.glob("*.safetensors"))
    assert parts == [f"{stem}-0000{number}-of-00002.safetensors" for stem in ("model", "optim") for number in (1, 2)]
    one, two = loaded(alone[name], 2).tensors, loaded(pair[name], 2).tensors
    for stem in ("model", "optim"):
        assert one[stem].keys() == two[stem].keys()
        for key, value in one[stem].items():
            torch.testing.assert_close(
                two[stem][key], value, rtol=1e-3, atol=1e-3, msg=lambda text, key=key: f"{key}: {text}"
            )
    size = sum((loaded(pair[name], 2).path / part).stat().st_size for part in parts if part.startswith("model"))
    assert size < 1.3 * (loaded(alone[name], 2).path / "model.safetensors").stat().st_size


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_saved_on_two_loads_on(server, folder, alone, ranks):
    run = tiny.new(folder, *SETTINGS, "trainer.parallel=fsdp", "objective=clm", "optim=adamw")
    assert server.work(run, 2, stop_after=3) == [0, 0], log(run)
    assert run.read_json("status.json")["state"] == "preempted"
    assert server.work(run, ranks) == [0] * ranks, log(run)
    alike(alone["adamw"], run, TOLERANCE["adamw"])


def test_what_is_loaded_is_what_was_saved(server, folder, pair):
    """Loaded on three ranks and saved at once, every bit of weights and moments is as two ranks left it."""
    run = tiny.new(folder, *SETTINGS, "trainer.parallel=fsdp")
    assert server.work(run, 2, stop_after=3) == [0, 0], log(run)
    before = loaded(run, 3).tensors
    assert server.work(run, 3, bug="resaves") == [0, 0, 0], log(run)
    after = loaded(run, 3)
    assert len(list(after.path.glob("model-*-of-00003.safetensors"))) == 3
    for stem in ("model", "optim"):
        assert before[stem].keys() == after.tensors[stem].keys()
        assert all(torch.equal(value, after.tensors[stem][key]) for key, value in before[stem].items())


def test_a_missing_part_is_damage(server, folder):
    run = tiny.new(folder, *SETTINGS, "trainer.parallel=fsdp")
    assert server.work(run, 2, stop_after=3) == [0, 0], log(run)
    next(run.path.glob("checkpoints/step-00000003/model-00002*")).unlink()
    found = checkpoint.load(run.path / "checkpoints")
    assert found is not None
    assert found.step == 2
    assert "model-00002-of-00002.safetensors" in found.damaged[0]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_rank_killed_while_saving_spoils_nothing(server, folder, lost):
    """At the moment between the files of the second checkpoint and its name."""
    run = tiny.new(folder, *SETTINGS, "trainer.parallel=fsdp")
    codes = server.work(run, 2, bug=f"killed{lost}")
    assert codes[lost] == -signal.SIGKILL
    assert checkpoint.steps(run.path / "checkpoints") == [2]
    assert loaded(run, 2).step == 2
    assert server.work(run, 2) == [0, 0], log(run)
    assert not [name for name in os.listdir(run.path / "checkpoints") if name.startswith(".")]


def test_an_error_of_one_rank_is_one_of_all(server, folder):
    run = tiny.new(folder, *SETTINGS, "trainer.parallel=fsdp")
    assert server.work(run, 2, bug="full") == [0, 0]
    status = run.read_json("status.json")
    assert (status["state"], status["exit_code"]) == ("failed", 5)
    assert "the disk is full: the checkpoint of step 2 needs" in status["reason"]
    assert not [name for name in os.listdir(run.path / "checkpoints") if name.startswith(".")]

"""How a run begins: from nothing, from another run's weights, as a branch, after damage, and under other conditions."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lmx.cli.launching import branched
from lmx.errors import LmxError
from lmx.runs import Run
from lmx.train import checkpoint
from tests.faults import tiny
from tests.faults.tiny import Server, left


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("runs")
    tiny.corpus(path / "text")
    return path


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with tiny.serving(folder) as started:
        yield started


@pytest.fixture(scope="module")
def source(server, folder) -> Run:
    """40 steps, decay from step 28, and every checkpoint: those of each fifth step, and of step 28."""
    run = tiny.new(folder, "trainer.keep=9")
    assert server.work(run) == 0
    return run


def weights(run: Run, step: int | None = None) -> dict[str, torch.Tensor]:
    loaded = checkpoint.load(run.path / "checkpoints", step)
    assert loaded is not None
    return loaded.tensors["model"]


def log(run: Run) -> str:
    return (run.path / "log.txt").read_text()


def first(run: Run) -> dict:
    return run.lines("evals/validation.jsonl")[0]


@pytest.mark.parametrize("step", [None, 10])
def test_init_from_takes_the_weights_alone(server, folder, source, step):
    """At a rate of next to nothing the first evaluation is the source's; the ledger begins at zero."""
    place = source.name + (f"@{step}" if step else "")
    more = ["optim.lr=1e-12", "optim.embedding_lr=1e-12", "budget.steps=2", "eval.every=0.5"]
    run = tiny.new(folder, f"init_from={place}", *more)
    assert server.work(run) == 0, log(run)
    expected = weights(source, step)
    assert all(torch.allclose(value, expected[key], atol=1e-9) for key, value in weights(run).items() if value.ndim)
    assert first(run)["step"] == 1
    assert first(run)["tokens"] == 256
    assert f"weights of {source.name} at step {step or tiny.STEPS}" in log(run)
    assert run.read_json("status.json")["note"]


def test_init_from_another_objective(server, folder, source):
    run = tiny.new(folder, f"init_from={source.name}", "objective=mlm", "budget.steps=2")
    assert server.work(run) == 0, log(run)
    assert "the others start anew" in log(run)


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ("init_from={name}@7", 4, "the step must be one of 5, 10, 15"),
        ("init_from={name}@x", 2, "init_from must be RUN or RUN@STEP"),
        ("init_from=nobody", 2, "RUN must be one of the runs"),
        ("init_from={name} model.width=64", 2, "init_from must name a run with the same model"),
        ("init_from={name} tokenizer=bpe tokenizer.size=512", 2, "init_from must name a run with the same"),
    ],
)
def test_init_from_says_what_does_not_fit(server, folder, source, change, code, said):
    run = tiny.new(folder, *change.format(name=source.name).split())
    assert server.work(run) == code, log(run)
    assert said in run.status()["reason"]
    assert "\n" not in run.status()["reason"]


def branch(source: Run, step: int, steps: int) -> Run:
    return branched(f"{source.path}@{step}", [f"budget.steps={steps}"])


def test_a_branch_goes_on_with_everything(server, source):
    """It equals the source wherever both rates are at their peak, though its budget is another."""
    run = branch(source, 10, 60)
    assert server.work(run) == 0, log(run)
    old = {line["step"]: line for line in source.lines("metrics.jsonl")}
    new = {line["step"]: line for line in run.lines("metrics.jsonl")}
    assert min(new) == 12
    assert max(new) == 60
    shared = ("loss", "grad_norm", "lr", "tokens", "positions", "targets", "flops", "epoch", "unique_tokens")
    stable = [step for step in new if step <= 28]
    assert len(stable) == 6
    assert all(new[step][key] == old[step][key] for step in stable for key in shared)
    assert new[36]["lr"] > old[36]["lr"]
    assert run.lines("metrics.jsonl")[-1]["lr"] == pytest.approx(0.01 * 0.5 / 60 / 0.3)


def test_a_branch_is_what_continuing_by_hand_gives(server, folder, source):
    """A checkpoint of the source put into a run of the new budget and resumed: the same bits."""
    run, by_hand = branch(source, 10, 20), tiny.new(folder, "trainer.keep=9", "budget.steps=20")
    there = source.path / "checkpoints/step-00000010"
    target = by_hand.path / "checkpoints" / there.name
    target.mkdir()
    for file in there.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    for each in (run, by_hand):
        assert server.work(each) == 0, log(each)
    a, b = left(run, 20), left(by_hand, 20)
    assert tiny.differences(a, b) == []


def test_a_branch_resumes(server, source):
    straight, run = branch(source, 10, 30), branch(source, 10, 30)
    assert server.work(straight) == 0
    assert server.work(run, kill_at=23) == -9
    assert server.work(run) == 0
    assert tiny.differences(left(straight, 30), left(run, 30)) == []


@pytest.mark.parametrize(
    ("step", "steps", "said"),
    [
        (35, 80, "--branch must leave .* before its decay at 70% of the budget, got step 35 at 88%"),
        (20, 22, "budget must put step 20 between warm-up and decay, got 91% of it. Type a larger budget"),
        (20, 15, "budget must put step 20 between warm-up and decay, got 100% of it. Type a larger budget"),
        (5, 4000, "budget must put step 5 between warm-up and decay, got 0% of it. Type a smaller budget"),
    ],
)
def test_branches_whose_rate_would_jump_are_refused(server, source, step, steps, said):
    run = branch(source, step, steps)
    assert server.work(run) == 2
    with pytest.raises(LmxError, match=said):
        raise LmxError(run.status()["reason"])
    assert checkpoint.steps(run.path / "checkpoints") == []


def test_no_branch_of_a_schedule_that_always_falls(server, folder):
    run = tiny.new(folder, "optim/schedule=cosine", "budget.steps=10")
    assert server.work(run) == 0
    other = branch(run, 5, 20)
    assert server.work(other) == 2
    assert "must leave a run with optim/schedule=wsd" in other.status()["reason"]


def interrupted(server: Server, folder: Path, *more: str) -> Run:
    run = tiny.new(folder, *more)
    assert server.work(run, kill_at=13) == -9
    assert checkpoint.steps(run.path / "checkpoints") == [5, 10]
    return run


def test_a_damaged_checkpoint_is_passed_over(server, folder, source):
    run = interrupted(server, folder)
    file = run.path / "checkpoints/step-00000010/model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert server.work(run) == 0
    assert "the checkpoint of step 10 cannot be used" in log(run)
    assert run.read_json("status.json")["note"]
    assert tiny.differences(left(source), left(run)) == []


def test_no_sound_checkpoint_is_an_error(server, folder):
    run = interrupted(server, folder)
    for file in run.path.glob("checkpoints/*/optim.safetensors"):
        file.write_bytes(file.read_bytes()[:-1])
    assert server.work(run) == 4
    assert "no usable checkpoint" in run.status()["reason"]


def test_changed_data_are_an_error(server, folder, tmp_path):
    text = tiny.corpus(tmp_path / "text")
    run = interrupted(server, folder, f"data.path={text}")
    tiny.corpus(text, seed=1)
    assert server.work(run) == 4
    assert "the data changed" in run.status()["reason"]
    tiny.corpus(text)
    assert server.work(run) == 0


def test_other_threads_are_noted(server, folder):
    run = interrupted(server, folder)
    worker = tiny.start(run, OMP_NUM_THREADS="2")
    assert worker.wait(60) == 0
    assert run.status()["exact"] is False
    assert "threads 1 -> 2" in run.status()["note"]
    again = interrupted(server, folder)
    assert server.work(again) == 0
    assert again.status()["exact"] is True


def test_seconds_become_steps_once_and_stay(server, folder):
    """A budget of time is frozen into steps; a resumed run has the same number of them."""
    run = tiny.new(folder, "budget.seconds=2.5", "trainer.log_every=1")
    assert server.work(run, kill_at=26) == -9
    frozen = frozen_steps(run)
    assert frozen > 26
    assert server.work(run) == 0
    assert frozen_steps(run) == frozen
    assert [line["step"] for line in run.lines("metrics.jsonl")] == list(range(1, frozen + 1))
    progress = [line["progress"] for line in run.lines("metrics.jsonl")]
    assert progress == sorted(progress)


def frozen_steps(run: Run) -> int:
    step = checkpoint.steps(run.path / "checkpoints")[-1]
    manifest = run.path / f"checkpoints/step-{step:08d}/manifest.json"
    return json.loads(manifest.read_text())["state"]["frozen_steps"]


def test_a_finished_run_stays_as_it_is(server, folder, source):
    before = left(source)
    assert server.work(source) == 0
    assert tiny.differences(before, left(source)) == []

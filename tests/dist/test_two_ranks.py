"""Two processes on one machine train what one does, stop together, and leave one exit code."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lmx.errors import INTERNAL, PREEMPTED
from lmx.runs import Run, find
from lmx.train import checkpoint
from tests.dist.ranks import alike
from tests.faults import tiny
from tests.faults.tiny import until

LIMIT = 120  # seconds


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("runs")
    tiny.corpus(path / "text")
    return path


def start(folder: Path, processes: int, *more: str) -> tuple[subprocess.Popen[str], Run]:
    """`lmx train` with MLM, whose ranks count different numbers of targets. Dropout is drawn for a micro-batch."""
    settings = [
        "objective=mlm",
        "trainer.micro_batch=4",
        f"launcher.processes={processes}",
        "launcher.threads=1",
        *more,
    ]
    return launch(folder, *tiny.overrides(folder, *settings))


def launch(folder: Path, *words: str) -> tuple[subprocess.Popen[str], Run]:
    before = {run.name for run in find(folder / "runs")}
    launcher = subprocess.Popen(
        [sys.executable, "-m", "lmx", "train", *words],
        env=tiny.environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tiny.ROOT,
        start_new_session=True,
    )
    if "--resume" in words or "--join" in words:
        return launcher, Run.open(words[-1])
    until(lambda: {run.name for run in find(folder / "runs")} - before)
    return launcher, next(run for run in find(folder / "runs") if run.name not in before)


def trained(run: Run, step: int):
    return lambda: run.read_json("status.json").get("step", 0) >= step


def ranks(run: Run) -> list[int]:
    """Process ids of the run's workers, torchrun not among them."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"lmx.worker" in words and str(run.path).encode() in words and b"torch.distributed.run" not in words:
            found.append(int(entry.name))
    return found


@pytest.fixture(scope="module")
def alone(folder) -> Run:
    launcher, run = start(folder, 1)
    text, _ = launcher.communicate(timeout=LIMIT)
    assert launcher.returncode == 0, text
    return run


def test_two_ranks_equal_one(folder, alone):
    launcher, run = start(folder, 2)
    text, _ = launcher.communicate(timeout=LIMIT)
    assert launcher.returncode == 0, text
    assert run.status()["state"] == "done"
    assert "Traceback" not in (run.path / "log.txt").read_text()
    assert ranks(run) == []
    alike(run, alone)


def test_they_stop_at_the_same_step_and_go_on(folder, alone):
    launcher, run = start(folder, 2)
    until(trained(run, 3), LIMIT)  # the first line of metrics: two ranks and torchrun take a while to hear
    launcher.send_signal(signal.SIGTERM)
    text, _ = launcher.communicate(timeout=LIMIT)
    assert launcher.returncode == PREEMPTED, text
    assert run.status()["state"] == "preempted"
    assert "lmx/worker.py" not in (run.path / "log.txt").read_text()  # torchrun's own traceback is no news
    assert 3 <= checkpoint.steps(run.path / "checkpoints")[-1] < tiny.STEPS
    launcher, _ = launch(folder, "--resume", str(run.path))
    text, _ = launcher.communicate(timeout=LIMIT)
    assert launcher.returncode == 0, text
    assert run.status()["exact"] is True
    alike(run, alone)


def test_a_killed_launcher_leaves_no_orphan(folder):
    launcher, run = start(folder, 2, "budget.steps=100000")
    until(trained(run, 3), LIMIT)
    launcher.kill()
    launcher.communicate(timeout=LIMIT)
    until(lambda: not ranks(run) and not run.alive(), 30)
    assert run.status()["state"] == "preempted", (run.status(), (run.path / "log.txt").read_text())
    assert checkpoint.load(run.path / "checkpoints").step >= 3


def other(run: Run) -> int:
    """The process id of rank 1."""
    pid = run.read_json("status.json")["pid"]
    return next(number for number in ranks(run) if number != pid)


def test_a_killed_rank_ends_the_run(folder):
    launcher, run = start(folder, 2, "budget.steps=100000")
    until(trained(run, 6), LIMIT)
    pid = other(run)
    os.kill(pid, signal.SIGKILL)
    launcher.communicate(timeout=LIMIT)
    assert launcher.returncode == INTERNAL
    assert run.status()["state"] == "failed"
    assert f"rank 1 (process {pid}) has ended without a word, after step " in run.status()["reason"]
    until(lambda: not ranks(run), 10)


def test_no_rank_outlives_torchrun(folder):
    launcher, run = start(folder, 2, "budget.steps=100000")
    until(trained(run, 6), LIMIT)
    workers = ranks(run)
    assert len(workers) == 2
    parents = {int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in workers}
    assert len(parents) == 1
    os.kill(parents.pop(), signal.SIGKILL)
    until(lambda: not ranks(run), 5)
    launcher.communicate(timeout=LIMIT)
    assert launcher.returncode == 137
    assert run.status()["state"] == "killed"


def test_one_line_for_both(folder):
    """Both ranks find that nothing is finite; the user reads it once, as exit code 6."""
    wild = ["optim.lr=1e30", "optim.embedding_lr=1e30", "trainer.skip_limit=2"]
    launcher, run = start(folder, 2, *wild)
    launcher.communicate(timeout=LIMIT)
    assert launcher.returncode == 6
    assert (run.status()["state"], run.status()["exit_code"]) == ("failed", 6)
    assert "is not finite" in run.status()["reason"]


def test_torchrun_begins_again_after_a_failure(folder, alone):
    """From the newest checkpoint: a run that lost a rank ends like one that did not."""
    launcher, run = start(folder, 2, "launcher.restarts=1")
    until(trained(run, 6), LIMIT)
    os.kill(other(run), signal.SIGKILL)
    text, _ = launcher.communicate(timeout=LIMIT)
    assert launcher.returncode == 0, text
    assert run.status()["state"] == "done"
    assert run.status()["note"] == "begun again after a failure, time 1"
    alike(run, alone)

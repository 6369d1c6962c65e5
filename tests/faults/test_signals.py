"""Signals at every phase of a run: it saves, says who asked with its exit code, and goes on later as if nothing had been."""

import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmx.errors import INTERRUPTED, PREEMPTED
from lmx.runs import Run, find
from lmx.train import checkpoint
from tests.faults import tiny
from tests.faults.tiny import Server, left, until

SIGNALS = [(signal.SIGTERM, PREEMPTED), (signal.SIGUSR1, PREEMPTED), (signal.SIGINT, INTERRUPTED)]


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
def reference(server: Server, folder: Path) -> dict:
    run = tiny.new(folder)
    assert server.work(run) == 0
    return left(run)


def trained(run: Run, step: int):
    return lambda: run.read_json("status.json").get("step", 0) >= step


def goes_on(server: Server, run: Run, reference: dict) -> None:
    assert server.work(run) == 0
    assert run.status()["state"] == "done"
    assert tiny.differences(reference, left(run)) == []


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_the_step_is_finished_and_saved(server, folder, reference, number, code):
    run = tiny.new(folder)
    pid = server.start(run)
    until(trained(run, 6))
    os.kill(pid, number)
    assert server.wait() == code
    status, saved = run.status(), checkpoint.steps(run.path / "checkpoints")[-1]
    assert (status["state"], status["exit_code"]) == ("preempted", code)
    assert ("interrupted" if code == INTERRUPTED else "preempted") in status["reason"]
    assert 6 <= saved < tiny.STEPS
    assert all(line["step"] <= saved for line in run.lines("metrics.jsonl"))
    goes_on(server, run, reference)


@pytest.mark.parametrize("phase", ["reading data", "reading validation", "warming up", "evaluating", "saving"])
def test_in_every_phase(server, folder, reference, phase):
    """The worker itself sends the signal, so that it falls into the phase and not beside it."""
    run = tiny.new(folder)
    assert server.work(run, at=phase, signals=[signal.SIGTERM]) == PREEMPTED
    saved = checkpoint.steps(run.path / "checkpoints")
    assert saved == {"warming up": [0], "evaluating": [4], "saving": [5]}.get(phase, [])
    goes_on(server, run, reference)


def test_again_and_again_at_random_moments(server, folder, reference):
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    numbers, run = random.Random(seed), tiny.new(folder)
    for _ in range(4):
        pid = server.start(run)
        until(lambda: run.read_json("status.json").get("state") == "running")
        step = run.read_json("status.json").get("step", 0) + numbers.randint(0, 12)
        until(lambda step=step: trained(run, step)() or run.read_json("status.json")["state"] == "done")
        for _ in range(numbers.randint(1, 3)):
            os.kill(pid, signal.SIGTERM)  # a second one does no harm
        if server.wait() == 0:
            break
    goes_on(server, run, reference)


def test_a_second_interrupt_leaves_at_once_and_loses_little(server, folder, reference):
    run = tiny.new(folder)
    assert server.work(run, at="evaluating", nth=2, signals=[signal.SIGINT] * 2) == INTERRUPTED
    assert run.status()["state"] == "killed"
    assert checkpoint.steps(run.path / "checkpoints")[-1] == 5
    goes_on(server, run, reference)


def test_a_second_interrupt_waits_for_a_commit(server, folder, reference):
    run = tiny.new(folder)
    assert server.work(run, at="commit", signals=[signal.SIGINT] * 3) == INTERRUPTED
    assert run.status()["state"] == "preempted"
    assert checkpoint.steps(run.path / "checkpoints") == [5]
    goes_on(server, run, reference)


def test_not_finite_stops_with_one_line(server, folder):
    run = tiny.new(folder, "optim.lr=1e30", "optim.embedding_lr=1e30", "trainer.skip_limit=2")
    assert server.work(run) == 6
    status = run.status()
    assert (status["state"], status["exit_code"]) == ("failed", 6)
    said = r"step \d+: (term loss|the gradient \(norm nan\)) is not finite, 3 steps in a row \(samples \d+-\d+\).*"
    assert re.fullmatch(said, status["reason"])
    assert "Traceback" not in (run.path / "log.txt").read_text()


def lmx(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lmx", "train", *words],
        env=tiny.environment(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tiny.ROOT,
        start_new_session=True,
    )  # fmt: skip


def launched(folder: Path, *words: str) -> tuple[subprocess.Popen[str], Run]:
    before = {run.name for run in find(folder / "runs")}
    launcher = lmx(folder, *tiny.overrides(folder, *words))
    new = lambda: [run for run in find(folder / "runs") if run.name not in before]  # noqa: E731
    until(new)
    return launcher, new()[0]


def test_a_launcher_tells_how_its_worker_ended(server, folder, reference):
    """Killed worker, second starter, signal to the launcher, and an end: one run."""
    launcher, run = launched(folder)
    until(trained(run, 6))
    os.kill(run.read_json("status.json")["pid"], signal.SIGKILL)
    launcher.communicate(timeout=30)
    assert launcher.returncode == 137
    assert (run.status()["state"], run.status()["exit_code"]) == ("killed", 137)
    launcher = lmx(folder, "--resume", str(run.path))
    until(lambda: run.read_json("status.json")["state"] == "running")
    second = lmx(folder, "--resume", str(run.path))
    text, _ = second.communicate(timeout=30)
    assert second.returncode == 7, text
    launcher.send_signal(signal.SIGTERM)
    launcher.communicate(timeout=30)
    assert launcher.returncode == PREEMPTED
    goes_on(server, run, reference)


def test_a_signal_before_the_worker_listens(server, folder, reference):
    launcher, run = launched(folder)
    until(lambda: (run.path / "log.txt").exists())
    launcher.send_signal(signal.SIGINT)
    launcher.communicate(timeout=30)
    assert launcher.returncode == INTERRUPTED
    assert run.status()["state"] == "preempted"
    goes_on(server, run, reference)


def test_a_killed_launcher_leaves_no_worker(server, folder, reference):
    launcher, run = launched(folder, "budget.steps=4000")
    until(trained(run, 6))
    launcher.kill()
    launcher.communicate(timeout=30)
    until(lambda: not run.alive(), 10)
    assert run.status()["state"] == "preempted"
    saved = checkpoint.load(run.path / "checkpoints")
    assert saved is not None
    assert saved.step >= 6

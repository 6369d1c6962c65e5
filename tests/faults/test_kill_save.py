"""kill -9 at random moments of saving: what was acknowledged is there, and whatever is there is whole."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from lmx.train import checkpoint
from tests.faults.fork_server import NUMBERS, naive
from tests.faults.saves import equal

Server = subprocess.Popen[str]
ROOT = Path(__file__).parents[2]
KILLS = 100


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    command = [sys.executable, "-m", "tests.faults.fork_server"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin
        process.stdin.close()


def kill_one(server: Server, saver: str, folder: Path, first: int, moment: float) -> list[int]:
    """Kill a process that saves steps from `first` on after `moment` seconds; -> what it acknowledged."""
    assert server.stdin
    assert server.stdout
    server.stdin.write(f"{saver} {folder} {first}\n")
    server.stdin.flush()
    lines = iter(server.stdout.readline, "gone\n")
    heard = [next(lines)]
    while not heard[-1].startswith("pid"):  # its first words may come before its parent's
        heard.append(next(lines))
    time.sleep(moment)
    os.kill(int(heard[-1].split()[1]), signal.SIGKILL)
    return [int(line.split()[1]) for line in [*heard, *lines] if line.startswith("saved")]


@pytest.fixture(params=["disk", "memory"])
def folder(request, tmp_path: Path) -> Iterator[Path]:
    """Two file systems, since they differ in when things happen."""
    if request.param == "disk":
        yield tmp_path / "checkpoints"
        return
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("no /dev/shm to write to")
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="lmx-test-") as place:
        yield Path(place) / "checkpoints"


def test_kill_while_saving(server, folder):
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    numbers, last, interrupted = random.Random(seed), 0, 0
    for _ in range(KILLS // 2):
        acknowledged = kill_one(server, "lmx", folder, last + 1, numbers.uniform(0, 0.1))
        interrupted += bool(list(folder.glob(".*")))
        there = checkpoint.steps(folder)
        assert all(equal(checkpoint.load(folder, step), step, NUMBERS) for step in there)
        assert max(there, default=0) >= max([last, *acknowledged])
        last = max(there, default=0)
    print(f"{KILLS // 2} kills, {interrupted} of them within a save, {last} steps")
    assert interrupted


def test_the_same_kills_break_a_naive_saver(server, tmp_path):
    """The control: kills that hurt nobody would prove nothing."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    numbers, folder = random.Random(seed), tmp_path / "checkpoints"
    naive(folder, 1)
    for kill in range(KILLS):
        kill_one(server, "naive", folder, 2, numbers.uniform(0, 0.1))
        if not one_step(folder):
            print(f"broken by kill {kill + 1}")
            return
    pytest.fail(f"{KILLS} kills did not hurt it")


def one_step(folder: Path) -> bool:
    """Whether both files can be read and are of the same step."""
    try:
        model, optim = (load_file(folder / f"{name}.safetensors") for name in ("model", "optim"))
    except (SafetensorError, OSError):
        return False
    return torch.equal(model["weight"], -optim["weight/exp_avg"])

"""More of what a launcher and torchrun do with two processes; the rest is in tests/dist/test_two_ranks.py."""

import os
import signal
import socket
from pathlib import Path

import pytest

from lmx.errors import INTERNAL, INTERRUPTED, PREEMPTED
from lmx.train import checkpoint
from tests import results
from tests.dist.ranks import alike
from tests.dist.test_two_ranks import LIMIT, launch, other, ranks, start, trained
from tests.faults import tiny
from tests.faults.tiny import until


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("runs")
    tiny.corpus(path / "text")
    return path


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, INTERRUPTED), (signal.SIGUSR1, PREEMPTED)])
def test_every_signal_reaches_all(folder, number, code):
    launcher, run = start(folder, 2, "budget.steps=100000")
    until(trained(run, 3), LIMIT)
    launcher.send_signal(number)
    launcher.communicate(timeout=LIMIT)
    assert launcher.returncode == code
    status = run.status()
    assert (status["state"], status["exit_code"]) == ("preempted", code)
    assert checkpoint.steps(run.path / "checkpoints")[-1] >= 3
    assert ranks(run) == []


def test_a_signal_to_one_rank_stops_all(folder):
    """And it is no failure: torchrun does not begin again."""
    launcher, run = start(folder, 2, "budget.steps=100000", "launcher.restarts=3")
    until(trained(run, 3), LIMIT)
    os.kill(other(run), signal.SIGTERM)
    launcher.communicate(timeout=LIMIT)
    assert launcher.returncode == PREEMPTED
    assert run.status()["state"] == "preempted"
    assert run.status()["note"] is None


def test_a_stopped_rank_ends_the_run(folder):
    launcher, run = start(folder, 2, "budget.steps=100000", "launcher.rank_timeout=4")
    until(trained(run, 6), LIMIT)
    os.kill(other(run), signal.SIGSTOP)
    launcher.communicate(timeout=LIMIT)
    assert launcher.returncode == INTERNAL
    assert "is stopped, for 4 s, after step " in run.status()["reason"]
    until(lambda: not ranks(run), 10)


def test_two_machines_meet(folder):
    """On loopback: a launcher each, one run."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    nodes = ["launcher=nodes", "launcher.nodes=2", f"launcher.rendezvous=127.0.0.1:{port}"]
    single, alone = start(folder, 1)
    single.communicate(timeout=LIMIT)
    launcher, run = start(folder, 1, *nodes)
    second, _ = launch(folder, "--join", str(run.path))
    for each in (launcher, second):
        text, _ = each.communicate(timeout=LIMIT)
        assert each.returncode == 0, text
    assert run.read_json("environment.json")["processes"] == 2
    alike(run, alone)
    results.write(
        "nodes", nodes=2, processes=2, steps=tiny.STEPS, like_one_process="metrics and validation to rounding"
    )

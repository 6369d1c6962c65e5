"""A sweep on a real SLURM, as an array: one job is requeued in the middle, and resumes to the same bits."""

import json
import subprocess
import sys
import time

import pytest

from lmx.launch.slurm import Slurm
from lmx.runs import Run, find
from tests import results
from tests.faults.tiny import ROOT, corpus, differences, environment, left, new, overrides, start
from tests.full.slurm.cluster import cluster, missing

COMMAND = "import sys; sys.argv[0] = 'lmx'; from lmx.cli import main; main()"
STEPS = 300
pytestmark = [pytest.mark.skipif(bool(missing()), reason=missing()), pytest.mark.timeout(3600)]


def until(what, patience: float = 1500.0):
    end = time.monotonic() + patience
    while not (found := what()):
        assert time.monotonic() < end, what
        time.sleep(0.2)
    return found


def slurm(env: dict[str, str], *command: str) -> str:
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


def test_a_sweep_as_an_array_with_a_requeued_job(tmp_path):
    corpus(tmp_path / "text")
    typed = overrides(tmp_path, "objective=mlm", f"budget.steps={STEPS}", "trainer.log_every=1", "seed=0")
    arguments = [
        "sweep", *typed, "objective.rate=0.15,0.3", "launcher=slurm", "launcher.partition=main", "launcher.cpus=1",
        "launcher.threads=1", "launcher.minutes=30", "--name", "array", "--eval", "minimal_pairs minimal_pairs.pairs=2", "--json",
    ]  # fmt: skip
    with cluster(tmp_path / "cluster") as env:
        env = environment(tmp_path) | env | {"PYTHONPATH": str(ROOT)}
        sweep = subprocess.Popen(
            [sys.executable, "-P", "-c", COMMAND, *arguments], env=env, cwd=ROOT, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        first = until(lambda: next((run for run in find(tmp_path / "runs") if rate(run) == 0.15), None))
        until(lambda: len(first.lines("metrics.jsonl")) > 20 or sweep.poll() is not None)
        jobs = slurm(env, "squeue", "-h", "-r", "-o", "%F_%K %T").split("\n")
        (task,) = {line.split()[0] for line in jobs if line.split()[:1] and line.split()[0].endswith("_0")}
        slurm(env, "scontrol", "requeue", task)
        until(lambda: first.read_json("status.json")["state"] == "preempted")
        at = left_at(first)
        assert 0 < at < STEPS
        told, said = sweep.communicate(timeout=3000)
        version = slurm(env, "sinfo", "--version").strip()
    assert sweep.returncode == 0, said
    assert len(json.loads(told)["arms"]) == 2
    runs = find(tmp_path / "runs")
    assert len(runs) == 2
    assert all(run.status()["state"] == "done" for run in runs)

    alike = ["objective=mlm", f"budget.steps={STEPS}", "trainer.log_every=1", "seed=0", "objective.rate=0.15"]
    twin = new(tmp_path / "twin", *alike, f"data.path={tmp_path / 'text'}", "launcher.threads=1")
    assert start(twin).wait() == 0
    assert differences(left(first, STEPS), left(twin, STEPS)) == []
    results.write("slurm", slurm=version, jobs=2, requeued=1, saved_at_step=at, steps=STEPS, resumed="the same bits")


def rate(run: Run) -> float:
    return run.config()["objective"]["rate"]


def left_at(run: Run) -> int:
    names = [path.name for path in (run.path / "checkpoints").glob("step-*")]
    return max(int(name.removeprefix("step-")) for name in names)


def test_what_is_asked_of_slurm():
    knobs = {
        "workers": 3,
        "processes": 1,
        "threads": None,
        "grace": 90,
        "rank_timeout": 600,
        "restarts": 0,
        "partition": "gpu",
        "account": None,
        "minutes": 10,
    }
    found = Slurm(**knobs, requeues=2, cpus=4, gpus=1, memory_gb=1.5, options={"qos": "long"}).parameters
    assert found == {
        "partition": "gpu", "time": 10, "cpus_per_task": 4, "gpus_per_node": 1, "mem": "1536MB", "array_parallelism": 3,
        "signal_delay_s": 90, "additional_parameters": {"qos": "long"},
    }  # fmt: skip

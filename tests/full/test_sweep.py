"""Twelve arms of which six cannot finish: the others do, reasons are told, and the same command makes exactly what is missing."""

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from lmx.runs import Run, find
from tests import results
from tests.faults.tiny import OVERRIDES, ROOT, corpus, environment

COMMAND = "import sys; sys.argv[0] = 'lmx'; from lmx.cli import main; main()"
CODE = '''"""CLM that ends badly in its third step, in some cases, where LMX_FAULTS is set."""

import ctypes
import os
import signal
import time
from typing import Annotated

import torch
from annotated_types import Ge, Interval

from lmx.objectives.clm import CLM


class Faulty(CLM):
    def __init__(
        self, *, length, model, vocabulary, z_loss: Annotated[float, Ge(0)], case: Annotated[int, Interval(ge=0, le=10)]
    ):
        super().__init__(length=length, model=model, vocabulary=vocabulary, z_loss=z_loss)
        self.case, self.calls = case, 0

    def forward(self, model, batch):
        self.calls += self.training
        if self.calls > 2 and "LMX_FAULTS" in os.environ:
            fault(self.case)
        return super().forward(model, batch)


def fault(case):
    if case == 6:
        raise ValueError("a bug of an objective")
    if case == 7:
        torch.zeros(2**50)
    if case == 8:
        ctypes.string_at(0)
    if case == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    if case == 10:
        time.sleep(10_000)
'''
YAML = "# CLM that ends badly in some cases.\n_target_: faulty.faulty.Faulty\nz_loss: 0.0\ncase: 0\n"
REASONS = {
    "case=6": "ValueError: a bug of an objective",
    "case=7": "can't allocate memory",
    "case=8": "ended by SIGSEGV",
    "case=9": "ended by SIGKILL",
    "case=10": "no sign of life",
    "case=11": "objective.case must lie in [0, 10], got 11.",
}
PATIENCE = int(os.environ.get("LMX_PATIENCE", "60"))  # seconds; a machine that is busy needs more to import torch


def sweep(folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    arguments = [
        "sweep", "--plugin", "faulty", "objective=faulty", "objective.case=range(0,12)", *OVERRIDES, "budget.steps=6",
        f"data.path={folder / 'text'}", "launcher=pool", "launcher.workers=3", "launcher.threads=1", "--name", "faults",
        "--eval", "minimal_pairs minimal_pairs.pairs=2", "--timeout", str(PATIENCE), "--json",
    ]  # fmt: skip
    paths = {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    return subprocess.run(
        [sys.executable, "-P", "-c", COMMAND, *arguments], env=environment(folder, **paths, **more), cwd=folder,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip


def contents(run: Run) -> dict[str, str]:
    files = sorted(path for path in run.path.rglob("*") if path.is_file())
    return {str(path.relative_to(run.path)): sha256(path.read_bytes()).hexdigest() for path in files}


def case(run: Run) -> int:
    return run.config()["objective"]["case"]


@pytest.mark.timeout(1800)
def test_twelve_arms(tmp_path):
    corpus(tmp_path / "text")
    (tmp_path / "faulty" / "conf" / "objective").mkdir(parents=True)
    (tmp_path / "faulty" / "faulty.py").write_text(CODE)
    (tmp_path / "faulty" / "conf" / "objective" / "faulty.yaml").write_text(YAML)
    told = sweep(tmp_path, LMX_FAULTS="1")
    assert told.returncode == 8, told.stderr
    table = json.loads(told.stdout)
    assert [arm["name"] for arm in table["arms"]] == [f"faulty case={number}" for number in range(6)]
    failed = {name.removeprefix("faulty ").removesuffix(" seed 0"): reason for name, reason in table["failed"].items()}
    assert failed.keys() == REASONS.keys()
    assert all(REASONS[name] in reason for name, reason in failed.items()), failed
    runs = find(tmp_path / "runs")
    assert sorted(map(case, runs)) == list(range(11))
    states = {case(run): run.status()["state"] for run in runs}
    assert states == dict.fromkeys(range(6), "done") | {
        6: "failed",
        7: "failed",
        8: "killed",
        9: "killed",
        10: "failed",
    }
    finished = {run.name: contents(run) for run in runs if case(run) < 6}

    again = sweep(tmp_path)
    assert again.returncode == 8, "that one config still cannot be"
    assert list(json.loads(again.stdout)["failed"]) == ["faulty case=11"]
    assert {run.name for run in find(tmp_path / "runs")} == {run.name for run in runs}, "each goes on in its directory"
    assert all(run.status()["state"] == "done" for run in runs)
    assert {run.name: contents(run) for run in runs if case(run) < 6} == finished
    lines = [line for line in again.stderr.splitlines() if "done" in line]
    assert len(lines) == 5, "exactly those that were missing"
    results.write("failures", arms=12, finished=6, failed=failed, made_by_the_rerun=len(lines), unchanged=len(finished))

"""A sweep on Ray, on this machine: told to stop in the middle, it saves, and the same command goes on to the same bits."""

import json
import signal
import subprocess
import sys
from importlib.metadata import version

import pytest

from lmx.errors import INTERRUPTED
from lmx.runs import Run, find
from tests import results
from tests.faults.tiny import ROOT, corpus, differences, environment, left, new, overrides, start, until

pytest.importorskip("ray", reason="Ray is not installed: pip install ray")
COMMAND = "import sys; sys.argv[0] = 'lmx'; from lmx.cli import main; main()"
STEPS, LIMIT = 300, 300  # LIMIT: seconds
SHARED = ["objective=mlm", f"budget.steps={STEPS}", "trainer.log_every=1", "seed=0", "launcher.threads=1"]


@pytest.mark.timeout(900)
def test_a_sweep_is_stopped_and_goes_on(tmp_path):
    corpus(tmp_path / "text")
    arguments = [
        "sweep", *overrides(tmp_path, *SHARED), "objective.rate=0.15,0.3", "launcher=ray", "launcher.workers=2",
        "--name", "tasks", "--eval", "minimal_pairs minimal_pairs.pairs=2", "--json",
    ]  # fmt: skip

    def sweep() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", COMMAND, *arguments], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env=environment(tmp_path) | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    first = sweep()
    until(lambda: len(begun := find(tmp_path / "runs")) == 2 and all(map(under_way, begun)), LIMIT)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=LIMIT)
    assert first.returncode == INTERRUPTED, said
    runs = find(tmp_path / "runs")
    assert [run.status()["state"] for run in runs] == ["preempted"] * 2
    saved = {rate(run): newest(run) for run in runs}
    assert all(0 < step < STEPS for step in saved.values())

    second = sweep()
    told, said = second.communicate(timeout=LIMIT)
    assert second.returncode == 0, said
    assert len(json.loads(told)["arms"]) == 2
    assert [run.name for run in find(tmp_path / "runs")] == [run.name for run in runs]
    for run in runs:
        twin = new(tmp_path / "twin", *SHARED, f"objective.rate={rate(run)}", f"data.path={tmp_path / 'text'}")
        assert start(twin).wait() == 0
        assert differences(left(run, STEPS), left(twin, STEPS)) == []
    results.write(
        "ray", ray=version("ray"), tasks=2, stopped_at_step=saved, steps=STEPS, resumed="the same bits"
    )  # fmt: skip


def under_way(run: Run) -> bool:
    return len(run.lines("metrics.jsonl")) > 20


def rate(run: Run) -> float:
    return run.config()["objective"]["rate"]


def newest(run: Run) -> int:
    return max(int(path.name.removeprefix("step-")) for path in (run.path / "checkpoints").glob("step-*"))

"""Every objective under two ranks: gradients equal those of one process, for all of conf/objective/ (see objectives.py)."""

import subprocess
import sys

from tests.faults.tiny import ROOT


def check(ranks: int) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--standalone"]
    done = subprocess.run(
        [*command, "-m", "tests.dist.objectives"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[:-1] == ["checked"]


def test_two_ranks_have_the_gradients_of_one():
    check(2)

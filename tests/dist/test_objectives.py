"""Every objective under two ranks: summed gradients equal those of one process, for all of conf/objective/."""

import subprocess
import sys

from tests.faults.tiny import ROOT


def test_two_ranks_have_the_gradients_of_one():
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    done = subprocess.run(
        [*command, "-m", "tests.dist.objectives"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[:-1] == ["checked"]

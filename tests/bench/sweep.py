"""What a sweep costs beyond its runs: `python -m tests.bench.sweep [ARMS]`, on a machine that does nothing else.

The same runs are made one after the other by workers alone, each with a process after it that loads torch and the model as
measuring does, and by `lmx sweep` with launcher=local. The difference, by arm, is what planning, launching, following, measuring
two pairs a phenomenon and writing the report take. With LMX_RESULTS=FOLDER the figures are written there.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests import results
from tests.faults.tiny import ROOT, corpus, environment, new, overrides, start

COMMAND = "import sys; sys.argv[0] = 'lmx'; from lmx.cli import main; main()"
YARDSTICK = "minimal_pairs minimal_pairs.pairs=2"


def main(arms: int = 6) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        corpus(folder / "text")
        rates = [round(0.1 + 0.05 * number, 2) for number in range(arms)]
        shared = ["objective=mlm", "budget.steps=40", "launcher.threads=1"]
        start(new(folder, *shared, "objective.rate=0.05")).wait()  # fills the corpus cache, and is no arm
        began = time.monotonic()
        bare = [
            new(folder / "bare", *shared, f"objective.rate={rate}", f"data.path={folder / 'text'}") for rate in rates
        ]
        for run in bare:
            assert start(run).wait() == 0
            ask = json.dumps({"run": str(run.path), "step": None, "yardsticks": {}})
            subprocess.run(
                [sys.executable, "-P", "-m", "lmx.evaluate"], input=ask, text=True, env=environment(folder), check=True
            )
        alone = time.monotonic() - began
        swept = ",".join(map(str, rates))
        typed = ["sweep", *overrides(folder, *shared, f"objective.rate={swept}"), "--eval", YARDSTICK, "--json"]
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-P", "-c", COMMAND, *typed],
            env=environment(folder),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        together = time.monotonic() - began
    seen = {
        "arms": arms, "bare_seconds": round(alone, 1), "sweep_seconds": round(together, 1),
        "seconds_an_arm": round((together - alone) / arms, 2),
    }  # fmt: skip
    print(json.dumps(seen))
    results.write("sweep_overhead", **seen)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

"""What `lmx train --dry-run` says against what the run then takes: memory of the process at its peak, and seconds of training.

    python -m tests.bench.estimates [FILE]

Each case is previewed and then trained, in processes of their own and in the launcher's environment. FILE gets a line of JSON for
each; the committed ones are in runs/reference/estimates.jsonl. Seconds mean little on a machine that others use, too: the load
is noted.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from lmx.build import build
from lmx.config import plain
from lmx.runs import Run

SHARED = [
    "track=none",
    "trainer.compile=false",
    "launcher.threads=1",
    "budget.steps=30",
    "eval.tokens=4096",
    "eval.samples=0",
]
CASES = {
    "nano": ["model=nano"],
    "nano mlm": ["model=nano", "objective=mlm"],
    "nano, length 512": ["model=nano", "length=512", "trainer.batch_tokens=8192", "budget.steps=12"],
    "nano, length 512, recompute": [
        "model=nano", "length=512", "trainer.batch_tokens=8192", "budget.steps=12", "trainer.recompute=true",
    ],
    "nano adamw, accumulation": ["model=nano", "optim=adamw", "trainer.micro_batch=8"],
}  # fmt: skip


def measured(config: dict, typed: list[str], folder: Path) -> tuple[int, float, int]:
    """Train; -> bytes at the peak, seconds of training, steps."""
    run = Run.create(config, typed, folder)
    with (run.path / "log.txt").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "lmx.worker", str(run.path)],
            stdout=log,
            stderr=log,
            env=os.environ | build(config["launcher"]).environment(),
        )
        _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit((run.path / "log.txt").read_text())
    last = run.lines("metrics.jsonl")[-1]
    return used.ru_maxrss * (1 if sys.platform == "darwin" else 1024), last["seconds"], last["step"]


def case(name: str, settings: list[str], folder: Path) -> dict:
    typed = [*SHARED, *settings]
    typed = [word for index, word in enumerate(typed) if word.partition("=")[0] not in
             {later.partition("=")[0] for later in typed[index + 1 :]}]  # fmt: skip
    config = plain(typed)
    told = subprocess.run(
        [sys.executable, "-P", "-m", "lmx.preview"], input=json.dumps(config), capture_output=True, text=True, check=True,
        env=os.environ | build(config["launcher"]).environment(),
    )  # fmt: skip
    said = json.loads(told.stdout)
    memory, seconds, steps = measured(config, typed, folder)
    return {
        "case": name,
        "memory_said": said["memory_bytes"],
        "memory_measured": memory,
        "memory_ratio": round(said["memory_bytes"] / memory, 3),
        "seconds_said": round(said["seconds"], 2),
        "seconds_measured": round(seconds, 2),
        "seconds_ratio": round(said["seconds"] / seconds, 3),
        "steps": steps,
        "load": round(os.getloadavg()[0], 1),
        "cores": os.cpu_count(),
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, settings in CASES.items():
            line = json.dumps(case(name, settings, Path(folder)))
            print(line, flush=True)
            if len(sys.argv) > 1:
                with Path(sys.argv[1]).open("a") as file:
                    file.write(line + "\n")


if __name__ == "__main__":
    main()

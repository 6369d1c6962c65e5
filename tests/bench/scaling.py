"""What it costs to spread a run over processes on this machine: CPU seconds a step, over all of them, and wall seconds.

    python -m tests.bench.scaling [FILE]

CPU seconds depend little on who else uses the machine: their ratio to those of one process is the share left for training. Wall
seconds do; the load is noted beside them. Every way makes STEPS + MORE and STEPS steps of the same run, one thread a process, and
the difference counts: so starting is left out. FILE gets a line of JSON for each; the committed ones are in
runs/reference/scaling.jsonl.
"""

import json
import os
import socket
import sys
import tempfile
import time
from pathlib import Path

import torch

from lmx import worker
from lmx.config import plain
from lmx.runs import Run

STEPS, MORE = 2, 30
SHARED = [
    "model=nano",
    "track=none",
    "trainer.compile=false",
    "trainer.precision=fp32",
    "eval.tokens=128",
    "eval.samples=0",
]
WAYS = {
    "one process": (1, []),
    "two, ddp": (2, []),
    "two, fsdp": (2, ["trainer.parallel=fsdp"]),
    "two, fsdp, recompute": (2, ["trainer.parallel=fsdp", "trainer.recompute=true"]),
    "one, strict": (1, ["trainer.determinism=strict"]),
    "two, strict": (2, ["trainer.determinism=strict"]),
}


def rank(number: int, ranks: int, port: int, run: Run) -> int:
    if ranks > 1:
        os.environ |= {
            "RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "bench",
        }  # fmt: skip
    log = os.open(run.path / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 2)
    os.dup2(log, 1)
    return worker.main(str(run.path))


def spent(folder: Path, ranks: int, settings: list[str], steps: int) -> tuple[float, float]:
    """-> CPU seconds of all ranks, and seconds of training"""
    typed = [*SHARED, *settings, f"budget.steps={steps}", f"launcher.processes={ranks}"]
    run = Run.create(plain(typed), typed, folder)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    pids = []
    for number in range(ranks):
        pid = os.fork()
        if pid == 0:
            os._exit(rank(number, ranks, port, run))
        pids.append(pid)
    used = [os.wait4(pid, 0) for pid in pids]
    if run.read_json("status.json")["state"] != "done":
        raise SystemExit((run.path / "log.txt").read_text())
    return sum(one[2].ru_utime + one[2].ru_stime for one in used), run.lines("metrics.jsonl")[-1]["seconds"]


def main() -> None:
    torch.set_num_threads(1)
    alone = None
    with tempfile.TemporaryDirectory() as folder:
        for name, (ranks, settings) in WAYS.items():
            began = time.strftime("%Y-%m-%d")
            few, many = (spent(Path(folder), ranks, settings, steps) for steps in (STEPS, STEPS + MORE))
            cpu, wall = ((late - early) / MORE for early, late in zip(few, many, strict=True))
            alone = alone or cpu
            line = {
                "way": name, "processes": ranks, "cpu_seconds_a_step": round(cpu, 3), "cpu_share_left": round(alone / cpu, 3),
                "wall_seconds_a_step": round(wall, 3),
                "load": round(os.getloadavg()[0], 1), "cores": os.cpu_count(), "day": began,
            }  # fmt: skip
            print(json.dumps(line), flush=True)
            if len(sys.argv) > 1:
                with Path(sys.argv[1]).open("a") as file:
                    file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()

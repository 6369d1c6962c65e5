"""Runs of a second, started as workers; what they leave behind, without what a clock has measured."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lmx.config import load
from lmx.runs import LINES, Run
from lmx.train import checkpoint

ROOT = Path(__file__).parents[2]
TIMED = {"seconds", "tokens_per_second", "flops_per_second", "peak_share"}
STEPS = 40
OVERRIDES = [
    "tokenizer=bytes", "data=text", "data.document=paragraph", "length=32", "device=cpu",
    "model.width=32", "model.depth=2", "model.heads=2", "model.kv_heads=2", "model.mlp=48", "model.dropout=0.1",
    "trainer.batch_tokens=256", "trainer.compile=false", "trainer.precision=fp32", "trainer.checkpoint_every=5",
    "trainer.log_every=3", "eval.tokens=1024", "eval.sample_tokens=8", "track=none",
    "launcher.grace=20",
]  # fmt: skip


def corpus(folder: Path, seed: int = 0) -> Path:
    """200 paragraphs of invented words."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = random.Random(seed)
    words = ["".join(numbers.choices("abcdefgh", k=numbers.randint(2, 6))) for _ in range(80)]
    paragraphs = (" ".join(numbers.choices(words, k=numbers.randint(20, 60))) for _ in range(200))
    (folder / "text.txt").write_text("\n\n".join(paragraphs))
    return folder


def overrides(folder: Path, *more: str) -> list[str]:
    """What `lmx train` is told; the corpus and the runs are below `folder`."""
    budget = [] if any(word.startswith("budget.") for word in more) else [f"budget.steps={STEPS}"]
    return [*OVERRIDES, *budget, f"data.path={folder / 'text'}", f"runs={folder / 'runs'}", *more]


def new(folder: Path, *more: str) -> Run:
    typed = overrides(folder, *more)
    config: Any = OmegaConf.to_container(load(typed))
    return Run.create(config, typed, folder / "runs")


def environment(folder: Path, **more: str) -> dict[str, str]:
    changes = {"LMX_CACHE": str(folder / "cache"), "LMX_RUNS": str(folder / "runs"), "OMP_NUM_THREADS": "1"}
    return os.environ | changes | more


def start(run: Run, **more: str) -> subprocess.Popen:
    """A worker as the launcher starts it, without a launcher."""
    with (run.path / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "lmx.worker", str(run.path)],
            env=environment(run.path.parents[1], **more), stdout=log, stderr=log, cwd=ROOT,
        )  # fmt: skip


class Server:
    """Workers that are forked from a process which has imported torch."""

    def __init__(self, process: subprocess.Popen[str]):
        self.process = process

    def start(self, run: Run, **order: Any) -> int:
        """-> the worker's process id; what may be ordered is in worker_server.py"""
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"run": str(run.path), **order}) + "\n")
        self.process.stdin.flush()
        return int(self.hear("pid"))

    def hear(self, word: str) -> str:
        assert self.process.stdout
        said, _, value = self.process.stdout.readline().partition(" ")
        assert said == word, f"the server said {said!r}"
        return value

    def wait(self) -> int:
        """-> exit code, negative for a signal"""
        return int(self.hear("exit"))

    def work(self, run: Run, **order: Any) -> int:
        self.start(run, **order)
        return self.wait()


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    command = [sys.executable, "-m", "tests.faults.worker_server"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Server(process)
        assert process.stdin
        process.stdin.close()


def until(what, patience: float = 60.0) -> None:
    """Wait until `what()` is true."""
    end = time.monotonic() + patience
    while not what():
        assert time.monotonic() < end, f"{what} did not come true within {patience:.0f} s"
        time.sleep(0.002)


def left(run: Run, steps: int = STEPS) -> dict[str, Any]:
    """Everything that two runs of one config must have in common, bit for bit."""
    loaded = checkpoint.load(run.path / "checkpoints")
    assert loaded is not None
    assert loaded.step == steps, (loaded.step, loaded.damaged)
    files = {
        stem: sha256((loaded.path / f"{stem}.safetensors").read_bytes()).hexdigest() for stem in ("model", "optim")
    }
    ledger = {key: value for key, value in loaded.state["ledger"].items() if key not in TIMED}
    lines = {name: [{k: v for k, v in line.items() if k not in TIMED} for line in run.lines(name)] for name in LINES}
    return {"files": files, "state": loaded.state | {"ledger": ledger}, "lines": lines}


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Where two nested values differ: what a failing test should say."""
    if isinstance(a, dict) and isinstance(b, dict):
        return [
            line
            for key in sorted(a.keys() | b.keys())
            for line in differences(a.get(key), b.get(key), f"{where}.{key}")
        ]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [
            line
            for index, pair in enumerate(zip(a, b, strict=True))
            for line in differences(*pair, f"{where}[{index}]")
        ]
    return [] if a == b else [f"{where}: {str(a)[:200]} != {str(b)[:200]}"]

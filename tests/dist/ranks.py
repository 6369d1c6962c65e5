"""Tiny runs on several ranks, without torchrun."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lmx.runs import Run
from tests.faults import tiny


def alike(run: Run, other: Run, tolerance: float = 1e-5) -> None:
    """The same lines but for rounding: gradients of several ranks are summed in another order."""
    for name in ("metrics.jsonl", "evals/validation.jsonl"):
        rows = [
            [{key: value for key, value in line.items() if key not in tiny.TIMED} for line in each.lines(name)]
            for each in (run, other)
        ]
        assert len(rows[0]) == len(rows[1]) > 1
        for a, b in zip(*rows, strict=True):
            assert a.keys() == b.keys()
            for key in a:
                near = b[key] if b[key] is None else pytest.approx(b[key], rel=tolerance, abs=tolerance)
                assert a[key] == near, (name, a["step"], key)


class Ranks:
    def __init__(self, process: subprocess.Popen[str]):
        self.process = process

    def start(self, run: Run, ranks: int, **order: Any) -> list[int]:
        """-> process ids; what may be ordered is in rank_server.py"""
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"run": str(run.path), "ranks": ranks, **order}) + "\n")
        self.process.stdin.flush()
        return self.hear("pids")

    def hear(self, word: str) -> list[int]:
        assert self.process.stdout
        said, *values = self.process.stdout.readline().split()
        assert said == word, f"the server said {said!r}"
        return list(map(int, values))

    def wait(self) -> list[int]:
        """-> exit codes by rank, negative for a signal"""
        return self.hear("exits")

    def work(self, run: Run, ranks: int, **order: Any) -> list[int]:
        self.start(run, ranks, **order)
        return self.wait()


@contextmanager
def serving(folder: Path) -> Iterator[Ranks]:
    command = [sys.executable, "-m", "tests.dist.rank_server"]
    with subprocess.Popen(
        command, cwd=tiny.ROOT, env=tiny.environment(folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Ranks(process)
        assert process.stdin
        process.stdin.close()

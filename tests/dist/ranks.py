"""Tiny runs on several ranks, without torchrun."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lmx.runs import Run
from tests.faults import tiny


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

"""Weights & Biases, read from the run directory by a process of its own (lmx/track/wandb_reader.py)."""

import subprocess
import sys
from typing import Literal

from lmx.runs import Run


class Wandb:
    """`mode` auto: online when logged in, otherwise offline. Never asks."""

    def __init__(
        self, *, project: str, entity: str | None, mode: Literal["auto", "online", "offline"], tags: list[str]
    ):
        self.project, self.entity, self.mode, self.tags = project, entity, mode, tags

    def start(self, run: Run) -> subprocess.Popen:
        """A reader that follows the run in its own process and session."""
        with (run.path / "wandb.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "lmx.track.wandb_reader", str(run.path), "--follow"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

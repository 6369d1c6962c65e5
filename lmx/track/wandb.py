"""Weights & Biases, read from the run directory by a process of its own (lmx/track/wandb_reader.py, wandb_comparison.py)."""

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
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
        return detached(run.path, "lmx.track.wandb_reader", "--follow")


def send_comparison(folder: Path, runs: Sequence[Run]) -> str:
    """Start a reader of a comparison that is written, which nobody waits for, unless it has sent the same; -> one line that says
    where it is. Nothing where none of its runs is tracked."""
    tracked = next((run for run in runs if "project" in run.config()["track"]), None)
    if tracked is None:
        return ""
    if told := sent(folder):
        return f"W&B: {told['url']}" if told["url"] else f"W&B: offline. Send it with: lmx sync {folder.name}"
    detached(folder, "lmx.track.wandb_comparison")
    facts = tracked.read_json("wandb.json")  # where its arm is, it will be
    if facts.get("mode") != "online":
        return f"W&B: offline. Send it with: lmx sync {folder.name}"
    group = tracked.config()["group"] or folder.name
    extra = "" if find_spec("wandb_workspaces") else " For a saved workspace: pip install wandb-workspaces."
    return f"W&B: on its way to {facts['url'].rpartition('/runs/')[0]}/groups/{group}, see {folder}/wandb.log.{extra}"


def sent(folder: Path) -> dict[str, str]:
    """What wandb.json says of the comparison as it is now; nothing if that has not been sent."""
    place = folder / "wandb.json"
    facts = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
    return facts if facts.get("complete") and facts["stamp"] == stamp(folder) else {}


def stamp(folder: Path) -> str:
    """Changes with what there is to see: the last line of the page says what it was made from."""
    page = folder / "report.html"
    return page.read_text(encoding="utf-8").splitlines()[-1] if page.exists() else ""


def detached(folder: Path, module: str, *options: str) -> subprocess.Popen:
    """A reader in its own process and session."""
    with (folder / "wandb.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(folder), *options],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip

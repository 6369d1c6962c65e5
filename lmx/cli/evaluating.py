"""What `lmx evaluate` and `lmx compare` do to measure a run: compose yardsticks, start the process that applies them."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from tempfile import TemporaryFile
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from lmx.build import build
from lmx.config import choices, load
from lmx.errors import LmxError, nearest
from lmx.runs import Run

GROUP = "eval/yardstick"
TOLD = ("lm_eval",)  # not among all: it must be told what to measure


def yardsticks(words: Sequence[str]) -> dict[str, dict[str, Any]]:
    """name -> config node, of `minimal_pairs probe minimal_pairs.path=x`; all that need no more where none is named."""
    known = choices(GROUP)
    settings = [word.removeprefix("eval.") for word in words if "=" in word]
    every = "all" in words
    words = [word for word in words if word != "all"]
    names = [word for word in words if "=" not in word] + [setting.partition(".")[0] for setting in settings]
    for name in names:
        if name not in known:
            raise LmxError(f"YARDSTICK must be one of {', '.join(known)}, got {name!r}.{nearest(name, known)}")
    others = [name for name in known if name not in TOLD] if every or not names else []
    chosen = list(dict.fromkeys([*names, *others]))
    overrides = [f"eval.yardsticks.{name}={name}" for name in chosen]
    config: Any = OmegaConf.to_container(load([*overrides, *(f"eval.yardsticks.{setting}" for setting in settings)]))
    return config["eval"]["yardsticks"]


def measure(run: Run, step: int | None, nodes: Mapping[str, Mapping[str, Any]]) -> None:
    """Apply the yardsticks that are missing in a process of their own, with a bar. Raises LmxError with its message."""
    saved = newest(run) if step is None else step
    if saved is not None and len(lines(run, saved, nodes)) == len(nodes):
        return
    command = [sys.executable, "-P", "-m", "lmx.evaluate"]
    asked = json.dumps({"run": str(run.path), "step": step, "yardsticks": nodes})
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with (
        TemporaryFile("w+") as said,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            encoding="utf-8",
            env=os.environ | build(run.config()["launcher"]).environment(),
        )
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(asked)
        child.stdin.close()
        bar = progress.add_task("starting", total=1.0)
        try:
            for line in child.stdout:
                told = json.loads(line)
                progress.update(bar, description=told["phase"], completed=told["share"])
        except BaseException:
            child.kill()
            raise
        child.wait()
        said.seek(0)
        words = said.read().strip().splitlines()
    if child.returncode:
        error = LmxError(words[-1].removeprefix("lmx: ") if words else "the evaluation ended without a word.")
        error.exit_code = child.returncode
        raise error


def newest(run: Run) -> int | None:
    """The step of the last checkpoint."""
    names = [path.name for path in (run.path / "checkpoints").glob("step-*")]
    return max((int(name.removeprefix("step-")) for name in names), default=None)


def lines(run: Run, step: int | None, nodes: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The newest line of each yardstick with these knobs, at `step` or the last one."""
    found = []
    for name, node in nodes.items():
        fitting = [
            line
            for line in run.lines(f"evals/{name}.jsonl")
            if line.get("knobs") == node and step in (None, line["step"])
        ]
        if fitting:
            found.append({"yardstick": name} | max(fitting, key=lambda line: line["step"]))
    return found

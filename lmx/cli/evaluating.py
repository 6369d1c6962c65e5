"""What `lmx evaluate` and `lmx compare` do to measure a run: compose yardsticks, start the process that applies them."""

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from lmx.build import build
from lmx.cli.aside import aside
from lmx.config import choices, load
from lmx.errors import INTERNAL, LmxError, nearest
from lmx.runs import Run

GROUP = "eval/yardstick"
TOLD = ("lm_eval",)  # not among all: it must be told what to measure
Nodes = Mapping[str, Mapping[str, Any]]  # of yardsticks, by name


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


def check(nodes: Nodes) -> None:
    """Raises LmxError, before anything is trained, for files that yardsticks could not read afterwards."""
    given = {name: node for name, node in nodes.items() if node.get("path") is not None}
    if given:
        child = aside("lmx.evaluate", sys.stderr)
        told, _ = child.communicate(json.dumps({"run": None, "yardsticks": given}))
        for line in map(json.loads, told.splitlines()):
            raise failure(line["reason"], line["code"])
        if child.returncode:
            raise failure(f"{', '.join(given)}: the process that reads its files {ended(child.returncode)}.", INTERNAL)


def measure(run: Run, step: int | None, nodes: Nodes) -> dict[str, LmxError]:
    """Apply the yardsticks that are missing in a process of their own, with a bar; -> by name, why one could not be applied.

    One that fails does not keep the others from being applied; one that takes its process along does not either.
    """
    failed: dict[str, LmxError] = {}
    while True:
        saved = newest(run) if step is None else step
        there = {line["yardstick"] for line in lines(run, saved, nodes)} if saved is not None else set()
        left = {name: node for name, node in nodes.items() if name not in there | failed.keys()}
        if not left:
            return failed
        found = applied(run, step, left)
        if not found:
            return failed
        failed |= found


def applied(run: Run, step: int | None, nodes: Nodes) -> dict[str, LmxError]:
    """One process with all of them; -> by name, what it says has failed, and what it was at when it died."""
    asked = json.dumps({"run": str(run.path), "step": step, "yardsticks": nodes})
    environment = os.environ | build(run.config()["launcher"]).environment()
    failed: dict[str, LmxError] = {}
    at = list(nodes)  # where it says nothing, it could apply none
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with (run.path / "log.txt").open("ab") as log:
        child = aside("lmx.evaluate", log, environment)
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        with suppress(BrokenPipeError):  # its end says why
            child.stdin.write(asked)
            child.stdin.close()
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task("starting", total=1.0)
            for line in child.stdout:
                told = json.loads(line)
                if "failed" in told:
                    failed[told["failed"]] = failure(told["reason"], told["code"])
                else:
                    at = [told["yardstick"]] if told["yardstick"] else at
                    progress.update(bar, description=told["phase"], completed=told["share"])
        code = child.wait()
    except BaseException:
        child.kill()
        child.wait()
        raise
    if code:
        how = ended(code) if code < 0 else f"{ended(code)}, see {run.path}/log.txt"
        failed |= {name: failure(f"its process {how}.", INTERNAL) for name in at if name not in failed}
    return failed


def ended(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"


def failure(reason: str, code: int) -> LmxError:
    error = LmxError(reason)
    error.exit_code = code
    return error


def unmeasured(failed: Mapping[str, LmxError], asked: int) -> LmxError:
    """All in one line; what is the matter with all of them once."""
    names: dict[str, list[str]] = {}
    for name, error in failed.items():
        names.setdefault(str(error), []).append(name)
    told = [reason if len(some) == asked else f"{', '.join(some)}: {reason}" for reason, some in names.items()]
    return failure(" ".join(told), next(iter(failed.values())).exit_code)


def newest(run: Run) -> int | None:
    """The step of the last checkpoint."""
    names = [path.name for path in (run.path / "checkpoints").glob("step-*")]
    return max((int(name.removeprefix("step-")) for name in names), default=None)


def lines(run: Run, step: int | None, nodes: Nodes) -> list[dict[str, Any]]:
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

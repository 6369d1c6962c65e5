"""What `lmx train` does between a config and an exit code: make a run directory, start its processes, follow it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from lmx.build import build
from lmx.cli.aside import aside
from lmx.config import plain
from lmx.errors import INTERNAL, INTERRUPTED, LmxError
from lmx.launch.local import log_tail
from lmx.launch.nodes import Nodes
from lmx.runs import Run, root
from lmx.schema import plugins
from lmx.track.figures import clock, short
from lmx.track.progress import follow, summary

JOINED = 0.2  # seconds between two looks
FINISHING = 60  # seconds that W&B may take after the run to send the rest


def created(overrides: Sequence[str]) -> Run:
    config = plain(overrides)
    build(config["data"]).locate()  # a path that is not there is said before anything starts
    build(config["launcher"])
    return Run.create(config, overrides, root(config))


def resumed(name: str, overrides: Sequence[str]) -> Run:
    """The run as it is: its config is on disk. Raises LmxError for overrides, which would make it another run."""
    if overrides:
        raise LmxError(
            f"--resume must have no overrides, got {' '.join(overrides)}: a run keeps its config. "
            f"Type lmx train init_from={name} …, or lmx train --branch {name}@STEP budget.… for another budget."
        )
    return Run.open(name)


def branched(place: str, overrides: Sequence[str]) -> Run:
    """A new run with the old one's config, its state at a step, and the budget typed now."""
    name, _, step = place.partition("@")
    typed = [override for override in overrides if override.startswith("budget.")]
    if not step.isdigit() or len(typed) != 1 or len(overrides) != 1:
        raise LmxError(
            f"--branch must have RUN@STEP and one budget, got {' '.join([place, *overrides])}. "
            "Type e.g. lmx train --branch RUN@500 budget.steps=800."
        )
    old = Run.open(name)
    kept = sorted(int(path.name.removeprefix("step-")) for path in (old.path / "checkpoints").glob("step-*"))
    if int(step) not in kept:
        raise LmxError(f"--branch must name a step with a checkpoint, got {step}: {name} has {kept}.")
    config = old.config() | {
        "budget": plain(typed)["budget"],
        "init_from": f"{old.path}@{step}",
        "branch": True,
    }
    return Run.create(config, [f"--branch {place}", *typed], root(config))


Look = Callable[[Run, Callable[[], bool], Console, Callable[[], bool]], Any]  # see lmx.track.progress.follow


def supervise(run: Run) -> int:
    """Train in other processes, show what they write, hand signals on; -> the exit code."""
    plugins.require(run.config().get("plugins", ()))
    run.lock()
    console = Console(highlight=False)
    if run.status().get("state") == "done":
        console.print(Text(f"{run.name} is done; nothing is left to train."))
        return 0
    progress, code, tracker = trained(run, follow, console)
    summary(progress, console)
    if code != INTERRUPTED and run.read_json("status.json").get("state") == "killed" and (tail := log_tail(run)):
        print(tail, file=sys.stderr)
    if tracker is not None:
        console.print(Text(tracked(run, tracker)), soft_wrap=True)
    return code


def trained(run: Run, look: Look, console: Console) -> tuple[Any, int, subprocess.Popen | None]:
    """Train a run that this process has locked, and unlock it; -> what `look` says, the exit code, who still sends to W&B."""
    config = run.config()
    run.set_status(state="queued", pid=None, phase="starting", phase_progress=None, reason=None, exit_code=None)
    processes = build(config["launcher"]).start(run)
    tracker = build(config["track"]).start(run)
    seen = look(run, processes.running, console, processes.stopping)
    code = processes.finish()
    run.unlock()
    return seen, code, tracker


def joined(name: str, overrides: Sequence[str]) -> int:
    """Train a run that another machine's launcher has locked and writes down; -> its exit code."""
    run = Run.open(name)
    launcher = build(run.config()["launcher"])
    if overrides or not isinstance(launcher, Nodes):
        raise LmxError(
            f"--join must have a run with launcher=nodes and no overrides, got {' '.join([name, *overrides])}. Type lmx train "
            "launcher=nodes launcher.rendezvous=HOST:PORT … on the first machine."
        )
    plugins.require(run.config().get("plugins", ()))
    processes = launcher.start(run)
    while processes.running():
        time.sleep(JOINED)
    end = time.monotonic() + FINISHING
    while run.read_json("status.json")["state"] in ("queued", "running") and time.monotonic() < end:
        time.sleep(JOINED)  # the first machine has the last word
    code = run.read_json("status.json").get("exit_code")
    return INTERNAL if code is None else code


def tracked(run: Run, tracker: subprocess.Popen) -> str:
    """One line: where W&B has the run, or how to send it."""
    try:
        tracker.wait(FINISHING)
    except subprocess.TimeoutExpired:
        return f"W&B: still sending. To make sure of it: lmx sync {run.name}"
    facts = run.read_json("wandb.json")
    if tracker.returncode or not facts.get("complete"):
        return f"W&B: not recorded, see {run.path}/wandb.log. The run itself is complete; send it with: lmx sync {run.name}"
    return f"W&B: {facts['url']}" if facts["mode"] == "online" else f"W&B: offline. Send it with: lmx sync {run.name}"


def ask(module: str, request: Callable[[], Any], environment: Mapping[str, str] | None = None) -> Any:
    """The JSON that a module answers to a request in JSON, in a process of its own, which imports torch while the request is put
    together. Raises LmxError with its message."""
    child = aside(module, subprocess.PIPE, os.environ | (environment or {}))
    with child, Console(stderr=True).status("looking …"):
        try:
            told, said = child.communicate(json.dumps(request()))
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        lines = said.strip().splitlines()
        error = LmxError(lines[-1].removeprefix("lmx: ") if lines else f"{module} ended without a word.")
        error.exit_code = child.returncode
        raise error
    return json.loads(told)


def preview_cost(overrides: Sequence[str]) -> None:
    """`lmx train --dry-run`"""
    config = plain(overrides)
    cost = ask(
        "lmx.preview", lambda: config, build(config["launcher"]).environment()
    )  # threads, and how memory is kept
    rows = {
        "parameters": f"{short(cost['parameters'])} ({short(cost['parameters_without_embeddings'])} without embeddings and head)",
        "vocabulary": f"{cost['vocabulary']}",
        "FLOPs a token": short(cost["flops_per_token"]),
        "steps": f"{cost['steps']}",
        "tokens": f"{short(cost['tokens'])} ({cost['epochs']:.2f} epochs of {short(cost['train_tokens'])})",
        "FLOPs": short(cost["flops"]),
        "memory": f"{short(cost['memory_bytes'])}B{' a process' if cost['processes'] > 1 else ''}",
        "time": f"{clock(cost['seconds'])} at {cost['step_seconds']:.2f} s a step, before compiling",
        "first loss": f"{cost['loss']:.3f} nats",
        "device": f"{cost['device']}, {cost['precision']}, {cost['processes']} processes of {cost['threads']} threads",
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}")

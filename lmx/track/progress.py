"""What a run is doing, in a terminal: a reader of the run directory, live or afterwards. It cannot slow or stop training."""

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lmx.runs import STYLES, Run
from lmx.track.figures import clock, curve, flat, number, own, quality, speed, spent
from lmx.track.tail import Tail

EVERY = 0.25  # seconds between two looks


def never() -> bool:
    return False


class Progress:
    """The newest figures of one run."""

    def __init__(self, run: Run, stopping: Callable[[], bool] = never):
        self.run, self.label, self.stopping = run, run.label(), stopping
        self.files = [Tail(run.path / name) for name in ("metrics.jsonl", "evals/validation.jsonl")]
        self.seen: set[tuple[str, int, float]] = set()
        self.metrics: dict[str, Any] = {}
        self.validation: dict[str, Any] = {}
        self.losses: dict[int, float] = {}
        self.status: dict[str, Any] = {}

    def update(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Read what is new; -> new lines of metrics and of validation."""
        self.status = self.run.read_json("status.json")
        metrics, validation = (self.new(file) for file in self.files)
        self.metrics = metrics[-1] if metrics else self.metrics
        self.validation = validation[-1] if validation else self.validation
        self.losses |= {line["step"]: line["loss"] for line in metrics if line["loss"] is not None}
        return metrics, validation

    def new(self, file: Tail) -> list[dict[str, Any]]:
        """A file that a resume has cut back comes as a whole again: only what was done since is new."""
        lines = [line for line in file.new() if (file.path.name, line["step"], line["seconds"]) not in self.seen]
        self.seen |= {(file.path.name, line["step"], line["seconds"]) for line in lines}
        return lines

    @property
    def share(self) -> float:
        return self.metrics.get("progress") or 0.0

    def left(self) -> str:
        """Training time to go, at the speed so far."""
        seconds, share = self.metrics.get("seconds", 0), self.share
        return f"{clock(seconds * (1 - share) / share)} left" if share and share < 1 else ""

    def step(self, number: int | None = None) -> str:
        total = self.status.get("total_steps")
        return f"step {self.metrics.get('step', 0) if number is None else number}" + (f"/{total:.0f}" if total else "")

    def phase(self) -> str:
        if self.stopping():
            return "stopping, Ctrl-C again not to save"
        phase, share = self.status.get("phase"), self.status.get("phase_progress")
        return (phase or self.status.get("state") or "") + (f" {share:.0%}" if share else "")


def panel(progress: Progress) -> RenderableType:
    """Name and phase, bar, and a line each for the loss, the validation and what was spent."""
    head = Table.grid(expand=True, padding=(0, 2, 0, 0))
    head.add_column(no_wrap=True)
    head.add_column(no_wrap=True, ratio=1)
    head.add_column(no_wrap=True, justify="right")
    head.add_row(Text(progress.label, "bold"), Text(progress.run.name, "dim"), Text(progress.phase(), "cyan"))
    bar = Table.grid(expand=True, padding=(0, 1))
    bar.add_column(ratio=1)
    cells = [f"{progress.share:.0%}", progress.step(), progress.left()] if progress.metrics else []
    for _ in cells:
        bar.add_column(justify="right", no_wrap=True)
    bar.add_row(ProgressBar(total=1.0, completed=progress.share), *map(Text, cells))
    return Group(head, bar, figures(progress))


def figures(progress: Progress) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(style="bold", no_wrap=True, justify="right")
    table.add_column()
    if line := progress.metrics:
        table.add_row("loss", number(line["loss"]), Text(curve(list(progress.losses.values())), "green"))
    if progress.validation:
        table.add_row("validation", number(own(progress.validation)), Text(quality(progress.validation), "dim"))
    for name, parts in (("speed", speed(line)), ("spent", spent(line))) if line else ():
        value, _, unit = parts[0].rpartition(" ")
        table.add_row(name, value, Text(" · ".join([unit, *parts[1:]]), "dim"))
    return table


def follow(run: Run, running: Callable[[], bool], console: Console, stopping: Callable[[], bool] = never) -> Progress:
    """Show a run until `running` says it ended: a live panel in a terminal, otherwise one line for each thing that happens."""
    progress = Progress(run, stopping)
    if console.is_terminal:
        with Live(console=console, refresh_per_second=8, transient=True) as live:
            while True:
                ended = not running()
                progress.update()
                live.update(panel(progress))
                if ended:
                    break
                time.sleep(EVERY)
    else:
        follow_plainly(progress, running, console)
    return progress


def follow_plainly(progress: Progress, running: Callable[[], bool], console: Console) -> None:
    """What a run that is about to be resumed did before is not told again."""
    told = set()
    if progress.run.read_json("status.json").get("state") == "queued":
        progress.update()
    while True:
        ended = not running()
        metrics, validation = progress.update()
        phase = "stopping" if progress.stopping() else progress.status.get("phase")
        if phase and phase not in told:
            told.add(phase)
            say(console, phase)
        for line in metrics:
            head = [progress.step(line["step"]), f"{line['progress']:.0%}", f"loss {number(line['loss'])}"]
            say(console, " · ".join([*head, *speed(line), *spent(line), *filter(None, [progress.left()])]))
        for line in validation:
            say(console, f"{progress.step(line['step'])} · validation {number(own(line))} {quality(line)}")
        if ended:
            return
        time.sleep(EVERY)


def say(console: Console, *parts: str | tuple[str, str], indent: int = 0) -> None:
    """A paragraph in a terminal; elsewhere one line, however long."""
    text = Text.assemble(*parts)
    if console.is_terminal:
        console.print(Padding(text, (0, 0, 0, indent)))
    else:
        console.print(Text(" " * indent) + text, soft_wrap=True)


def summary(progress: Progress, console: Console) -> None:
    """How the run ended, and where to look."""
    progress.update()
    status = progress.run.status()
    state, reason = status.get("state", "unknown"), status.get("reason")
    say(
        console,
        (progress.label, "bold"),
        " ",
        (state, STYLES.get(state, "")),
        f": {reason}" if reason else "",
    )
    if line := progress.metrics:
        head = [f"{progress.step()} in {clock(line['seconds'])} of training", f"loss {number(line['loss'])}"]
        say(console, " · ".join([*head, *speed(line), *spent(line)]), indent=2)
    if line := progress.validation:
        say(console, f"validation {number(own(line))} {quality(line)}", indent=2)
    for sample in progress.run.lines("evals/samples.jsonl")[-3:]:
        say(console, (flat(sample["prompt"]), "bold"), " ", (flat(sample["text"]), "dim"), indent=2)
    if status.get("note"):
        say(console, f"note: {status['note']}", indent=2)
    say(console, str(progress.run.path), indent=2)
    if state in ("preempted", "killed"):
        say(console, "continue it with: ", (f"lmx train --resume {progress.run.name}", "bold"), indent=2)

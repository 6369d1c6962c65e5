"""What a run is doing, in a terminal: a reader of the run directory, live or afterwards. It cannot slow or stop training."""

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lmx.runs import Run
from lmx.track.tail import Tail

TICKS = " ▁▂▃▄▅▆▇█"
EVERY = 0.25  # seconds between two looks


class Progress:
    """The newest figures of one run."""

    def __init__(self, run: Run):
        self.run, self.config = run, run.config()
        self.metrics_file = Tail(run.path / "metrics.jsonl")
        self.validation_file = Tail(run.path / "evals" / "validation.jsonl")
        self.metrics: dict[str, Any] = {}
        self.validation: dict[str, Any] = {}
        self.losses: dict[int, float] = {}
        self.status: dict[str, Any] = {}

    def update(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Read what is new; -> new lines of metrics and of validation."""
        self.status = self.run.read_json("status.json")
        metrics, validation = self.metrics_file.new(), self.validation_file.new()
        self.metrics = metrics[-1] if metrics else self.metrics
        self.validation = validation[-1] if validation else self.validation
        self.losses |= {line["step"]: line["loss"] for line in metrics if line["loss"] is not None}
        return metrics, validation

    @property
    def share(self) -> float:
        return self.metrics.get("progress") or 0.0

    def left(self) -> str:
        """Training time to go, at the speed so far."""
        seconds, share = self.metrics.get("seconds", 0), self.share
        return f"{clock(seconds * (1 - share) / share)} left" if share and share < 1 else ""

    def step(self) -> str:
        total = self.status.get("total_steps")
        return f"step {self.metrics.get('step', 0)}" + (f"/{total:.0f}" if total else "")

    def phase(self) -> str:
        phase, share = self.status.get("phase"), self.status.get("phase_progress")
        return (phase or self.status.get("state") or "") + (f" {share:.0%}" if share else "")


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def short(number: float) -> str:
    """34200 -> 34.2 k"""
    for limit, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= limit:
            return f"{number / limit:.3g} {unit}"
    return f"{number:.3g}"


def validation_text(line: dict[str, Any]) -> str:
    """Native loss, bits per byte where they exist, and what counting words would reach."""
    text = f"validation {number(line['loss'])} nats"
    if line.get("bits_per_byte") is not None:
        return text + (
            f" · {line['bits_per_byte']:.3f} bits/byte (unigram {line['unigram_bits_per_byte']:.3f}, "
            f"bigram {line['bigram_bits_per_byte']:.3f})"
        )
    return text + f" (unigram {line['unigram_nats']:.3f})"


def number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3f}"


def metrics_text(line: dict[str, Any]) -> str:
    parts = [f"{short(line['tokens'])} tokens", f"{line['epoch']:.2f} epochs", f"lr {line['lr']:.2g}"]
    if line.get("tokens_per_second"):
        parts.insert(0, f"{short(line['tokens_per_second'])} tokens/s")
    if line.get("peak_share"):
        parts.insert(1, f"{line['peak_share']:.0%} of peak")
    if line["skipped"]:
        parts.append(f"{line['skipped']} steps skipped")
    return " · ".join(parts)


def curve(values: list[float], width: int = 24) -> str:
    """The course of a loss in one line of block characters."""
    if len(values) < 2:
        return ""
    size = max(1, len(values) / width)
    means = [part for start in range(min(width, len(values))) if (part := mean(values[int(start * size) : int((start + 1) * size)]))]
    low, high = min(means), max(means)
    return "".join(TICKS[1 + round(7 * (value - low) / max(high - low, 1e-9))] for value in means)


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def panel(progress: Progress) -> RenderableType:
    """Four lines: name and phase, bar, losses, speed."""
    head = Table.grid(expand=True)
    head.add_column()
    head.add_column(justify="right")
    head.add_row(
        Text.assemble((progress.config["name"] or progress.run.name, "bold"), ("  " + progress.run.name, "dim")),
        Text(progress.phase(), style="cyan"),
    )
    bar = Table.grid(expand=True, padding=(0, 1))
    bar.add_column(ratio=1)
    for _ in range(3):
        bar.add_column(justify="right", no_wrap=True)
    bar.add_row(
        ProgressBar(total=1.0, completed=progress.share),
        Text(f"{progress.share:.0%}"),
        Text(progress.step()),
        Text(progress.left(), style="dim"),
    )
    lines: list[RenderableType] = [head, bar]
    if progress.metrics:
        lines.append(
            Text.assemble(
                "loss ", (number(progress.metrics["loss"]), "bold"), "  ",
                (curve(list(progress.losses.values())), "green"), "  ",
                validation_text(progress.validation) if progress.validation else "",
            )  # fmt: skip
        )
        lines.append(Text(metrics_text(progress.metrics), style="dim"))
    return Group(*lines)


def follow(run: Run, running: Callable[[], bool], console: Console | None = None) -> None:
    """Show a run until `running` says it ended: a live panel in a terminal, otherwise one line for each thing that happens."""
    console = console or Console()
    progress = Progress(run)
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
    summary(progress, console)


def follow_plainly(progress: Progress, running: Callable[[], bool], console: Console) -> None:
    phase = None
    while True:
        ended = not running()
        metrics, validation = progress.update()
        if progress.phase() != phase and not progress.metrics:
            phase = progress.phase()
            say(console, phase)
        for line in metrics:
            progress.metrics = line
            say(console, " · ".join(filter(None, [progress.step(), f"{line['progress']:.0%}", f"loss {number(line['loss'])}", metrics_text(line), progress.left()])))  # fmt: skip
        for line in validation:
            say(console, f"step {line['step']} · {validation_text(line)}")
        if ended:
            return
        time.sleep(EVERY)


def say(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)


def summary(progress: Progress, console: Console) -> None:
    """How the run ended, and where to look."""
    progress.update()
    status = progress.run.status()
    name = progress.config["name"] or progress.run.name
    say(console, f"{name}: {status.get('state')}" + (f" ({status['reason']})" if status.get("reason") else ""))
    if progress.metrics:
        say(console, f"  {progress.step()} in {clock(progress.metrics['seconds'])} of training · {metrics_text(progress.metrics)}")
    if progress.validation:
        say(console, f"  {validation_text(progress.validation)}")
    for sample in progress.run.lines("evals/samples.jsonl")[-3:]:
        text = Text.assemble("  ", (flat(sample["prompt"]), "bold"), (flat(sample["text"]), "dim"))
        console.print(text, soft_wrap=not console.is_terminal)
    if status.get("note"):
        say(console, f"  note: {status['note']}")
    say(console, f"  {progress.run.path}")


def flat(text: str) -> str:
    """On one line, control characters visible."""
    return "".join(char if char.isprintable() else " " if char.isspace() else repr(char)[1:-1] for char in text)

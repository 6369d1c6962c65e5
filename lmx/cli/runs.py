"""`lmx runs`: what has been trained here."""

import json
import sys
from typing import Annotated, Any

import typer

NARROW = 100  # columns of a terminal


def runs(
    folder: Annotated[str | None, typer.Argument(help="Where runs are; default $LMX_RUNS or ./runs.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List runs and their key figures. The newest comes first."""
    from pathlib import Path

    from lmx.runs import find, root

    place = Path(folder) if folder else root()
    rows = [figures(run) for run in reversed(find(place))]
    if as_json:
        print(json.dumps(rows, indent=2))
    elif rows:
        table(rows)
    else:
        print(f"No runs in {place}. Start one with: lmx train")


def table(rows: list[dict[str, Any]]) -> None:
    """One line a run: everything where no terminal limits the width, less on a narrow one."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from lmx.runs import STYLES
    from lmx.track.figures import clock, short

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 1000)
    cells = {
        "done": lambda row: f"{row['progress']:.0%}",
        "tokens": lambda row: short(row["tokens"]),
        "time": lambda row: clock(row["seconds"]),
        "loss": lambda row: loss(row["loss"]),
        "validation": lambda row: loss(row["validation"]),
        "bits/byte": lambda row: loss(row["bits_per_byte"]),
    }
    shown = [name for name in cells if console.width >= NARROW or name not in ("tokens", "time", "loss")]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", no_wrap=True)
    table.add_column("name", overflow="fold", min_width=8)
    table.add_column("state", no_wrap=True)
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        state = Text(row["state"], STYLES.get(row["state"], ""))
        table.add_row(Text(row["run"], "cyan"), Text(row["name"]), state, *(cells[name](row) for name in shown))
    console.print(table)


def loss(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def figures(run: Any) -> dict[str, Any]:
    """One row: the newest line of metrics and of validation."""
    from lmx.errors import LmxError

    metrics = (run.lines("metrics.jsonl") or [{}])[-1]
    validation = (run.lines("evals/validation.jsonl") or [{}])[-1]
    try:
        name, status = run.label(), run.status()
    except LmxError as error:  # a damaged run hides no other
        name, status = "", {"state": "unreadable", "reason": str(error)}
    return {
        "run": run.name,
        "name": name,
        "state": status.get("state", "unknown"),
        "reason": status.get("reason"),
        "progress": status.get("progress") or 0.0,
        "step": metrics.get("step", 0),
        "tokens": metrics.get("tokens", 0),
        "flops": metrics.get("flops", 0),
        "seconds": metrics.get("seconds", 0.0),
        "loss": metrics.get("loss"),
        "validation": validation.get("loss"),
        "bits_per_byte": validation.get("bits_per_byte"),
    }

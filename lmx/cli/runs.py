"""`lmx runs`: what has been trained here."""

import json
from typing import Annotated, Any

import typer


def runs(
    folder: Annotated[str | None, typer.Argument(help="Where runs are; default $LMX_RUNS or ./runs.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List runs with their state and key figures, newest first."""
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
    """One line a run; whole lines where no terminal limits the width."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from lmx.runs import STYLES
    from lmx.track.figures import clock, short

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", no_wrap=True, style="cyan")
    table.add_column("name", overflow="fold")
    table.add_column("state", no_wrap=True)
    for name in ("done", "tokens", "time", "loss", "validation", "bits/byte"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        losses = [
            f"{row[key]:.3f}" if row[key] is not None else ""
            for key in ("loss", "validation", "bits_per_byte")
        ]
        table.add_row(
            row["run"], Text(row["name"]), Text(row["state"], STYLES.get(row["state"], "")),
            f"{row['progress']:.0%}", short(row["tokens"]), clock(row["seconds"]), *losses,
        )  # fmt: skip
    console.print(table, width=None if console.is_terminal else 1000, soft_wrap=not console.is_terminal)


def figures(run: Any) -> dict[str, Any]:
    """One row: the newest line of metrics and of validation."""
    metrics = (run.lines("metrics.jsonl") or [{}])[-1]
    validation = (run.lines("evals/validation.jsonl") or [{}])[-1]
    status = run.status()
    return {
        "run": run.name,
        "name": run.label(),
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

"""`lmx runs`: what has been trained here."""

import json
from typing import Annotated

import typer


def runs(
    folder: Annotated[str | None, typer.Argument(help="Where runs are; default $LMX_RUNS or ./runs.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List runs with their state and key figures, newest first."""
    from pathlib import Path

    from lmx.cli.list import show
    from lmx.runs import find, root
    from lmx.track.progress import clock, short

    rows = [figures(run) for run in reversed(find(Path(folder) if folder else root()))]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    columns = ["run", "name", "state", "done", "tokens", "time", "loss", "validation", "bits/byte"]
    table = [
        [
            row["run"], row["name"], row["state"], f"{row['progress']:.0%}", short(row["tokens"]), clock(row["seconds"]),
            *(f"{row[key]:.3f}" if row[key] is not None else "" for key in ("loss", "validation", "bits_per_byte")),
        ]
        for row in rows
    ]  # fmt: skip
    show(columns, table)


def figures(run) -> dict:
    """One row: the newest line of metrics and of validation."""
    metrics = (run.lines("metrics.jsonl") or [{}])[-1]
    validation = (run.lines("evals/validation.jsonl") or [{}])[-1]
    config, status = run.config(), run.status()
    choices = config["choices"]
    return {
        "run": run.name,
        "name": config["name"] or f"{choices['objective']}-{choices['model']}-s{config['seed']}",
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

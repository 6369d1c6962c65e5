"""`lmx sync`: send runs to Weights & Biases, now or again."""

import subprocess
import sys
from typing import Annotated

import typer


def sync(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Names, ends of names, or paths.")],
) -> None:
    """Send runs to W&B, now or again. Recorded offline, never tracked, or interrupted: nothing is sent twice."""
    from lmx.runs import Run

    codes = []
    for run in [Run.open(name) for name in runs]:
        print(f"{run.name}: ", end="", flush=True)
        command = [sys.executable, "-P", "-m", "lmx.track.wandb_reader", str(run.path), "--online"]
        codes.append(subprocess.run(command, check=False).returncode)
    raise typer.Exit(max(codes))

"""`lmx sync`: send runs and comparisons to Weights & Biases, now or again."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer


def sync(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Names, ends of names, or paths.")],
) -> None:
    """Send runs or comparisons to W&B, now or again. Recorded offline, never tracked, or interrupted: nothing is sent twice."""
    from lmx.runs import Run, root

    readers = {}
    for name in runs:
        places = (Path(name), *(root() / f"{kind}{name}" for kind in ("", "compare-", "sweep-")))
        compared = [place for place in places if (place / "table.json").is_file()]
        reader = "lmx.track.wandb_comparison" if compared else "lmx.track.wandb_reader"
        readers[compared[0] if compared else Run.open(name).path] = reader
    codes = []
    for path, reader in readers.items():
        print(f"{path.name}: ", end="", flush=True)
        command = [sys.executable, "-P", "-m", reader, str(path), "--online"]
        codes.append(subprocess.run(command, check=False).returncode)
    raise typer.Exit(max(codes))

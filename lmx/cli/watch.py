"""`lmx watch`: follow a run from another terminal."""

from typing import Annotated

import typer


def watch(run: Annotated[str, typer.Argument(metavar="RUN", help="Name, end of a name, or path.")]) -> None:
    """Follow a run until it ends. Ctrl-C stops watching, not the run."""
    from rich.console import Console

    from lmx.runs import Run
    from lmx.track.progress import follow, summary

    opened, console = Run.open(run), Console(highlight=False)
    try:
        summary(follow(opened, opened.alive, console), console)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None

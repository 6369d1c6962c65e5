"""`lmx watch`: follow a run, a sweep or a comparison from another terminal."""

from typing import Annotated

import typer


def watch(
    run: Annotated[str, typer.Argument(metavar="RUN|SWEEP", help="Name, end of a name, or path; or that of a sweep.")],
) -> None:
    """Follow a run until it ends, or all runs of a sweep or comparison. Ctrl-C stops watching, nothing else."""
    from rich.console import Console

    from lmx.cli import watching
    from lmx.runs import Run, root
    from lmx.track.progress import follow, summary

    console = Console(highlight=False)
    try:
        if group := watching.group_of(run, root()):
            watching.watch(group, root(), console)
        else:
            opened = Run.open(run)
            summary(follow(opened, opened.alive, console), console)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None

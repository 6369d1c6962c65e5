"""`lmx train`: one run, from a config to a run directory."""

import sys
from typing import Annotated

import typer

from lmx.cli.completion import Overrides, Plugins


def train(
    overrides: Overrides = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Continue this run from its newest checkpoint.")
    ] = None,
    branch: Annotated[
        str | None, typer.Option(metavar="RUN@STEP", help="Continue a copy of a run towards another budget.")
    ] = None,
    join: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Take part in a run that another machine has begun with launcher=nodes."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="A few real steps; what the whole run would take.")
    ] = False,
    plugin: Plugins = None,
) -> None:
    """Train a model under an objective.

    \b
    lmx train                                causal LM on the embedded corpus, minutes on a CPU
    lmx train objective=mlm budget.steps=500
    lmx train data=text data.path=my/texts
    lmx train --resume 20261123-101500-clm-abcde
    lmx train --branch 20261123-101500-clm-abcde@500 budget.steps=800
    """
    from lmx.build import build
    from lmx.cli.fleet import sent
    from lmx.cli.launching import branched, created, joined, preview_cost, resumed, supervise
    from lmx.errors import LmxError

    typed = overrides or []
    if sum(map(bool, (resume, branch, join, dry_run))) > 1:
        raise LmxError(
            "lmx train must have at most one of --resume, --branch, --join and --dry-run, got several. Type one of them."
        )
    if dry_run:
        preview_cost(typed)
        return
    if join:
        sys.exit(joined(join, typed))
    run = resumed(resume, typed) if resume else branched(branch, typed) if branch else created(typed)
    launcher = build(run.config()["launcher"])
    sys.exit(sent(run, launcher.fleet()) if launcher.remote else supervise(run))

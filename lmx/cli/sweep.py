"""`lmx sweep`: runs along the values of one key or several."""

import json
import sys
from enum import StrEnum
from typing import Annotated

import typer

from lmx.cli.completion import Overrides, Plugins


class Sampler(StrEnum):
    grid = "grid"
    random = "random"
    tpe = "tpe"


def sweep(
    overrides: Overrides = None,
    sampler: Annotated[
        Sampler, typer.Option(help="Every combination; some, drawn at random; or what earlier ones suggest (Optuna).")
    ] = Sampler.grid,
    trials: Annotated[int, typer.Option(min=1, help="How many points random and tpe try.")] = 20,
    name: Annotated[str | None, typer.Option(help="Of the sweep; default: its keys.")] = None,
    evaluate: Annotated[
        str, typer.Option("--eval", help="Yardsticks and their settings, as lmx evaluate takes them, or all.")
    ] = "likelihood minimal_pairs cloze embeddings",
    tune: Annotated[
        str | None,
        typer.Option(
            metavar="KEY=A,B,C", help="Try each value on a quarter of the budget, for each point; keep the best."
        ),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=1, help="Seconds without a sign of life after which a run is killed.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would be run, and how long that takes.")] = False,
    plugin: Plugins = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON instead of tables.")] = False,
) -> None:
    """Sweep over the values of keys, in Hydra's grammar. A key counts where it exists; what is there is not made again.

    \b
    lmx sweep objective=mlm objective.rate=0.05,0.15,0.3 'seed=range(0,3)'
    lmx sweep objective=clm,mlm objective.rate=0.1,0.2 launcher=pool launcher.workers=2
    lmx sweep +recipe=mask_rate launcher=pool launcher.workers=2
    lmx sweep objective=mlm optim.lr=0.003,0.01,0.03 model.depth=2,4
    lmx sweep --sampler tpe --trials 20 'optim.lr=tag(log,interval(1e-3,1e-1))'
    """
    from lmx.cli import comparing, sweeping, tables
    from lmx.cli.aside import stoppable

    with stoppable():
        table = sweeping.sweep(
            overrides or [], sampler=sampler.value, number=trials, name=name, evaluations=evaluate.split(), tune=tune,
            timeout=timeout, plan=plan,
        )  # fmt: skip
    if table is None:
        return
    if as_json:
        print(json.dumps(table, indent=1))
    else:
        tables.show_sweep(table)
    sys.exit(comparing.code(table))

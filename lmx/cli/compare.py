"""`lmx compare`: several objectives at one budget, side by side."""

import json
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from lmx.cli.completion import Plugins, complete_arms
from lmx.errors import LmxError

MOST = 1000  # seeds


def compare(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ARM]... [KEY=VALUE]...",
            help="Objectives, each with settings of its own in quotes if need be; settings for all of them.",
            autocompletion=complete_arms,
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=MOST, help="Runs of each arm; arms are paired by seed.")] = 1,
    name: Annotated[str | None, typer.Option(help="Of the comparison; default: its arms.")] = None,
    runs: Annotated[str, typer.Option(help="Compare these runs, as they are: --runs RUN1 RUN2 …")] = "",
    evaluate: Annotated[
        str, typer.Option("--eval", help="Yardsticks and their settings, as lmx evaluate takes them, or all.")
    ] = "likelihood minimal_pairs cloze embeddings",
    tune: Annotated[
        str | None,
        typer.Option(
            metavar="KEY=A,B,C", help="Try each value on a quarter of the budget, for each arm; keep the best."
        ),
    ] = None,
    aa: Annotated[
        bool,
        typer.Option(
            "--aa", help="Add a control: the first arm again, under other seeds. It must not differ from itself."
        ),
    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would be run, and how long that takes.")] = False,
    plugin: Plugins = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON instead of tables.")] = False,
) -> None:
    """Compare objectives at one budget. Same trunk, tokenizer, data order and held-out text; seeds are paired.

    \b
    lmx compare clm mlm electra
    lmx compare clm mlm ul2 model=tiny budget.flops=1e14 --seeds 5
    lmx compare mlm "mlm objective.rate=0.4" span --name rates
    lmx compare clm mlm --tune optim.lr=0.005,0.01,0.02
    lmx compare --runs RUN1 RUN2
    """
    from lmx.cli import comparing, tables
    from lmx.cli.aside import stoppable

    words, seeds = counted(words or [], seeds)
    with stoppable():
        table = comparing.compare(
            words,
            seeds=seeds,
            name=name,
            chosen=runs,
            evaluations=evaluate.split(),
            plan=plan,
            tune=tune,
            aa=aa,
        )
    if table is None:
        return
    if as_json:
        print(json.dumps(table, indent=1))
    else:
        tables.show(table)
    sys.exit(comparing.code(table))


def counted(words: Sequence[str], seeds: int) -> tuple[list[str], int]:
    """`seeds=5` among the words is --seeds 5: a run has one seed, and its config no such key."""
    typed = [word.removeprefix("seeds=") for word in words if word.startswith("seeds=")]
    for number in typed:
        if not (number.isdigit() and 1 <= int(number) <= MOST):
            raise LmxError(f"seeds must be a whole number from 1 to {MOST}, got {number}.")
    left = [word for word in words if not word.startswith("seeds=")]
    return left, int(typed[-1]) if typed else seeds

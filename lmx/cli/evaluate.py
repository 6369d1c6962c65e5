"""`lmx evaluate`: yardsticks on a trained model."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from lmx.cli.completion import Plugins, complete_yardstick


def evaluate(
    run: Annotated[str, typer.Argument(metavar="RUN[@STEP]", help="Its newest checkpoint, or that of a step.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[YARDSTICK]... [YARDSTICK.KEY=VALUE]...",
            help="Which (see `lmx list eval/yardstick`; all, if none is named), and their settings.",
            autocompletion=complete_yardstick,
            show_default=False,
        ),
    ] = None,
    lm_eval: Annotated[
        str | None,
        typer.Option(
            metavar="TASKS", help="Tasks of lm-eval, or YAML files of tasks, with commas between: lm_eval.tasks."
        ),
    ] = None,
    runs: Annotated[str | None, typer.Option(help="The folder of the run, if not ./runs.")] = None,
    plugin: Plugins = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure a trained model with yardsticks that mean the same for every objective.

    \b
    lmx evaluate RUN
    lmx evaluate RUN minimal_pairs
    lmx evaluate RUN minimal_pairs.path=my/blimp
    lmx evaluate --lm-eval lambada_openai,blimp RUN
    """
    from lmx.cli.aside import stoppable
    from lmx.cli.evaluating import lines, measure, unmeasured, yardsticks
    from lmx.errors import LmxError
    from lmx.runs import Run, root

    name, _, step = run.partition("@")
    if step and not step.isdigit():
        raise LmxError(f"RUN@STEP must be a run and the number of a step, got {run}.")
    tasks = [] if lm_eval is None else ["lm_eval.tasks='" + lm_eval.replace("'", "\\'") + "'"]
    nodes = yardsticks([*(words or []), *tasks])
    opened = Run.open(name, root({"runs": runs}))
    with stoppable():
        failed = measure(opened, int(step) if step else None, nodes)
    found = lines(opened, int(step) if step else None, nodes)
    if as_json:
        print(json.dumps(found))
    elif found or not failed:
        show(found)
    if failed:
        raise unmeasured(failed, len(nodes))


def show(found: Sequence[dict[str, Any]]) -> None:
    """One row for each number, the parts of a yardstick below its whole."""
    from lmx.cli.list import show as table

    silent = [line["yardstick"] for line in found if not line["rows"]]
    columns = ["yardstick", "task", "metric", "scorer", "value", "±", "floor", "unit", "items"]
    if len(silent) < len(found):
        table(columns, (cells(line["yardstick"], row) for line in found for row in line["rows"]))
    if silent:
        print(
            f"nothing to measure with {', '.join(silent)}: the objective cannot be asked, or the corpus has no such items"
        )


def cells(name: str, row: dict[str, Any]) -> list[str]:
    floor = "" if row["floor"] is None else f"{row['floor']:.3f} {row['floor_name']}"
    error = "" if row["error"] is None else f"{row['error']:.3f}"
    return [
        name, row["task"], row["metric"], row["scorer"], f"{row['value']:.3f}", error, floor, row["unit"], str(row["items"]),
    ]  # fmt: skip

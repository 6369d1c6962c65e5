"""`lmx list`: what can be chosen."""

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

from lmx.cli.completion import Plugins, complete_group


def list_choices(
    group: Annotated[str | None, typer.Argument(help="One of them.", autocompletion=complete_group)] = None,
    plugin: Plugins = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    ledger: Annotated[
        bool, typer.Option("--ledger", help="Measure what each objective does with a text token.")
    ] = False,
) -> None:
    """List what can be chosen: groups, or one's choices; and recipes.

    \b
    lmx list
    lmx list objectives
    lmx list objectives --ledger
    """
    from lmx.errors import LmxError, nearest
    from lmx.recipes import recipes
    from lmx.schema.choices import choices, defaults, groups

    known, chosen = {name: choices(name) for name in groups()} | {"recipe": recipes()}, defaults()
    if group is not None and group not in known and group.removesuffix("s") in known:
        group = group.removesuffix("s")  # objectives
    if group is not None and group not in known:
        raise LmxError(f"group must be one of {', '.join(known)}, got '{group}'.{nearest(group, known)}")
    if ledger:
        if group != "objective":
            raise LmxError(
                f"--ledger must be asked of objective, got {group or 'no group'}. Type lmx list objective --ledger."
            )
        measured(list(known["objective"]), as_json)
    elif as_json:
        told = [{"group": name, "default": chosen.get(name), "choices": found} for name, found in known.items()]
        print(json.dumps(told if group is None else next(item for item in told if item["group"] == group), indent=2))
    elif group is None:
        show(
            ["group", "default", "choices"],
            ([name, chosen.get(name, ""), " ".join(found)] for name, found in known.items()),
        )
    else:
        rows = ([name, "default" if chosen.get(group) == name else "", about] for name, about in known[group].items())
        show([group, "", ""], rows)


def measured(names: Sequence[str], as_json: bool) -> None:
    """What every objective does with a sample of text: predictions, and model FLOPs a text token relative to CLM's."""
    from lmx.cli.launching import ask
    from lmx.config import plain

    entries = ask("lmx.ledger", lambda: [plain([f"objective={name}"]) for name in names])
    if as_json:
        print(json.dumps(entries, indent=2))
        return
    base = next(entry["flops_per_token"] for entry in entries if entry["objective"] == "clm")
    columns = ["objective", "tokens", "positions", "asked", "asked/token", "FLOPs/token", "parameters"]
    show(columns, (line(entry, base) for entry in entries))


def line(entry: dict[str, Any], base: float) -> list[str]:
    """A row of the table of `measured`."""
    from lmx.track.figures import short

    asked = sum(entry["predictions"].values())
    return [
        entry["objective"],
        f"{entry['tokens']:.0f}",
        f"{entry['positions']:.0f}",
        f"{asked:.0f}",
        f"{asked / entry['tokens']:.2f}",
        f"{entry['flops_per_token'] / base:.2f}",
        short(entry["parameters"]),
    ]


def show(columns: Sequence[str], rows: Iterable[Sequence[str]], console: Any = None) -> None:
    """A table; whole lines where no terminal limits the width."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = console or Console(highlight=False)
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    table.columns[0].style, table.columns[1].style = "cyan", "dim"
    for column in table.columns:
        column.overflow = "fold"  # names that are cut could be taken for each other
    for row in rows:
        table.add_row(*map(Text, row))
    if console.is_terminal:
        console.print(table)
    else:  # one line a row, however long
        wide = Console(highlight=False, width=1000, file=console.file)
        with wide.capture() as captured:
            wide.print(table)
        console.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))

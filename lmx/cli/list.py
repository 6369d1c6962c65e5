"""`lmx list`: what can be chosen."""

import json
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

from lmx.cli.completion import complete_group


def list_choices(
    group: Annotated[str | None, typer.Argument(help="One of them.", autocompletion=complete_group)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List what can be chosen: groups, or one's choices.

    \b
    lmx list
    lmx list objective
    """
    from lmx.errors import LmxError, nearest
    from lmx.schema.choices import choices, defaults, groups

    known, chosen = groups(), defaults()
    if group is not None and group not in known:
        raise LmxError(f"group must be one of {', '.join(known)}, got '{group}'.{nearest(group, known)}")
    if as_json:
        told = [{"group": name, "default": chosen.get(name), "choices": choices(name)} for name in known]
        print(json.dumps(told if group is None else next(item for item in told if item["group"] == group), indent=2))
    elif group is None:
        show(
            ["group", "default", "choices"],
            ([name, chosen.get(name, ""), " ".join(choices(name))] for name in known),
        )
    else:
        rows = ([name, "default" if chosen.get(group) == name else "", about] for name, about in choices(group).items())
        show([group, "", ""], rows)


def show(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table; whole lines where no terminal limits the width."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    table.columns[0].style, table.columns[1].style = "cyan", "dim"
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table, width=None if console.is_terminal else 1000, soft_wrap=not console.is_terminal)

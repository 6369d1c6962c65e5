"""`lmx show`: one example, as the model sees it."""

import json
from typing import Annotated, Any

import typer

from lmx.cli.completion import Overrides

SHOWN = 40  # positions of the attention picture


def show(
    overrides: Overrides = None,
    text: Annotated[str | None, typer.Option(help="Your own text instead of the corpus's first sample.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a picture.")] = False,
) -> None:
    """Show one example, as the model sees it. What it reads, what it is asked where, and who may attend to whom.

    \b
    lmx show objective=mlm
    lmx show objective=clm --text "The state of the union is strong."
    """
    from lmx.cli.launching import preview

    example = preview("example", overrides or [], text)
    if as_json:
        print(json.dumps(example))
    else:
        draw(example)


def draw(example: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    counts = ", ".join(f"{count} {term}" for term, count in example["counts"].items())
    console.print(
        Text.assemble(
            (example["objective"], "bold"),
            f"  {len(example['rows'][0]['tokens'])} positions, asked: {counts}",
        )
    )
    for row in example["rows"]:
        console.print(Text("\nreads"), style="bold")
        console.print(Text(" ").join(Text(token["piece"], style=style(token)) for token in row["tokens"]))
        console.print(Text("\nis asked"), style="bold")
        asked = [(place, token) for place, token in enumerate(row["tokens"]) if token["asked"]]
        console.print(
            Text("  ").join(
                Text.assemble((str(place), "dim"), "→", (token["target"], "green")) for place, token in asked
            )
        )
        console.print(Text.assemble(("\nmay attend to", "bold"), f"  {rule(row['visible'])}"))
        console.print(picture(row["visible"]), soft_wrap=True)
    console.print(
        Text.assemble(
            "\n",
            ("hidden or replaced", "black on yellow"),
            "  ",
            ("asked here", "underline green"),
            "  ",
            ("special", "cyan"),
            "   attention: row looks at column; █ both of two rows, ▀ ▄ one of them",
        )
    )


def style(token: dict[str, Any]) -> str:
    marks = ["underline green"] if token["asked"] else []
    if token["changed"]:
        marks.append("black on yellow")
    elif token["special"]:
        marks.append("cyan")
    return " ".join(marks) or "default"


def rule(visible: list[list[int]]) -> str:
    """The visibility matrix in words, where it has a name."""
    length = len(visible)
    part = f"; the first {SHOWN} of {length} positions:" if length > SHOWN else ":"
    if all(all(row) for row in visible):
        return f"everything{part}"
    if all(row == [1] * (place + 1) + [0] * (length - place - 1) for place, row in enumerate(visible)):
        return f"itself and what comes before{part}"
    return f"what is drawn{part}"


def picture(visible: list[list[int]]) -> str:
    """The visibility matrix, two rows to a line of half blocks, of the first positions."""
    rows = [row[:SHOWN] for row in visible[:SHOWN]]
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    blocks = {(1, 1): "█", (1, 0): "▀", (0, 1): "▄", (0, 0): "·"}
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return "\n".join("".join(blocks[pair] for pair in zip(upper, lower, strict=True)) for upper, lower in pairs)

"""A comparison in a terminal: what was spent, every yardstick by arms, native losses apart, what may be concluded."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from lmx.cli.list import show as columns
from lmx.report import listings


def show(table: Mapping[str, Any]) -> None:
    """On stdout; whole lines where it is no terminal."""
    console = Console(highlight=False)
    spent = listings.ledger(table)
    console.print()
    columns(["spent", *spent.head[1:]], [[row[0], row[1].replace("not matched", ""), *row[2:]] for row in spent.rows])
    for line in listings.conventions(table):
        console.print(Text(line), soft_wrap=not console.is_terminal)
    console.print()
    rows = listings.wholes(table)
    found = [[marked(row), row["unit"], *map(listings.value, row["cells"]), listings.floor(row)] for row in rows]
    columns(["yardstick", "unit", *listings.names(table), "floor"], found)
    unranked(rows, console)
    parts = len(table["rows"]) - len(rows)
    console.print(f"{parts} rows of single tasks: table.csv\n" if parts else "")
    for listing in (listings.overall(table), tested(table), listings.native(table)):
        if listing.rows:
            columns(listing.head, listing.rows)
            console.print()
    for sentence in table["words"]:
        style = "yellow" if sentence in table.get("cautions", ()) else ""
        console.print(Text(sentence, style=style), soft_wrap=not console.is_terminal)


def tested(table: Mapping[str, Any]) -> listings.Listing:
    """Contrasts of more than one pair; of single pairs there is nothing to say."""
    known = listings.contrasts(table)
    place = known.head.index("p")
    return listings.Listing(
        title=known.title,
        head=["tested", *known.head[1:]],
        rows=[row for row in known.rows if row[place] != "–"],
        arms=None,
    )


def marked(row: Mapping[str, Any]) -> str:
    return listings.label(row) + ("" if row["ranked"] else " (not ranked)")


def unranked(rows: list[Mapping[str, Any]], console: Console) -> None:
    """Why not, each reason once."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["reason"]:
            reasons.setdefault(row["reason"], []).append(f"{row['yardstick']} {row['metric']}")
    for reason, names in reasons.items():
        console.print(Text(f"not ranked: {', '.join(names)}: {reason}"), soft_wrap=not console.is_terminal)

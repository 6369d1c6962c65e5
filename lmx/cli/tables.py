"""A comparison in a terminal: what was spent, every yardstick by arms, native losses apart, what may be concluded."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from lmx.cli.list import show as columns
from lmx.report import listings

UNRANKED = "†"


def show(table: Mapping[str, Any]) -> None:
    """On stdout; whole lines where it is no terminal."""
    console = Console(highlight=False)
    spent = listings.ledger(table)
    console.print()
    columns(["spent", *spent.head[1:]], spent.rows)
    for line in listings.conventions(table):
        console.print(Text(line), soft_wrap=not console.is_terminal)
    console.print()
    rows = listings.wholes(table)
    found = [[marked(row), row["unit"], *map(listings.value, row["cells"]), listings.floor(row)] for row in rows]
    columns(["yardstick", "unit", *listings.names(table), "floor"], found)
    unranked(rows, console)
    parts = len(table["rows"]) - len(rows)
    console.print(f"{parts} rows of single tasks: table.csv\n" if parts else "")
    for listing in (
        listings.overall(table),
        *map(tested, table["rows"]),
        listings.control(table),
        listings.native(table),
    ):
        if listing.rows:
            columns(listing.head, listing.rows)
            console.print()
    say(table, console)


def say(table: Mapping[str, Any], console: Console) -> None:
    for sentence in table["words"]:
        style = "yellow" if sentence in table.get("cautions", ()) else ""
        console.print(Text(sentence, style=style), soft_wrap=not console.is_terminal)


def show_sweep(table: Mapping[str, Any]) -> None:
    """A line a point, then where the best lies, and what failed."""
    console = Console(highlight=False)
    console.print()
    points = listings.swept(table)
    columns(points.head, points.rows)
    console.print()
    say(table, console)
    for name, reason in table["failed"].items():
        console.print(Text(f"failed: {name}: {reason}", "red"), soft_wrap=not console.is_terminal)


def tested(row: Mapping[str, Any]) -> listings.Listing:
    """Contrasts of more than one pair; of single pairs there is nothing to say."""
    rows = [
        [
            f"{one['arm']} - {one['against']}", "",
            f"{one['mean']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]", f"{one['p_holm']:.2g}", f"{one['detectable']:.3f}",
            "–" if one["needed"] is None else str(one["needed"]), one["verdict"],
        ]
        for one in row["contrasts"]
        if one["p_holm"] is not None
    ]  # fmt: skip
    title = f"tested: {listings.label(row)}, {row['unit']}"
    head = [title, "", "difference", "p (Holm)", "detectable", "seeds needed", "verdict"]
    return listings.Listing(title=title, head=head, rows=rows, arms=None)


def marked(row: Mapping[str, Any]) -> str:
    return listings.label(row) + ("" if row["ranked"] else f" {UNRANKED}")


def unranked(rows: list[Mapping[str, Any]], console: Console) -> None:
    """Why not, each reason once."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["reason"]:
            reasons.setdefault(row["reason"], []).append(f"{row['yardstick']} {row['metric']}")
    for reason, names in reasons.items():
        console.print(Text(f"{UNRANKED} not ranked: {', '.join(names)}: {reason}"), soft_wrap=not console.is_terminal)

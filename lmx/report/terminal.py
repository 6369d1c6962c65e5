"""Examples on a terminal: sheets side by side where there is room, else one below the other."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from lmx.report.sheet import LEGEND, Cell, Grid, Sheet, Strip, sheet

NARROWEST = 72  # columns of a sheet beside another
MOST = 48  # positions of a grid; --html and --json have all
LABEL = 12  # columns of a token's name beside a grid
STYLES = {
    "mask": "black on yellow",
    "sentinel": "black on cyan",
    "replaced": "black on magenta",
    "special": "cyan",
    "asked": "underline",
    "target": "green",
    "number": "dim",
    "nothing": "dim",
    "text": "",
}


def draw(examples: Sequence[dict[str, Any]], width: int) -> list[Text]:
    """The lines of all sheets and a legend."""
    sheets = [sheet(example) for example in examples]
    beside = max(1, min(len(sheets), (width + 3) // (NARROWEST + 3)))
    each = (width + 3) // beside - 3
    lines: list[Text] = []
    for start in range(0, len(sheets), beside):
        lines += [*next_to([drawn(one, each) for one in sheets[start : start + beside]], " │ ", each), Text()]
    return [*lines, *legend(examples, width)]


def drawn(one: Sheet, width: int) -> list[Text]:
    title = [Text(f" {one.name} ", "bold reverse"), *Text(one.about, "dim").split(" ")]
    lines = [*wrapped(title, width), Text()]
    for strip in one.strips:
        lines += [*heading(strip.title, strip.note, width), *bands(strip, width), Text()]
    for row in rows_of([picture(grid, width) for grid in one.grids], width):
        lines += [*next_to(row, "   "), Text()]
    for fact in one.facts:
        lines += wrapped(Text(fact, style="italic").split(" "), width)
    return lines if one.facts else lines[:-1]


def heading(title: str, note: str, width: int) -> list[Text]:
    return wrapped([Text(title, "bold"), *Text(f" {note}", "dim").split(" ")], width)


def bands(strip: Strip, width: int) -> list[Text]:
    """The strip, broken where the width ends; every band has the lines' names."""
    margin = max(map(cell_len, strip.lines)) + 2
    columns = list(zip(*strip.lines.values(), strict=True))
    sizes = [min(max(cell_len(cell.text) for cell in column), width - margin) + 1 for column in columns]
    found = []
    for start, stop in pairwise([*cuts(sizes, width - margin + 1), len(sizes)]):
        for number, name in enumerate(strip.lines):
            label = Text(f"{name:<{margin}}", style="dim" if name == "place" else "")
            cells = [fitted(columns[place][number], sizes[place] - 1) for place in range(start, stop)]
            found.append(Text().append_text(label).append_text(Text(" ").join(cells)))
        if stop < len(columns):
            found.append(Text())
    return found


def cuts(sizes: Sequence[int], room: int) -> list[int]:
    """Where each band begins: as few bands as fit into `room`, as equal as they can be."""

    def greedy(room: int) -> list[int]:
        starts, used = [], room + 1
        for place, size in enumerate(sizes):
            if used + size > room:
                starts.append(place)
                used = 0
            used += size
        return starts

    least = greedy(room)
    while room > max(sizes, default=0) and len(greedy(room - 1)) == len(least):
        room -= 1
    return greedy(room)


def fitted(cell: Cell, size: int) -> Text:
    """The cell in that many columns, its colour under its text only."""
    shown = cell.text if cell_len(cell.text) <= size else set_cell_size(cell.text, size - 1).rstrip() + "…"
    return Text.assemble((shown, style(cell)), " " * (size - cell_len(shown)))


def style(cell: Cell) -> str:
    return f"{STYLES[cell.style]} {STYLES['asked'] if cell.asked else ''}".strip()


def picture(grid: Grid, width: int) -> list[Text]:
    """A grid of at most MOST positions, its queries named, a line between documents."""
    label = min(LABEL, max((cell_len(cell.text) for cell in grid.rows.values()), default=0))
    room = width - label - 5 - len(grid.borders[1])
    columns = min(len(grid.columns), MOST, room)
    wide = 2 if 2 * columns <= room else 1
    rows = list(grid.rows.items())[:MOST]
    whole = (len(rows), columns) == (len(grid.rows), len(grid.columns))
    cut = "" if whole else f", the first {columns} of {len(grid.columns)}"
    lines = [*heading(grid.title, grid.note + cut, width), ruler(grid, columns, wide, label)]
    for query, cell in rows:
        if query in grid.borders[0]:
            lines.append(line_between(grid, columns, wide, label))
        size = min(label, cell_len(cell.text))
        line = Text(" " * (label - size)).append_text(fitted(cell, size)).append(f" {query:>3} ", "dim")
        for key in range(columns):
            line.append("│" if key in grid.borders[1] else "", "yellow")
            line.append(*(("█" * wide, "blue") if grid.sees[query][key] else ("·".ljust(wide), "dim")))
        lines.append(line)
    return lines


def ruler(grid: Grid, columns: int, wide: int, label: int) -> Text:
    """The last digit of each key's place."""
    line = Text(" " * (label + 5))
    for key in range(columns):
        line.append(" " if key in grid.borders[1] else "").append(str(key % 10).ljust(wide))
    line.stylize("dim")
    return line


def line_between(grid: Grid, columns: int, wide: int, label: int) -> Text:
    parts = ["┼" * (key in grid.borders[1]) + "─" * wide for key in range(columns)]
    return Text(" " * (label + 5) + "".join(parts), style="yellow")


def rows_of(blocks: Sequence[list[Text]], width: int) -> list[list[list[Text]]]:
    """The blocks, as many beside each other as fit."""
    rows: list[list[list[Text]]] = []
    used = width
    for block in blocks:
        size = max(line.cell_len for line in block) + 3
        if used + size > width + 3:
            rows.append([])
            used = 0
        rows[-1].append(block)
        used += size
    return rows


def next_to(blocks: Sequence[list[Text]], between: str, least: int = 0) -> list[Text]:
    """Blocks of lines side by side, each at least so wide."""
    sizes = [max(least, *(line.cell_len for line in block)) for block in blocks]
    lines = []
    for number in range(max(map(len, blocks))):
        line = Text()
        for place, (block, size) in enumerate(zip(blocks, sizes, strict=True)):
            here = block[number] if number < len(block) else Text()
            line.append_text(here)
            if place < len(blocks) - 1:
                line.append(" " * (size - here.cell_len)).append(between, "dim")
        lines.append(line)
    return lines


def wrapped(words: Iterable[Text], width: int, between: str = " ") -> list[Text]:
    """Broken between words."""
    lines: list[Text] = []
    for word in words:
        if lines and lines[-1].cell_len + len(between) + word.cell_len <= width:
            lines[-1].append(between).append_text(word)
        else:
            lines.append(Text().append_text(word))
    return lines


def legend(examples: Sequence[dict[str, Any]], width: int) -> list[Text]:
    """The colours that occur."""
    tokens = [
        token
        for example in examples
        for row in example["rows"]
        for side in filter(None, (row, row.get("source")))
        for token in side["tokens"]
    ]
    used = {token["kind"] for token in tokens} | (
        {"asked", "target"} if any(token["asked"] for token in tokens) else set()
    )
    parts = [Text(words, style=STYLES[name]) for name, words in LEGEND.items() if name in used]
    return wrapped([*parts, Text("grid: row looks at column", style="dim")], width, "   ")

"""Examples as one page that needs nothing else: no script, no network; all text escaped; light and dark; as narrow as a phone."""

from collections.abc import Sequence
from html import escape
from itertools import groupby
from typing import Any

from lmx.report.sheet import LEGEND, Cell, Grid, Sheet, Strip, sheet

SIDE = 14  # pixels of a cell of a grid
LETTER = 7  # pixels of a letter beside it
LONGEST = 16  # letters of a name beside it
BAND = 5  # positions before the lines are named again

CSS = """
:root { color-scheme: light dark; --page: #fdfdfc; --ink: #1c1e21; --faint: #6b7078; --line: #d9dadd;
  --sees: #3566b0; --blind: #eceef1; --border: #d9480f;
  --mask: #ffd866; --sentinel: #9be3ea; --replaced: #f3b1dc; --special: #0b7285; --target: #1b7f3b; }
@media (prefers-color-scheme: dark) { :root { --page: #17181b; --ink: #e6e6e3; --faint: #9a9fa8; --line: #3a3d43;
  --sees: #6ea0ec; --blind: #25272c; --border: #ff922b;
  --mask: #8a6a00; --sentinel: #0e6a73; --replaced: #86306b; --special: #5fd0e0; --target: #6bd48c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 100rem; background: var(--page); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.25rem; margin: 0 0 .25rem; }
h2 { font-size: 1.1rem; margin: 0; }
h3 { font-size: .95rem; margin: 1rem 0 .25rem; }
small, .faint { color: var(--faint); font-weight: 400; }
main { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 36rem), 1fr)); }
article { border: 1px solid var(--line); border-radius: .5rem; padding: .9rem; min-width: 0; overflow-wrap: anywhere; }
.strip { display: flex; flex-wrap: wrap; gap: .6rem 1.2rem; font: 13px/1.5 ui-monospace, monospace; }
.band { display: flex; gap: .35rem; max-width: 100%; overflow-x: auto; white-space: nowrap; }
.band div { display: flex; flex-direction: column; align-items: flex-start; }
.band .names { color: var(--faint); background: var(--page); padding-right: .2rem; position: sticky; left: 0; }
.band span, .legend span { padding: 0 .2rem; border-radius: .2rem; }
.mask { background: var(--mask); }
.sentinel { background: var(--sentinel); }
.replaced { background: var(--replaced); }
.special { color: var(--special); }
.target { color: var(--target); }
.number, .nothing { color: var(--faint); }
.asked { text-decoration: underline; text-underline-offset: .2em; }
.grids { display: flex; flex-wrap: wrap; gap: .5rem 2rem; }
figure { margin: 0; max-width: 100%; }
svg { max-width: 100%; height: auto; display: block; }
svg text { font: 11px ui-monospace, monospace; fill: var(--faint); }
.legend { display: flex; flex-wrap: wrap; gap: .4rem 1rem; margin: .75rem 0 1rem; }
ul { margin: .75rem 0 0; padding-left: 1.1rem; color: var(--faint); }
"""


def document(examples: Sequence[dict[str, Any]]) -> str:
    sheets = [sheet(example) for example in examples]
    names = ", ".join(one.name for one in sheets)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(names)}: as the model sees it</title><style>{CSS}</style></head><body>\n"
        f"<h1>As the model sees it</h1>{legend()}\n"
        f"<main>{''.join(map(article, sheets))}</main></body></html>\n"
    )


def legend() -> str:
    words = "".join(f'<span class="{name}">{escape(words)}</span>' for name, words in LEGEND.items())
    return (
        f'<div class="legend">{words}<span class="faint">grid: row looks at column; lines part documents</span></div>'
    )


def article(one: Sheet) -> str:
    facts = "".join(f"<li>{escape(fact)}</li>" for fact in one.facts)
    return (
        f"<article><h2>{escape(one.name)}</h2><small>{escape(one.about)}</small>"
        f"<p>{escape(' '.join(cell.text for cell in one.text))}</p>"
        f"{''.join(map(positions, one.strips))}"
        f'<div class="grids">{"".join(map(figure, one.grids))}</div>'
        f"{f'<ul>{facts}</ul>' if facts else ''}</article>\n"
    )


def heading(title: str, note: str) -> str:
    return f"<h3>{escape(title)} <small>{escape(note)}</small></h3>"


def positions(strip: Strip) -> str:
    """A column for each position, in bands of a few that have the lines' names; what is wider than a phone scrolls."""
    names = "".join(f"<span>{escape(name)}</span>" for name in strip.lines)
    columns = [f"<div>{''.join(map(span, cells))}</div>" for cells in zip(*strip.lines.values(), strict=True)]
    bands = ["".join(columns[start : start + BAND]) for start in range(0, len(columns), BAND)]
    drawn = "".join(f'<div class="band"><div class="names">{names}</div>{band}</div>' for band in bands)
    return f'{heading(strip.title, strip.note)}<div class="strip">{drawn}</div>'


def span(cell: Cell) -> str:
    return f'<span class="{cell.style}{" asked" * cell.asked}">{escape(cell.text)}</span>'


def figure(grid: Grid) -> str:
    """A grid as SVG, a rectangle for each run of visible keys."""
    rows, columns = len(grid.rows), len(grid.columns)
    left = (max((min(len(cell.text), LONGEST) for cell in grid.rows.values()), default=0) + 5) * LETTER
    width, height = left + columns * SIDE + 1, (rows + 1) * SIDE + 1
    parts = [rect(left, SIDE, columns * SIDE, rows * SIDE, "blind")]
    parts += [label(left + (key + 0.5) * SIDE, 11, str(key % 10), "middle") for key in range(columns)]
    for row, (query, name) in enumerate(grid.rows.items(), start=1):
        top = row * SIDE
        parts.append(label(left - 4, top + 11, f"{short(name.text)} {query:>3}", "end"))
        parts += [rect(left + key * SIDE, top, size * SIDE, SIDE, "sees") for key, size in runs(grid.sees[query])]
    parts += [
        line(left, (row + 1) * SIDE, left + columns * SIDE, (row + 1) * SIDE, "page", 0.5) for row in range(1, rows)
    ]
    parts += [line(left + key * SIDE, SIDE, left + key * SIDE, height, "page", 0.5) for key in range(1, columns)]
    parts += [
        line(left, row * SIDE, width, row * SIDE, "border", 2)
        for row, query in enumerate(grid.rows, start=1)
        if query in grid.borders[0]
    ]
    parts += [line(left + key * SIDE, SIDE, left + key * SIDE, height, "border", 2) for key in sorted(grid.borders[1])]
    name = escape(f"{grid.title}: {grid.note}", quote=True)
    box = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    drawing = f'<svg role="img" aria-label="{name}" {box}>{"".join(parts)}</svg>'
    return f"<figure>{heading(grid.title, grid.note)}{drawing}</figure>"


def runs(sees: Sequence[int]) -> list[tuple[int, int]]:
    """(first key, how many) of each run of visible ones."""
    groups = [(bool(value), len(list(group))) for value, group in groupby(sees)]
    starts = [sum(size for _, size in groups[:number]) for number in range(len(groups))]
    return [(start, size) for start, (value, size) in zip(starts, groups, strict=True) if value]


def short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def rect(x: float, y: float, width: float, height: float, color: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="var(--{color})"/>'


def line(x1: float, y1: float, x2: float, y2: float, color: str, width: float) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="var(--{color})" stroke-width="{width}"/>'


def label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" xml:space="preserve">{escape(text)}</text>'

"""The figures of a comparison: of each the charts that a page can redraw, and one chart for a paper."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import altair as alt

from lmx.compare.results import Results
from lmx.report import charts
from lmx.report.charts import Look
from lmx.report.curves import AXES, Panel, bits_panel, native_panels, yardstick_panels
from lmx.report.frontier import FEWEST, sentences


@dataclass(frozen=True, kw_only=True)
class Figure:
    """`panels` are (title, the arm it belongs to or nothing, chart); `part` is where on the page it stands."""

    name: str
    part: str  # own, curves, frontier, scores, tasks or cross
    title: str
    notes: Sequence[str] = field(default=())
    panels: Sequence[tuple[str, str | None, charts.Drawing]] = field(default=())
    paper: alt.TopLevelMixin


def figures(table: Mapping[str, Any], arms: Sequence[Results]) -> list[Figure]:
    """All that there are data for, in the order of the page."""
    names = [arm["name"] for arm in table["arms"]]
    by = table["matched"]["by"]
    axis = by if by in AXES else "flops"
    live, paper = Look(names, axis, static=False), Look(names, axis, static=True)
    flagged = {name for name in names if table["flags"].get(name) or table["flags"].get("A/A")}
    bits = bits_panel(arms)
    panels = [*([bits] if bits else []), *yardstick_panels(arms, table["rows"])]
    return [
        *scored(table["rows"], live, paper),
        *own(native_panels(arms), live, paper),
        *(drawn(panel, live, paper) for panel in panels),
        *(found for panel in panels if (found := frontier(panel, flagged | at_floor(panel, table["rows"]), names))),
        *cross(table["rows"], names),
    ]


def own(panels: Sequence[Panel], live: Look, paper: Look) -> list[Figure]:
    if not panels:
        return []
    each = [(panel.title, panel.curves[0].arm, charts.curves(panel, live)) for panel in panels]
    static = charts.beside([charts.curves(panel, paper) for panel in panels])
    return [Figure(name="validation", part="own", title="Own loss", panels=each, paper=static)]


def drawn(panel: Panel, live: Look, paper: Look) -> Figure:
    reason = [f"Not ranked: {panel.reason}."] if panel.reason else []
    return Figure(
        name=file_name("curve", panel.title if panel.unit != "bits/byte" else f"{panel.title} bits_per_byte"),
        part="curves",
        title=f"{panel.title}, {panel.unit}" if panel.unit else panel.title,
        notes=reason,
        panels=[("", None, charts.curves(panel, live))],
        paper=charts.curves(panel, paper),
    )


def frontier(panel: Panel, flagged: set[str], names: Sequence[str]) -> Figure | None:
    """Score against FLOPs on a logarithmic axis; nothing for what is not ranked, or grew at too few places."""
    curves = [one for one in panel.curves if len(one.points) >= FEWEST]
    if panel.reason or len(curves) < 2:
        return None
    panel = replace(panel, curves=curves)
    live, paper = (Look(names, "flops", static=static) for static in (False, True))
    return Figure(
        name=file_name("frontier", f"{panel.title} {panel.unit}"),
        part="frontier",
        title=f"{panel.title}, {panel.unit}",
        notes=sentences(panel, flagged),
        panels=[("", None, charts.curves(panel, live, log=True))],
        paper=charts.curves(panel, paper, log=True),
    )


def at_floor(panel: Panel, rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Arms whose last score anybody has who knows nothing."""
    cells = [cell for row in rows if row["key"] == panel.title for cell in row["cells"] if cell]
    return {cell["arm"] for cell in cells if cell.get("above_floor") is False}


def scored(rows: Sequence[Mapping[str, Any]], live: Look, paper: Look) -> list[Figure]:
    """Ranked rows: whole yardsticks by unit, then the tasks of each yardstick by unit."""
    having = {row["yardstick"] for row in rows if not row["task"]}
    ranked = [row for row in rows if row["ranked"]]
    wholes = [row for row in ranked if not row["task"] or row["yardstick"] not in having]
    tasks = [row for row in ranked if row["task"] and row["yardstick"] in having]
    found = []
    for unit, some in groupby(sorted(wholes, key=unit_of), key=unit_of):
        found.append(dots("scores", file_name("scores", unit), unit, list(some), live, paper))
    for (yardstick, unit), some in groupby(tasks, key=lambda row: (row["yardstick"], row["unit"])):
        found.append(dots("tasks", file_name("tasks", f"{yardstick} {unit}"), yardstick, list(some), live, paper))
    return found


def dots(part: str, name: str, title: str, rows: Sequence[Mapping[str, Any]], live: Look, paper: Look) -> Figure:
    unit = unit_of(rows[0])
    live_chart, paper_chart = (charts.scores(rows, unit, look) for look in (live, paper))
    return Figure(name=name, part=part, title=title, panels=[("", None, live_chart)], paper=paper_chart)


def unit_of(row: Mapping[str, Any]) -> str:
    return row["unit"]


def cross(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Figure]:
    matrix = [row for row in rows if row["yardstick"] == "cross"]
    if not matrix:
        return []
    return [Figure(name="cross", part="cross", title="Every model on every denoiser", paper=charts.heat(matrix, names))]


def file_name(kind: str, title: str) -> str:
    """Letters, digits, - and _ alone: task names may have anything."""
    return "-".join([kind, *"".join(sign if sign.isalnum() or sign == "_" else " " for sign in title).split()])

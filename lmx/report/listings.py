"""All of a comparison that is text in rows and columns, for its page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmx.track.figures import clock, short

SHARED = {"flops": "FLOPs"}
FLOOR = "°"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Text in rows and columns; columns from `arms` on are one an arm, as many as there are arms."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    arms: int | None  # the first of their columns


def ledger(table: Mapping[str, Any]) -> Listing:
    """What each arm spent, mean over seeds, and what of it was matched."""
    matched = table["matched"]["by"]
    rows = []
    for key in ("flops", "tokens", "positions", "targets", "steps", "epochs", "seconds"):
        told = f"matched to {table['matched']['mismatch']:.1%}" if key == matched else ""
        shown = clock if key == "seconds" else short
        rows.append([SHARED.get(key, key), told, *(shown(arm["ledger"][key]) for arm in table["arms"])])
    each = [arm["ledger"]["flops"] / arm["ledger"]["tokens"] for arm in table["arms"]]
    rows.append(["FLOPs a token", "", *map(short, each)])
    sizes = [arm.get("parameters") for arm in table["arms"]]
    if any(sizes):
        rows.append(["parameters", "", *("–" if size is None else short(size) for size in sizes)])
    return Listing(title="Spent", head=["", "", *names(table)], rows=rows, arms=2)


def conventions(table: Mapping[str, Any]) -> list[str]:
    """Which arms are encoder-decoders, and of what size."""
    return [f"{arm['name']}: {arm['convention']}." for arm in table["arms"] if arm.get("convention")]


def wholes(table: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Rows of whole yardsticks, and the ranked tasks of those that have no whole."""
    having = {row["yardstick"] for row in table["rows"] if not row["task"]}
    return [row for row in table["rows"] if not row["task"] or (row["yardstick"] not in having and row["ranked"])]


def yardsticks(table: Mapping[str, Any]) -> Listing:
    return rows_of("Yardsticks", wholes(table), table)


def swept(table: Mapping[str, Any]) -> Listing:
    """A line for each point of a sweep: its values, its scores in what is tested, and what it spent."""
    sweep = table["sweep"]
    rows = [row for row in [*table["rows"], *sweep["own"]] if row["primary"]]
    cells = {(row["key"], cell["arm"]): value(cell) for row in rows for cell in row["cells"] if cell}
    told = [
        [
            *(plain(sweep["points"][arm["name"]][key]) for key in sweep["keys"]),
            *(cells.get((row["key"], arm["name"]), "–") for row in rows),
            str(len(arm["seeds"])), short(arm["ledger"]["tokens"]), short(arm["ledger"]["flops"]),
            clock(arm["ledger"]["seconds"]),
        ]
        for arm in table["arms"]
    ]  # fmt: skip
    head = [*sweep["keys"], *(f"{label(row)} ({row['unit']})" for row in rows), "seeds", "tokens", "FLOPs", "time"]
    return Listing(title="Points", head=head, rows=told, arms=None)


def plain(swept: Any) -> str:
    return "–" if swept is None else swept if isinstance(swept, str) else json.dumps(swept)


def tasks(table: Mapping[str, Any]) -> list[Listing]:
    """A listing for each yardstick that has tasks."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in table["rows"]:
        if row["task"]:
            found.setdefault(row["yardstick"], []).append(row)
    return [rows_of(name, rows, table) for name, rows in found.items()]


def rows_of(title: str, rows: Sequence[Mapping[str, Any]], table: Mapping[str, Any]) -> Listing:
    head = [title.lower(), "unit", *names(table), "floor", "ranked"]
    return Listing(title=title, head=head, rows=[told(row) for row in rows], arms=2)


def told(row: Mapping[str, Any]) -> list[str]:
    ranked = f"yes, {row['better']} is better" if row["ranked"] else f"no: {row['reason']}"
    return [label(row), row["unit"], *map(value, row["cells"]), floor(row), ranked]


def label(row: Mapping[str, Any]) -> str:
    return " ".join(filter(None, [row["yardstick"], row["task"], row["metric"]]))


def overall(table: Mapping[str, Any]) -> Listing:
    """Tasks in one number, where 0 is the floor and 1 all right; then how often an arm is ahead of that of the column."""
    rows = []
    for one in table.get("overall", ()):
        few = ", too few seeds for intervals" if one["arms"][0]["low"] is None else ""
        told = f"{one['arms'][0]['name']} of {one['tasks']} tasks{few}"
        rows.append([f"{one['yardstick']} {one['metric']}", told, *map(interval, one["arms"])])
        known = {(pair["arm"], pair["against"]): pair for pair in one["pairs"] if pair["probability"] is not None}
        known |= {(other, arm): mirrored(pair) for (arm, other), pair in known.items()}
        having = [arm for arm in names(table) if any(arm in pair for pair in known)]
        for arm in having:
            cells = [interval(known[arm, other]) if (arm, other) in known else "" for other in names(table)]
            rows.append([f"P({arm} > …)", "", *cells])
    return Listing(title="Over tasks", head=["over tasks (0 floor, 1 all right)", "", *names(table)], rows=rows, arms=2)


def mirrored(pair: Mapping[str, Any]) -> dict[str, Any]:
    """P(A < B) of P(A > B), ties being half."""
    low, high = (None if pair[end] is None else 1 - pair[end] for end in ("high", "low"))
    return {"probability": 1 - pair["probability"], "low": low, "high": high}


def interval(one: Mapping[str, Any]) -> str:
    ends = "" if one["low"] is None else f" [{one['low']:.3f}, {one['high']:.3f}]"
    return f"{one.get('value', one.get('probability')):.3f}{ends}"


def value(cell: Mapping[str, Any] | None) -> str:
    """Mean over seeds with the lowest and the highest, or with the standard error over items of one seed; the scorer."""
    if cell is None:
        return "–"
    return " ".join(filter(None, [f"{cell['mean']:.3f}{low_mark(cell)}", spread(cell), cell["scorer"]]))


def low_mark(cell: Mapping[str, Any]) -> str:
    """Behind a score that is not clearly better than its floor."""
    return FLOOR if cell.get("above_floor") is False else ""


def spread(cell: Mapping[str, Any]) -> str:
    if len(cell["values"]) > 1:
        return f"[{min(cell['values']):.3f}, {max(cell['values']):.3f}]"
    return "" if cell["error"] is None else f"±{cell['error']:.3f}"


def floor(row: Mapping[str, Any]) -> str:
    floors = {(cell["floor"], cell["floor_name"]) for cell in row["cells"] if cell and cell["floor"] is not None}
    return ", ".join(f"{number:.3f} {name}" for number, name in sorted(floors))


def native(table: Mapping[str, Any]) -> Listing:
    """Own losses at the end, each with its best constant; nothing here may be ranked."""
    terms = {term: found["unit"] for one in table["native"] for term, found in one["terms"].items()}
    rows = [[term, unit, *(loss(one["terms"].get(term)) for one in table["native"])] for term, unit in terms.items()]
    return Listing(title="Own loss", head=["own loss, never ranked", "unit", *names(table)], rows=rows, arms=2)


def loss(found: Mapping[str, Any] | None) -> str:
    if found is None or found["value"] is None:
        return "–"
    beside = "" if found["constant"] is None else f" (constant {found['constant']:.3f})"
    return f"{found['value']:.3f}{beside}"


def contrasts(table: Mapping[str, Any]) -> Listing:
    """Of each primary row, every two arms, positive where the one named first is better."""
    rows = []
    for row in table["rows"]:
        for one in row["contrasts"]:
            difference = "–" if one["mean"] is None else f"{one['mean']:+.3f} {row['unit']}"
            ends = "–" if one["low"] is None else f"[{one['low']:+.3f}, {one['high']:+.3f}]"
            rows.append([
                label(row), f"{one['arm']} against {one['against']}", f"{one['n']}", difference,
                ends, probability(one["p"]), probability(one["p_holm"]),
                "–" if one["detectable"] is None else f"{one['detectable']:.3f}",
                "–" if one["needed"] is None else f"{one['needed']}", one["verdict"],
            ])  # fmt: skip
    head = ["row", "arms", "pairs", "difference", "95 % interval", "p", "p (Holm)", "detectable", "seeds needed"]
    return Listing(title="Contrasts", head=[*head, "verdict"], rows=rows, arms=None)


def control(table: Mapping[str, Any]) -> Listing:
    """An arm against itself under other seeds, of each tested row."""
    known = table.get("control") or {"rows": (), "arm": ""}
    rows = [
        [
            one["row"], str(one["n"]), f"{one['mean']:+.3f}", f"[{one['interval']['low']:+.3f}, {one['interval']['high']:+.3f}]",
            f"{one['detectable']:.3f}",
        ]
        for one in known["rows"]
    ]  # fmt: skip
    title = f"A/A: {known['arm']} against itself"
    return Listing(
        title=title, head=[title, "pairs", "difference", "95 % interval", "detectable"], rows=rows, arms=None
    )


def probability(p: float | None) -> str:
    return "–" if p is None else f"{p:.2g}"


def differences(table: Mapping[str, Any]) -> Listing:
    rows = [
        [key, *("–" if value is None else value if isinstance(value, str) else json.dumps(value) for value in values)]
        for key, values in table["differences"].items()
    ]
    return Listing(title="Config differences", head=["key", *names(table)], rows=rows, arms=1)


def tuned(table: Mapping[str, Any]) -> Listing:
    """What a grid chose for each arm, and what it chose from."""
    rows = []
    for name, choice in table.get("tuned", {}).items():
        losses = ", ".join(f"{key}: {loss:.3f}" for key, loss in choice["losses"].items() if loss is not None)
        rows.append([name, choice["key"], f"{choice['value']:g}", losses])
    return Listing(title="Tuned", head=["arm", "key", "chosen", "validation loss by value"], rows=rows, arms=None)


def environment(runs: Sequence[Mapping[str, Any]]) -> Listing:
    """Each fact once, or every value that it has over the runs."""
    facts: dict[str, dict[str, None]] = {}
    for run in runs:
        for key, value in run.items():
            facts.setdefault(key, {})[short(value) if isinstance(value, float) else f"{value}"] = None
    rows = [[key, ", ".join(values)] for key, values in facts.items()]
    return Listing(title="Environment", head=["what", "value"], rows=rows, arms=None)


def runs(table: Mapping[str, Any]) -> Listing:
    rows = [[arm["name"], ", ".join(arm["runs"])] for arm in table["arms"]]
    if again := table.get("control"):
        rows.append([f"{again['arm']} again", ", ".join(again["runs"])])
    return Listing(title="Runs", head=["arm", "runs"], rows=rows, arms=None)


def names(table: Mapping[str, Any]) -> list[str]:
    return [arm["name"] for arm in table["arms"]]

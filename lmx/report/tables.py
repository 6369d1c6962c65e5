"""The table of a comparison for other programs: CSV with every value, Markdown and LaTeX with what is ranked."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from lmx.report.listings import low_mark

COLUMNS = (
    "yardstick", "task", "metric", "unit", "better", "ranked", "reason", "arm", "scorer", "comparability", "seed", "value",
    "error", "items", "floor", "floor_name", "above_floor",
)  # fmt: skip
LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "°": r"$^\circ$",
})  # fmt: skip


def as_csv(table: dict[str, Any]) -> str:
    """One line for each value of each arm and seed, with what was swept."""
    out = io.StringIO()
    swept = table.get("sweep", {"keys": [], "points": {}, "own": []})
    writer = csv.DictWriter(out, [*COLUMNS, *swept["keys"]], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in [*table["rows"], *swept["own"]]:
        for cell in filter(None, row["cells"]):
            for seed, value in zip(cell["seeds"], cell["values"], strict=True):
                writer.writerow(row | cell | {"seed": seed, "value": value} | swept["points"].get(cell["arm"], {}))
    return out.getvalue()


def as_markdown(table: dict[str, Any]) -> str:
    head, *rows = ([cell.replace("|", "\\|") for cell in row] for row in cells(table))
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def as_latex(table: dict[str, Any]) -> str:
    """For the package booktabs."""
    head, *rows = ([cell.translate(LATEX) for cell in row] for row in cells(table))
    body = "".join(f"{' & '.join(row)} \\\\\n" for row in rows)
    begin = f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}\n\\toprule\n{' & '.join(head)} \\\\\n\\midrule\n"
    return f"{begin}{body}\\bottomrule\n\\end{{tabular}}\n"


def cells(table: dict[str, Any]) -> Iterator[Sequence[str]]:
    """A head, then the ranked rows: what is measured, each arm's mean, the floor."""
    yield ["", *(arm["name"] for arm in table["arms"]), "floor"]
    for row in table["rows"]:
        if row["ranked"]:
            name = " ".join(filter(None, [row["yardstick"], row["task"], row["metric"]]))
            yield [f"{name} ({row['unit']})", *map(shown, row["cells"]), floor(row)]


def shown(cell: dict[str, Any] | None) -> str:
    """The mean over seeds, ± their standard deviation; of one seed, the standard error over items."""
    if cell is None:
        return "–"
    values = cell["values"]
    spread = cell["error"] if len(values) == 1 else deviation(values)
    return f"{cell['mean']:.3f}{low_mark(cell)}" + (f" ± {spread:.3f}" if spread is not None else "")


def deviation(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5


def floor(row: dict[str, Any]) -> str:
    floors = {(cell["floor"], cell["floor_name"]) for cell in row["cells"] if cell and cell["floor"] is not None}
    return ", ".join(f"{value:.3f} {name}" for value, name in sorted(floors))

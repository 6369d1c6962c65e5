"""Tables of a committed comparison for other programs: every value once, nothing that the format would obey."""

import csv
import io
import json
from pathlib import Path

import pytest

from lmx.report.tables import as_csv, as_latex, as_markdown

REFERENCE = Path(__file__).parents[2] / "runs/reference/compare-clm-mlm-electra/table.json"


@pytest.fixture
def table():
    return json.loads(REFERENCE.read_text(encoding="utf-8"))


def test_csv_has_every_value(table):
    rows = list(csv.DictReader(io.StringIO(as_csv(table))))
    values = [value for row in table["rows"] for cell in row["cells"] if cell for value in cell["values"]]
    assert [float(row["value"]) for row in rows] == values
    pairs = {(row["yardstick"], row["task"], row["metric"], row["arm"], row["scorer"], row["seed"]) for row in rows}
    assert len(pairs) == len(rows)


def test_markdown_has_what_is_ranked(table):
    lines = as_markdown(table).splitlines()
    assert len(lines) == 2 + sum(row["ranked"] for row in table["rows"])
    assert {line.count("|") for line in lines} == {len(table["arms"]) + 3}
    assert "likelihood" not in "".join(lines), "no pseudo-likelihood stands where readers compare"
    first = next(row for row in table["rows"] if row["ranked"])["cells"][0]
    assert f"{first['mean']:.3f} ± {first['error']:.3f}" in lines[2]


def test_names_cannot_break_a_format(table):
    table["arms"][0]["name"] = "a|b_c & 50% {d}"
    head = as_markdown(table).splitlines()[0]
    assert "a\\|b_c & 50% {d}" in head
    latex = as_latex(table)
    assert r"a|b\_c \& 50\% \{d\}" in latex
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {line.replace(r"\&", "").count("&") for line in rows} == {len(table["arms"]) + 1}


def test_seeds_have_a_spread(table):
    cell = next(row for row in table["rows"] if row["ranked"])["cells"][0]
    cell |= {"values": [0.1, 0.3], "seeds": [0, 1], "mean": 0.2}
    assert "0.200 ± 0.141" in as_markdown(table)
    assert (
        as_csv(table).count("\n")
        == 2 + sum(len(one["values"]) for row in table["rows"] for one in row["cells"] if one) - 1
    )

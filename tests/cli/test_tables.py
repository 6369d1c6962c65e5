"""A comparison in a terminal: what stands in a row is what the table has, and nothing is ranked that may not be."""

import pytest

from lmx.cli.tables import show
from lmx.report.listings import overall
from tests.compare.directories import arm, results, row, run, table

GOOD, BAD, LOW = [0.80, 0.81, 0.82, 0.80, 0.81], [0.70, 0.71, 0.73, 0.69, 0.71], [0.51, 0.49, 0.50, 0.50, 0.50]


def lines(capsys, found) -> list[str]:
    show(found)
    return capsys.readouterr().out.splitlines()


def one_of(said: list[str], start: str) -> str:
    (line,) = [line for line in said if line.startswith(start)]
    return line


def test_what_is_shown(tmp_path, capsys):
    said = lines(
        capsys, table(*(arm(tmp_path, name, values) for name, values in (("clm", GOOD), ("mlm", BAD), ("span", LOW))))
    )
    assert one_of(said, "FLOPs  ").split() == ["FLOPs", "matched", "to", "0.0%", *["100", "G"] * 3]
    assert one_of(said, "minimal_pairs accuracy").split()[2:7] == ["share", "0.808", "[0.800,", "0.820]", "causal"]
    assert "0.500° [0.490, 0.510]" in one_of(said, "minimal_pairs accuracy"), "at its floor"
    assert one_of(said, "mlm - clm").split()[-1] == "worse"
    assert one_of(said, "loss ").count("4.000 (constant 6.500)") == 3
    assert "span: encoder and decoder of L blocks each" in "".join(said)
    assert said[-1].startswith("Seen with model=tiny, data=sotu, up to 1e11 FLOPs a run")


def test_one_seed_shows_no_test(tmp_path, capsys):
    said = lines(capsys, table(arm(tmp_path, "clm", GOOD[:1]), arm(tmp_path, "mlm", BAD[:1])))
    assert "0.800 ±0.020 causal" in one_of(said, "minimal_pairs accuracy")
    assert not [line for line in said if line.startswith(("tested", "mlm - clm"))]
    assert one_of(said, "One seed: no verdict")


def test_what_is_not_ranked_is_marked_with_its_reason(tmp_path, capsys):
    arms = [
        arm(tmp_path, name, values, comparability="C", unit="nats") for name, values in (("clm", GOOD), ("mlm", BAD))
    ]
    said = lines(capsys, table(*arms))
    assert one_of(said, "minimal_pairs accuracy †")
    assert one_of(said, "† not ranked: minimal_pairs accuracy: a pseudo-likelihood is no likelihood")


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_tasks_in_one_number(tmp_path, seeds):
    def tasks(name: str, base: float):
        rows = [[row(base + 0.01 * seed, task=f"t{task}") for task in range(6)] for seed in range(seeds)]
        return results(name, [run(tmp_path, name, seed, rows=one) for seed, one in enumerate(rows)])

    listing = overall(table(tasks("clm", 0.6), tasks("mlm", 0.8)))
    first, *ahead = listing.rows
    assert ("too few seeds for intervals" in first[1]) == (seeds < 5)
    assert first[1].startswith("IQM of 6 tasks" if seeds == 5 else "mean of 6 tasks")
    ends = [" [0.000, 0.000]", " [1.000, 1.000]"] if seeds == 5 else ["", ""]
    expected = [["P(clm > …)", "", "", f"0.000{ends[0]}"], ["P(mlm > …)", "", f"1.000{ends[1]}", ""]]
    assert ahead == (expected if seeds > 1 else [])

"""The live table of a comparison: whom it names, and that it reads no run again and again."""

from io import StringIO

from rich.console import Console

from lmx.cli.board import Board
from lmx.compare.arms import arms
from lmx.runs import Run
from tests.compare.directories import BUDGET, run


def board(tmp_path) -> Board:
    """clm is done under seed 0, mlm is not, and span has not begun."""
    made = Board(arms(["clm", "mlm objective.rate=0.4", "span"], [BUDGET], range(2)))
    made.runs = {
        ("clm", 0): run(tmp_path),
        ("mlm rate=0.4", 0): run(tmp_path, "mlm", 0, "objective.rate=0.4", state="failed"),
    }
    return made


def test_a_line_for_each_run(tmp_path):
    """Two arms of one objective are told apart, and why a run failed is said."""
    out, made = StringIO(), board(tmp_path)
    made.ended(made.runs["mlm rate=0.4", 0], Console(file=out))
    assert out.getvalue().startswith("mlm rate=0.4 seed 0: failed · not finite · 0:10 of training")


def shown(made: Board, *active: Run, rows: int = 100) -> list[str]:
    out = Console(file=StringIO(), width=100, record=True)
    out.print(made.table(active, rows=rows))
    return out.export_text().splitlines()


def test_arms_under_one_seed(tmp_path):
    made = board(tmp_path)
    said = shown(made, made.runs["mlm rate=0.4", 0])
    assert said[0].startswith("seed 0, run 2 of 6")
    assert [line.split()[:2] for line in said[2:]] == [["clm", "done"], ["mlm", "rate=0.4"], ["span", "waiting"]]
    known = made.seen[made.runs["clm", 0].name]
    shown(made, made.runs["mlm rate=0.4", 0])
    assert made.seen[made.runs["clm", 0].name] is known


def test_several_at_once(tmp_path):
    """Arms under all seeds that run; those that run alone, where a terminal is too low for more."""
    made = board(tmp_path)
    made.runs["clm", 1] = run(tmp_path, "clm", 1, state="running")
    active = made.runs["mlm rate=0.4", 0], made.runs["clm", 1]
    said = shown(made, *active)
    assert said[0].startswith("seeds 0, 1, run 3 of 6")
    assert [line[:19].strip() for line in said[2:]] == [
        "clm seed 0", "mlm rate=0.4 seed 0", "span seed 0", "clm seed 1", "mlm rate=0.4 seed 1", "span seed 1",
    ]  # fmt: skip
    assert [line[:19].strip() for line in shown(made, *active, rows=3)[2:]] == ["mlm rate=0.4 seed 0", "clm seed 1"]


def test_a_model_that_is_trained_is_being_measured(tmp_path):
    made = board(tmp_path)
    assert shown(made, made.runs["clm", 0])[2].split()[:2] == ["clm", "measuring"]

"""The live table of a comparison: whom it names, and that it reads no run again and again."""

from io import StringIO

from rich.console import Console

from lmx.cli.board import Board
from lmx.compare.arms import arms
from lmx.track.progress import Progress
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
    made.watch(made.runs["mlm rate=0.4", 0], lambda: False, Console(file=out), lambda: False)
    assert out.getvalue().startswith("mlm rate=0.4 seed 0: failed · not finite · 0:10 of training")


def test_arms_under_one_seed(tmp_path):
    made = board(tmp_path)
    current = made.runs["mlm rate=0.4", 0]
    progress = Progress(current)
    progress.update()
    out = Console(file=StringIO(), width=100, record=True)
    out.print(made.table(current, progress))
    said = out.export_text().splitlines()
    assert said[0].startswith("seed 0, run 2 of 6")
    assert [line.split()[:2] for line in said[2:]] == [["clm", "done"], ["mlm", "rate=0.4"], ["span", "waiting"]]
    known = made.seen[made.runs["clm", 0].name]
    made.table(current, progress)
    assert made.seen[made.runs["clm", 0].name] is known

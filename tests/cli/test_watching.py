"""All runs of a group, live, from their directories alone."""

from io import StringIO

from rich.console import Console

from lmx.cli import watching
from lmx.cli.watching import Group, group_of, members, watch
from tests.compare.directories import run


def made(folder):
    first = run(folder, "mlm", 0, "objective.rate=0.2", "group=sweep-rates")
    second = run(folder, "mlm", 0, "objective.rate=0.4", "group=sweep-rates", state="failed")
    run(folder, "clm", 0, "group=compare-other")
    return first, second


def test_which_runs_they_are(tmp_path):
    first, second = made(tmp_path)
    assert [one.name for one in members("sweep-rates", tmp_path)] == sorted([first.name, second.name])
    assert group_of("rates", tmp_path) == group_of("sweep-rates", tmp_path) == "sweep-rates"
    assert group_of("runs/other", tmp_path) == "compare-other"
    assert group_of(first.name, tmp_path) is None
    assert group_of("../x", tmp_path) is None


def test_told_apart_with_states_and_reasons(tmp_path, monkeypatch):
    made(tmp_path)
    monkeypatch.setattr(watching, "GAP", 0)
    monkeypatch.setattr(watching, "EVERY", 0)
    out = StringIO()
    watch("sweep-rates", tmp_path, Console(file=out), gap=0)
    assert sorted(out.getvalue().splitlines()) == [
        "mlm rate=0.2 seed 0 done (100%)", "mlm rate=0.4 seed 0 failed: not finite (100%)",
    ]  # fmt: skip


def test_a_table_for_a_terminal(tmp_path):
    first, _ = made(tmp_path)
    group = Group("sweep-rates", tmp_path)
    now = group.look()
    out = Console(file=StringIO(), width=100, record=True)
    out.print(group.table(now, rows=20))
    said = out.export_text().splitlines()
    assert said[0].startswith("sweep-rates: 2 runs, 1 done, 1 failed") or said[0].startswith(
        "sweep-rates: 2 runs, 1 failed"
    )
    assert len(said) == 4
    first.set_status(state="running", phase="training")
    news = sorted(group.news(group.look()))  # runs that began in one second come in any order
    assert news[0].startswith("mlm rate=0.2 seed 0 done"), "what is done is not read again"

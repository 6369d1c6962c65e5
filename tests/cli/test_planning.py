"""What a plan says before anything is trained, from what an objective does with a token and from earlier runs."""

from io import StringIO

import pytest
from rich.console import Console

from lmx.cli import planning
from lmx.compare.arms import arms, existing
from lmx.compare.results import Result
from lmx.errors import LmxError
from tests.compare.directories import KNOBS, run

ENTRY = {
    "tokens": 128.0,
    "positions": 128.0,
    "predictions": {"loss": 64.0},
    "flops_per_token": 1e6,
    "parameters": 2_000_000,
}


def plan(folder, monkeypatch, *shared, seeds=1, words=("clm", "mlm"), probe=False, entry=ENTRY, seconds=7.0) -> str:
    """What is printed."""

    def ask(module, request, environment=None):
        if module != "lmx.preview":
            return [entry] * len(request())
        assert environment["OMP_NUM_THREADS"] == "3", "a step is timed as it will be made"
        return {"seconds": seconds}

    monkeypatch.setattr(planning, "ask", ask)
    console = Console(file=StringIO(), width=400)
    planning.show_plan(arms(words, shared, range(seeds)), existing(folder), KNOBS, console, probe=probe)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_what_a_run_takes(tmp_path, monkeypatch):
    """A step is 32 sequences of 128 tokens, 4.096 GFLOPs: 250 of them are nearest to the budget."""
    said = plan(tmp_path, monkeypatch, "budget.flops=1.024e12")
    (line,) = [line for line in said.splitlines() if line.startswith("clm")]
    assert line.split("  ")[-1].strip() == "?"
    assert all(figure in line for figure in ("2 M", "1 M", "1.02 M", "1.02 T", "1 of 1"))
    assert "Budget: 1.02 T FLOPs a run. Seeds: 0." in said
    assert "Time: not known before the first run" in said
    assert "A step of" not in said


@pytest.mark.parametrize("budget", ["tokens=1024000", "targets=512000", "steps=250"])
def test_every_currency(tmp_path, monkeypatch, budget):
    assert "1.02 T" in plan(tmp_path, monkeypatch, f"budget.{budget}")


def test_a_budget_of_seconds_is_its_own_time(tmp_path, monkeypatch):
    said = plan(tmp_path, monkeypatch, "budget.seconds=90", seeds=3)
    assert "Time: about 9:00 of training" in said


def test_time_is_that_of_runs_of_the_same_model(tmp_path, monkeypatch):
    """1e11 FLOPs in 10 seconds: 1e12 takes 100; of the same objective if there is one, and a second of measuring each."""
    run(tmp_path, "clm")
    run(tmp_path, "mlm", seconds=20.0)
    run(tmp_path, "clm", 0, "model=nano", seconds=1.0)
    said = plan(tmp_path, monkeypatch, "budget.flops=1.024e12", seeds=2)
    times = {line.split()[0]: line.split()[-1] for line in said.splitlines() if line.startswith(("clm ", "mlm "))}
    assert times == {"clm": "1:42", "mlm": "3:25"}
    assert "Time: about 10:14 of training and 0:04 of measuring." in said
    found = plan(tmp_path, monkeypatch, "budget.flops=1.024e12", words=("electra", "clm"))
    assert "2:17" in found, "the middle of the speeds of others of this model"


def test_a_step_is_timed_where_nothing_tells(tmp_path, monkeypatch):
    assert "Time: about 0:14 of training, and what measuring takes." in plan(
        tmp_path, monkeypatch, "budget.flops=1e12", "launcher.threads=3", probe=True
    )


def test_nothing_to_make_is_no_plan(tmp_path, monkeypatch):
    run(tmp_path, "clm")
    run(tmp_path, "mlm")
    assert plan(tmp_path, monkeypatch, "budget.flops=1e11") == ""


def test_steps_that_are_large_are_said(tmp_path, monkeypatch):
    """A step is 1.6 % of the budget: who knows where runs end."""
    assert "A step of clm is 1.6% of the budget" in plan(tmp_path, monkeypatch, "budget.flops=2.56e11")


def test_a_mismatch_that_can_be_foreseen_is_refused(tmp_path, monkeypatch):
    wanted = arms(["clm", "mlm"], ["budget.flops=1e10"], [0])
    entries = [ENTRY, ENTRY | {"flops_per_token": 1.3e6}]
    spendings = [planning.spending(arm.configs[0], entry) for arm, entry in zip(wanted, entries, strict=True)]
    with pytest.raises(
        LmxError,
        match=r"budget.flops must be many steps, got 1e\+10: a step of mlm is 53.2% of it, and arms would end 30",
    ):
        planning.coarse(wanted, spendings)


def test_earlier_runs_elsewhere_tell_nothing(tmp_path):
    config = run(tmp_path, "clm").config()
    others = [
        run(tmp_path, "clm", 0, change)
        for change in ("device=cuda", "launcher.threads=1", "length=64", "trainer.batch_tokens=1024")
    ]
    assert planning.alike(config, [Result(one, KNOBS) for one in others]) == []

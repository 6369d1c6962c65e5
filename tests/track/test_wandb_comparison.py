"""A comparison sent to W&B: one group, the same names for every arm, and a run of its own with table, figures and files."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lmx.cli.reporting import write
from lmx.compare.alignment import PREFERRED, aligned
from lmx.compare.comparison import build_table
from lmx.compare.results import Result, Results
from lmx.runs import Run
from lmx.track import wandb, wandb_rows
from lmx.track.wandb_rows import scores, summarised, validation_row
from tests.track.directories import STEPS, end, make, start, train
from tests.track.fake_wandb import FakeWandb
from tests.track.test_wandb import everything_in, recorded

NAME = "compare-clm-mlm"
KNOBS = {"minimal_pairs": {"_target_": "lmx.evals.minimal_pairs.MinimalPairs", "pairs": 4}}
SCORERS = {"clm": ["causal"], "mlm": ["pll_word_l2r", "bound"]}  # an arm is asked in the way of its objective
READER = [sys.executable, "-P", "-m", "lmx.track.wandb_comparison"]
OWN = ("validation/loss/", "train/loss/", "validation/constant/")  # terms of an objective's own loss


@pytest.fixture
def fake() -> Iterator[FakeWandb]:
    server = FakeWandb()
    yield server
    server.close()
    assert server.unknown == []


def row(scorer: str, value: float, task: str = "", comparability: str = "D") -> dict[str, Any]:
    return {
        "task": task, "metric": "accuracy", "scorer": scorer, "value": value, "error": 0.1, "items": 8, "floor": 0.5,
        "floor_name": "chance", "unit": "share", "better": "higher", "comparability": comparability,
    }  # fmt: skip


def measured(run: Run, value: float, knobs: dict[str, Any] | None = None, step: int = 100) -> None:
    """A line of lmx evaluate: the whole and a task, by every scorer of the objective; further scorers are worse."""
    found = [
        row(scorer, value - number / 10, task)
        for task in ("", "islands")
        for number, scorer in enumerate(SCORERS[run.config()["choices"]["objective"]])
    ]
    line = {"step": step, "knobs": knobs or KNOBS["minimal_pairs"], "seconds": 1.0, "rows": found}
    run.append("evals/minimal_pairs.jsonl", line)


def arm(folder: Path, objective: str, score: float, *overrides: str) -> Run:
    """Done, with a yardstick in the loop and another after it."""
    loop = "eval.yardsticks.minimal_pairs=minimal_pairs"
    run = make(folder, f"objective={objective}", loop, *overrides)
    start(run)
    train(run, 1, 100)
    lines = run.lines("evals/validation.jsonl")
    (run.path / "evals/validation.jsonl").unlink()
    for line in lines:
        inside = {f"minimal_pairs/accuracy/{scorer}": score for scorer in SCORERS[objective]}
        run.append("evals/validation.jsonl", line | {f"loss/{objective}": 1.0} | inside)
    end(run)
    measured(run, score)
    return run


def written(folder: Path, runs: dict[str, Run], name: str = NAME) -> Path:
    """What lmx compare writes of them."""
    arms = [Results(arm, [Result(run, KNOBS)]) for arm, run in runs.items()]
    (folder / name).mkdir(exist_ok=True)
    write(folder / name, build_table(name, arms, {}, "lmx compare clm mlm"), arms)
    return folder / name


@pytest.fixture(scope="module", autouse=True)
def plain() -> Iterator[None]:
    """Runs need no checkpoint, and a page says nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Result, "fingerprint", "a/b/c")
        patch.setattr("lmx.cli.reporting.told", lambda configs: [{}] * len(configs))
        patch.setattr("lmx.cli.reporting.document", lambda *found: "<html></html>\n")
        yield


def compared(folder: Path) -> Path:
    scored = {"clm": 0.6, "mlm": 0.7}
    return written(folder, {name: arm(folder, name, score, f"group={NAME}") for name, score in scored.items()})


@pytest.fixture
def comparison(tmp_path) -> Path:
    return compared(tmp_path)


@pytest.fixture(scope="module")
def online(tmp_path_factory) -> Iterator[tuple[Path, FakeWandb, str]]:
    """A comparison that was sent, the server that has it, what the reader said."""
    folder, server = compared(tmp_path_factory.mktemp("online")), FakeWandb()
    yield folder, server, sent(folder, server.environment())
    server.close()
    assert server.unknown == []


def sent(folder: Path, environment: dict[str, str], *options: str, code: int = 0) -> str:
    merged = {name: value for name, value in (os.environ | environment).items() if value}
    done = subprocess.run(
        [*READER, str(folder), *options], env=merged, cwd=folder, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stdout or done.stderr


def facts(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "wandb.json").read_text())


def arms_of(fake: FakeWandb) -> list[str]:
    return sorted(name for name, told in fake.runs.items() if told["jobType"] == "train")


def names(fake: FakeWandb, run: str) -> set[str]:
    """All that W&B shows of a run, without what belongs to its objective alone."""
    keys = {key for line in [*fake.history(run), fake.summary(run)] for key in line}
    return {key for key in keys if not key.startswith(OWN) and not key.endswith("/bound")}


def test_one_group_and_the_same_names_in_every_arm(online):
    _, fake, _ = online
    arms = arms_of(fake)
    assert len(arms) == 2
    assert {told["groupName"] for told in fake.runs.values()} == {NAME}
    one, other = (names(fake, run) for run in arms)
    assert one == other
    assert {
        "tokens", "flops", "seconds", "train/loss", "speed/tokens_per_second", "validation/loss",
        "validation/minimal_pairs/accuracy",
        "yardsticks", "yardsticks/minimal_pairs/accuracy", "yardsticks/minimal_pairs/islands/accuracy",
        "scorers/minimal_pairs/accuracy",
    } <= one  # fmt: skip
    summaries = [fake.summary(run) for run in arms]
    assert [one["yardsticks/minimal_pairs/accuracy"] for one in summaries] == [0.6, 0.7]
    assert [one["scorers/minimal_pairs/accuracy"] for one in summaries] == ["causal", "pll_word_l2r"]
    for run, rows in zip(arms, (2, 4), strict=True):
        (last,) = [line["yardsticks"] for line in fake.history(run) if "yardsticks" in line]
        assert last["nrows"] == rows, "a line for each scorer"


def test_axes_are_the_same_for_all(comparison, tmp_path):
    """What a client tells the server of its metrics, as a recording has it."""
    sent(comparison, nobody(tmp_path))
    axes = []
    for place in sorted(tmp_path.glob("2*")):
        metrics = recorded(Run(place), "metric")
        axes.append(
            {
                one.get("globName") or one.get("glob_name"): one.get("stepMetric") or one.get("step_metric")
                for one in metrics
            }
        )
        axes[-1].pop(None, None)
    assert axes[0] == axes[1]
    assert axes[0] == dict.fromkeys(("train/*", "validation/*", "speed/*", "yardsticks/*"), "tokens")


def test_the_comparison_itself(online):
    comparison, fake, said = online
    (own,) = set(fake.runs) - set(arms_of(fake))
    assert said.splitlines()[-1] == f"{fake.url}/me/lmx/runs/{own}"
    told = fake.runs[own]
    assert (told["jobType"], told["displayName"], told["groupName"]) == ("compare", NAME, NAME)
    assert fake.config(own)["command"] == "lmx compare clm mlm"
    summary = fake.summary(own)
    assert summary["yardsticks/minimal_pairs/accuracy/mlm"] == 0.7
    assert "One seed: no verdict" in summary["words"]
    (line,) = fake.history(own)
    assert (line["comparison"]["nrows"], line["comparison"]["ncols"]) == (2, 8)
    assert line["values"]["nrows"] == 4
    figures = sorted((comparison / "figures").glob("*.svg"))
    assert figures
    assert {key for key in line if key.startswith("figures/")} == {f"figures/{figure.stem}" for figure in figures}
    bodies = list(fake.uploads.values())
    files = [comparison / name for name in ("report.html", "table.json", "table.csv", "table.md", "table.tex")]
    assert all(file.read_bytes() in bodies for file in [*files, *(comparison / "figures").iterdir()])
    assert fake.artifacts >= 1


def nobody(tmp_path: Path) -> dict[str, str]:
    """An environment without a login."""
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir(exist_ok=True)
    return {
        "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp"), "WANDB_API_KEY": "",
        "WANDB_ERROR_REPORTING": "false", "WANDB_MODE": "",
    }  # fmt: skip


def test_offline_and_then_synced(comparison, tmp_path, fake):
    """Nothing is written outside the folders of runs; what was recorded is sent as the same run, and in full."""
    for _ in range(2):
        assert sent(comparison, nobody(tmp_path)) == f"recorded offline in {comparison}/wandb\n"
    before = facts(comparison)
    assert (before["mode"], before["complete"]) == ("offline", True)
    (line,) = [record["item"] for record in recorded(Run(comparison), "history")]
    assert line["comparison.nrows"] == 2
    for place in tmp_path.glob("2*"):
        steps = [record["item"]["_step"] for record in recorded(Run(place), "history")]
        assert steps == [*STEPS, 101], "one more for what yardsticks found"
    assert not [path for path in everything_in(tmp_path / "tmp") | everything_in(tmp_path / "home") if path.is_file()]
    told = sent(comparison, nobody(tmp_path), "--online", code=2)
    assert told == "lmx: lmx sync needs a W&B login. Type wandb login, or set WANDB_API_KEY.\n"
    synced = subprocess.run(
        [sys.executable, "-m", "lmx", "sync", str(comparison)], env=os.environ | fake.environment(), check=False,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert synced.returncode == 0, synced.stderr
    assert set(fake.runs) == {*arms_of(fake), before["id"]}
    assert len(fake.runs) == 3
    assert facts(comparison)["mode"] == "online"


def test_runs_that_are_there_already(tmp_path, fake):
    """lmx compare --runs: a run that has no group joins this one for good, and one that has keeps it; both are found by tag."""
    clm, mlm = arm(tmp_path, "clm", 0.6), arm(tmp_path, "mlm", 0.7, "group=before")
    folder = written(tmp_path, {"clm": clm, "mlm": mlm}, "compare-runs")
    sent(folder, fake.environment())
    subprocess.run(
        [sys.executable, "-P", "-m", "lmx.track.wandb_reader", str(clm.path)], env=os.environ | fake.environment(), check=True,
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert [fake.runs[run.name]["groupName"] for run in (clm, mlm)] == ["compare-runs", "before"]
    assert all("compare-runs" in fake.runs[run.name]["tags"] for run in (clm, mlm))
    assert fake.runs[facts(folder)["id"]]["groupName"] == "compare-runs"


def test_a_workspace_of_exactly_these_runs(online):
    pytest.importorskip("wandb_workspaces", reason="the extra workspaces is not installed")
    comparison, fake, said = online
    (view,) = fake.views.values()
    assert said.splitlines()[0] == f"workspace: {facts(comparison)['workspace']}"
    assert facts(comparison)["workspace"].startswith(f"{fake.url}/me/lmx?nw=")
    assert view["displayName"] == NAME
    assert all(f'"{run}"' in view["spec"] for run in fake.runs)
    assert "yardsticks/minimal_pairs/accuracy" in view["spec"]
    assert "validation/minimal_pairs/accuracy" in view["spec"]


def test_sent_again_it_is_the_same(online):
    """Also the workspace."""
    comparison, fake, _ = online
    before = {run: fake.history(run) for run in fake.runs}
    artifacts, views = fake.artifacts, list(fake.views)
    assert "workspace" not in sent(comparison, fake.environment()), "nothing is new: W&B is not even asked"
    sent(comparison, fake.environment(), "--online")
    assert {run: fake.history(run) for run in fake.runs} == before
    assert (fake.artifacts, list(fake.views)) == (artifacts, views)
    clm, mlm = (Run(place) for place in sorted(comparison.parent.glob("2*")))
    measured(mlm, 0.9)
    written(comparison.parent, {"clm": clm, "mlm": mlm})
    sent(comparison, fake.environment())
    assert set(fake.runs) == set(before)
    assert len(fake.history(clm.name)) == len(before[clm.name])
    assert fake.summary(mlm.name)["yardsticks/minimal_pairs/accuracy"] == 0.9
    assert fake.summary(facts(comparison)["id"])["yardsticks/minimal_pairs/accuracy/mlm"] == 0.9


def test_without_the_extra(comparison, fake, tmp_path):
    """One line, and nothing else is missing."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['wandb_workspaces'] = None\n")
    said = sent(comparison, fake.environment() | {"PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}).splitlines()
    assert said[0] == "lmx: no saved workspace without its package: pip install wandb-workspaces"
    assert len(said) == 2
    assert fake.artifacts


def test_without_its_runs(comparison):
    for run in comparison.parent.glob("2*"):
        run.rename(comparison.parent / f"gone-{run.name[-5:]}")
    assert "must lie beside the runs that it compares" in sent(comparison, {}, code=2)


def test_nobody_waits_for_it(comparison, tmp_path, monkeypatch, fake):
    """lmx compare starts a reader and goes on; not again once that is done, and not for what is not tracked."""
    runs = [Run(place) for place in sorted(tmp_path.glob("2*"))]
    for name, value in fake.environment().items():
        monkeypatch.setenv(name, value)
    began = time.monotonic()
    assert wandb.send_comparison(comparison, runs) == f"W&B: offline. Send it with: lmx sync {NAME}"
    assert time.monotonic() - began < 1
    patience = time.monotonic() + 60
    while not wandb.sent(comparison):
        assert time.monotonic() < patience, (comparison / "wandb.log").read_text()
        time.sleep(0.2)
    monkeypatch.setattr(wandb, "detached", None)
    assert wandb.send_comparison(comparison, runs) == f"W&B: {facts(comparison)['url']}"
    assert wandb.send_comparison(comparison, [make(tmp_path, "track=none")]) == ""


def test_where_it_will_be(comparison, tmp_path, monkeypatch):
    runs = [Run(place) for place in sorted(tmp_path.glob("2*"))]
    runs[0].write_json("wandb.json", {"mode": "online", "url": "https://wandb.test/me/lmx/runs/x"})
    monkeypatch.setattr(wandb, "detached", lambda *command: None)
    monkeypatch.setattr(wandb, "find_spec", lambda name: None)
    said = wandb.send_comparison(comparison, runs)
    assert said.startswith(f"W&B: on its way to https://wandb.test/me/lmx/groups/{NAME}, see {comparison}/wandb.log.")
    assert said.endswith(" For a saved workspace: pip install wandb-workspaces.")


def test_names_of_yardsticks_in_the_loop():
    """The first scorer gives its name away, even where it measured nothing; others keep theirs."""
    meters = dict.fromkeys(("tokens", "flops", "seconds", "step", "progress"), 1)
    line = meters | {
        "loss": 3.0, "loss/z": 1.0, "cloze/word/accuracy/a": None, "cloze/word/accuracy/b": 0.5, "cloze/mrr/a": 0.4,
        "cloze/mrr/b": 0.3,
    }  # fmt: skip
    assert validation_row(line, ["cloze"]) == meters | {
        "validation/loss": 3.0, "validation/loss/z": 1.0, "validation/cloze/word/accuracy/b": 0.5, "validation/cloze/mrr": 0.4,
        "validation/cloze/mrr/b": 0.3,
    }  # fmt: skip


def test_what_a_summary_shows(tmp_path):
    """Of the knobs that a comparison wants, else of what came last; of the newest model."""
    run = arm(tmp_path, "clm", 0.6)
    measured(run, 0.8, {"pairs": 9})
    measured(run, 0.1, step=50)

    def shown(wanted: dict[str, dict[str, Any]]) -> float:
        return dict(summarised(scores(run, wanted)))["yardsticks/minimal_pairs/accuracy"]

    assert (shown(KNOBS), shown({}), shown({"minimal_pairs": {"pairs": 9}})) == (0.6, 0.8, 0.8)
    assert len(scores(run, {})) == 4, "all knobs are in the table"


def test_the_scorer_is_the_comparison_s(tmp_path):
    """Of several scorers, W&B's summary and the table of a comparison choose the same."""
    run = arm(tmp_path, "clm", 0.6)
    (run.path / "evals/minimal_pairs.jsonl").unlink()
    some = [row("fill", 0.2, comparability="C"), row("bound", 0.4, comparability="B")]
    run.append("evals/minimal_pairs.jsonl", {"step": 100, "knobs": KNOBS["minimal_pairs"], "rows": some})
    arms = [Results(name, [Result(run, KNOBS)]) for name in ("one", "other")]
    ((table,), told) = aligned(arms), dict(summarised(scores(run, KNOBS)))
    assert table["cells"][0]["scorer"] == told["scorers/minimal_pairs/accuracy"] == "bound"
    assert wandb_rows.PREFERRED == PREFERRED

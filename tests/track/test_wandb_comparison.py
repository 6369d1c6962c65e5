"""A comparison sent to W&B: one group, the same names for every arm, and a run of its own with table, figures and files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lmx.cli.reporting import write
from lmx.compare.comparison import build_table
from lmx.compare.results import Result, Results
from lmx.errors import LmxError
from lmx.runs import Run
from lmx.track.wandb_comparison import send
from tests.track.directories import finished
from tests.track.fake_wandb import FakeWandb
from tests.track.test_wandb import recorded

NAME = "compare-clm-mlm"
READER = [sys.executable, "-P", "-m", "lmx.track.wandb_comparison"]


@pytest.fixture
def fake():
    server = FakeWandb()
    yield server
    server.close()
    assert server.unknown == []


def arm(folder: Path, objective: str, score: float, *overrides: str) -> Run:
    run = finished(folder, f"objective={objective}", f"group={NAME}", *overrides)
    row = {
        "task": "", "metric": "accuracy", "scorer": "causal", "value": score, "error": 0.1, "items": 8, "floor": 0.5,
        "floor_name": "chance", "unit": "share", "better": "higher", "comparability": "D",
    }  # fmt: skip
    run.append("evals/minimal_pairs.jsonl", {"step": 100, "knobs": {}, "seconds": 1.0, "rows": [row]})
    return run


@pytest.fixture
def comparison(tmp_path, monkeypatch) -> Path:
    """Two arms that are done, and what lmx compare writes of them."""
    monkeypatch.setattr(Result, "fingerprint", "a/b/c")
    runs = {"clm": arm(tmp_path, "clm", 0.6), "mlm": arm(tmp_path, "mlm", 0.7)}
    arms = [Results(name, [Result(run, {"minimal_pairs": {}})]) for name, run in runs.items()]
    folder = tmp_path / NAME
    folder.mkdir()
    monkeypatch.setattr("lmx.cli.reporting.told", lambda configs: [{}] * len(configs))
    monkeypatch.setattr("lmx.cli.reporting.document", lambda *found: "<html></html>\n")
    write(folder, build_table(NAME, arms, {}, "lmx compare clm mlm"), arms)
    return folder


def sent(folder: Path, environment: dict[str, str], *options: str) -> str:
    done = subprocess.run(
        [*READER, str(folder), *options], env=os.environ | environment, cwd=folder, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_online(comparison, fake):
    for _ in range(2):  # sent again, it is the same
        assert sent(comparison, fake.environment()) == f"{fake.url}/me/lmx/runs/{NAME}\n"
    arms = [name for name in fake.runs if name != NAME]
    assert len(arms) == 2
    assert {told["groupName"] for told in fake.runs.values()} == {NAME}
    assert fake.runs[NAME]["jobType"] == "compare"
    keys = [{key for row in fake.history(name) for key in row} for name in arms]
    assert keys[0] == keys[1], "arms have the same metrics"
    assert "yardsticks" in keys[0]
    scores = [fake.summary(name)["yardsticks/minimal_pairs/accuracy/causal"] for name in arms]
    assert sorted(scores) == [0.6, 0.7]
    assert sum("yardsticks" in row for row in fake.history(arms[0])) == 1
    table = fake.summary(NAME)
    assert (table["minimal_pairs/accuracy/clm"], table["minimal_pairs/accuracy/mlm"]) == (0.6, 0.7)
    assert "One seed: no verdict" in table["words"]
    (row,) = fake.history(NAME)[:1]
    assert row["comparison"]["nrows"] == 2
    assert any(key.startswith("figures/") for key in row)
    uploads = b"".join(fake.uploads.values())
    assert b"<html></html>" in uploads
    assert (comparison / "table.csv").read_bytes() in uploads


def test_offline_without_a_key(comparison, tmp_path):
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    nobody = {
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "tmp"),
        "WANDB_API_KEY": "",
        "WANDB_ERROR_REPORTING": "false",
    }
    for _ in range(2):
        assert sent(comparison, nobody) == f"recorded offline in {comparison}/wandb\n"
    assert json.loads((comparison / "wandb.json").read_text())["mode"] == "offline"
    (row,) = [record["item"] for record in recorded(Run(comparison), "history")]
    assert row["comparison.nrows"] == 2
    assert not [path for path in (tmp_path / "tmp").rglob("*") if path.is_file()]


def test_without_its_runs(comparison):
    for run in comparison.parent.glob("2*"):
        run.rename(comparison.parent / f"gone-{run.name[-5:]}")
    with pytest.raises(LmxError, match="must lie beside the runs"):
        send(comparison, only_online=False)

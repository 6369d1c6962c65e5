"""`lmx report`, and what `lmx compare` writes at its end."""

import json
import re
import shutil

import pytest
from typer.testing import CliRunner

from lmx.cli import app, reporting
from lmx.errors import LmxError
from tests.report.comparisons import make


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A comparison with its page; examples would take a process, and figures seconds."""
    monkeypatch.setattr(reporting, "examples", lambda arms: {arm.name: "none here" for arm in arms})
    monkeypatch.setattr(reporting, "save", lambda chart, path: path.with_suffix(".svg").write_text(chart.to_json()))
    monkeypatch.setenv("LMX_RUNS", str(tmp_path))
    table, arms = make(tmp_path, seeds=2, names=("clm", "mlm"))
    place = tmp_path / "compare-toy"
    place.mkdir()
    reporting.write(place, table, arms)
    return place


def files(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("name", ["toy", "compare-toy", "path"])
def test_made_again_from_files_alone(folder, name):
    before = files(folder)
    for path in folder.iterdir():
        if path.name != "table.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    found = CliRunner().invoke(app, ["report", str(folder) if name == "path" else name])
    assert found.exit_code == 0, found.output
    after = files(folder)
    assert after.keys() == before.keys()
    assert [key for key in before if key.startswith("table") and before[key] != after[key]] == []
    assert before["report.html"] == after["report.html"]


def test_a_page_that_shows_a_table_stays(folder, monkeypatch):
    """A comparison that is there answers at once; a changed one is drawn again."""
    table = reporting.read(folder)
    arms, missing = reporting.results(table, folder)
    assert not missing
    drawn = []
    monkeypatch.setattr(reporting, "figures", lambda *_: drawn.append(1) or [])
    reporting.write(folder, table | {"command": "lmx compare --json"}, arms)
    assert not drawn
    reporting.write(folder, table | {"words": ["other"]}, arms)
    assert drawn


def test_figures_of_another_comparison_go(folder):
    """What is not drawn any more would be taken for this comparison's; what somebody put there stays."""
    (folder / "figures" / "scores-electra.svg").write_text("old")
    (folder / "figures" / "notes.txt").write_text("mine")
    table = reporting.read(folder)
    reporting.write(folder, table | {"words": ["other"]}, reporting.results(table, folder)[0])
    left = {path.name for path in (folder / "figures").iterdir()}
    assert "scores-electra.svg" not in left
    assert "notes.txt" in left
    assert len(left) > 2


def test_without_its_runs(folder):
    for run in folder.parent.glob("*-mlm-*"):
        shutil.rmtree(run)
    found = CliRunner().invoke(app, ["report", str(folder)])
    assert found.exit_code == 0, found.output
    assert len(re.findall(r"-mlm-", found.stderr)) == 2
    assert "Yardsticks" in (folder / "report.html").read_text()


@pytest.mark.parametrize("text", ["{", "[]", "{}", json.dumps({"arms": 3})])
def test_what_is_no_comparison(folder, text):
    (folder / "table.json").write_text(text)
    with pytest.raises(LmxError, match="table.json must be"):
        reporting.read(folder)
    with pytest.raises(LmxError, match="DIR must be"):
        reporting.found("../elsewhere", folder.parent)

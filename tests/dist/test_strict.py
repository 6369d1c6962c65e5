"""trainer.determinism=strict: every bit of a run is the same for any number of ranks, also when it changes on the way."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmx.runs import Run
from tests.dist.ranks import Ranks, serving
from tests.faults import tiny

STEPS = 6
SETTINGS = [
    "objective=mlm", "trainer.determinism=strict", "trainer.batch_tokens=384", "trainer.log_every=1", "eval.every=0.5",
    "trainer.checkpoint_every=2", f"budget.steps={STEPS}",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("runs")
    tiny.corpus(path / "text")
    return path


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Ranks]:
    with serving(folder) as started:
        yield started


def left(run: Run) -> dict:
    """All that a run leaves, but for its processes."""
    return tiny.left(run, STEPS)


@pytest.fixture(scope="module")
def alone(server: Ranks, folder: Path) -> dict:
    run = tiny.new(folder, *SETTINGS)
    assert server.work(run, 1) == [0], (run.path / "log.txt").read_text()
    return left(run)


def test_micro_batches_do_not_matter(server, folder, alone):
    run = tiny.new(folder, *SETTINGS, "trainer.micro_batch=4")
    assert server.work(run, 1) == [0]
    assert tiny.differences(alone, left(run)) == []


@pytest.mark.parametrize("plan", [[2, 2], [4, 2], [1, 4, 2]], ids=str)
def test_ranks_do_not_matter_and_may_change(server, folder, alone, plan):
    """12 sequences: for four ranks, stretches of three that are no pairs by themselves."""
    run = tiny.new(folder, *SETTINGS)
    for number, ranks in enumerate(plan[:-1], start=1):
        server.work(run, ranks, stop_after=number * STEPS // len(plan))
        assert run.status()["exit_code"] == 75, (run.path / "log.txt").read_text()
    assert server.work(run, plan[-1]) == [0] * plan[-1], (run.path / "log.txt").read_text()
    assert run.status()["exact"] is True
    assert tiny.differences(alone, left(run)) == []


@pytest.mark.parametrize("bug", ["plain", "own"])
def test_another_order_of_sums_is_seen(server, folder, alone, bug):
    run = tiny.new(folder, *SETTINGS)
    assert server.work(run, 4, bug=bug) == [0] * 4
    different = tiny.differences(alone, left(run))
    assert any("model" in line for line in different), json.dumps(different, indent=1)


def test_rows_that_need_each_other_are_refused(server, folder):
    run = tiny.new(folder, *SETTINGS, "objective=contrastive")
    server.work(run, 1)
    assert run.status()["exit_code"] == 2
    assert "trainer.determinism must be null" in run.status()["reason"]

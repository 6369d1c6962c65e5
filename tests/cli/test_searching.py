"""Optuna over run directories: what it is told, what it gives up, and that an interrupted search goes on. Nothing is trained."""

import signal
from collections.abc import Sequence
from math import log10

import pytest
from rich.console import Console

from lmx.cli.searching import GIVEN_UP, Search
from lmx.compare.arms import existing
from lmx.compare.points import space
from lmx.errors import LmxError
from lmx.launch.jobs import Fleet, Job
from lmx.launch.local import Local
from tests.compare.directories import BUDGET, KNOBS, measured, row

pytest.importorskip("optuna")
LAST = {"step": 100, "seconds": 9.0, "loss": 3.0, "tokens_per_second": 10.0, "lr": 0.1}
RATES = "optim.lr=tag(log,interval(1e-4,1))"


class Desk(Fleet):
    """Two places. A run's loss is least at a learning rate of 0.01; it has an evaluation a look, and ends with the sixth."""

    width = 2

    def __init__(self) -> None:
        self.jobs: dict[Job, int] = {}
        self.stopped: list[Job] = []
        self.begun: list[str] = []

    def add(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            assert len(self.jobs) < 2, "no more than there is room for"
            self.begun.append(job.run.name)
            self.jobs[job] = len(job.run.lines("evals/validation.jsonl"))

    def active(self) -> list[Job]:
        return list(self.jobs)

    def end(self, job: Job, number: int) -> None:
        assert number == signal.SIGTERM
        self.stopped.append(job)

    def ended(self) -> list[tuple[Job, int]]:
        found = []
        for job, place in list(self.jobs.items()):
            run, rate = job.run, job.run.config()["optim"]["lr"]
            if job in self.stopped:
                run.set_status(state="preempted", exit_code=75, reason="preempted by a signal")
                found.append((job, 75))
            elif place == 6:
                measured(run, [row(0.5 + rate)])
                run.append("metrics.jsonl", LAST)
                run.set_status(state="done", exit_code=0)
                found.append((job, 0))
            else:
                loss = 3 + abs(log10(rate) + 2) / (1 + place)
                line = {"step": place, "seconds": place, "loss": loss, "progress": (place + 1) / 6, "unigram_nats": 6.5}
                run.append("evals/validation.jsonl", line)
                self.jobs[job] = place + 1
        for job, _ in found:
            del self.jobs[job]
        return found


@pytest.fixture
def search(tmp_path, monkeypatch):
    """search(number, settings…) -> a search that has ended, and its desk."""
    monkeypatch.setattr("lmx.cli.fleet.EVERY", 0)

    def made(number: int, *settings: str, desk: Desk | None = None) -> tuple[Search, Desk]:
        desk = desk or Desk()
        monkeypatch.setattr(Local, "fleet", lambda self: desk)
        axes = space([BUDGET, *settings])
        local = {"processes": 1, "threads": None, "grace": 5, "rank_timeout": 60, "restarts": 0}
        launcher = {"_target_": "lmx.launch.local.Local", **local}
        found = Search(axes, number, tmp_path / "sweep-test", existing(tmp_path), KNOBS, launcher)
        found.run(Console(quiet=True), None)
        return found, desk

    return made


def test_it_finds_what_is_good_and_gives_up_what_is_not(search, tmp_path):
    found, desk = search(6, RATES)
    assert len(desk.begun) == 6
    assert found.study.best_value < 3.2
    assert found.pruned
    assert len(found.pruned) + len(found.groups) == 6
    given_up = [run for run in existing(tmp_path).values() if run.status().get("reason") == GIVEN_UP]
    assert len(given_up) == len(found.pruned)
    again, desk = search(6, RATES)
    assert desk.begun == [], "all of it is there"
    assert {name: [run.name for run in runs] for name, runs in again.groups.items()} == {
        name: [run.name for run in runs] for name, runs in found.groups.items()
    }
    _, desk = search(7, RATES)
    assert len(desk.begun) == 1


def test_an_interrupted_search_goes_on(search):
    class Leaving(Desk):
        def end(self, job: Job, number: int) -> None:
            self.stopped.append(job)

        def ended(self) -> list[tuple[Job, int]]:
            found = super().ended()
            if len(self.begun) >= 5 and not self.stopped:
                signal.raise_signal(signal.SIGINT)
            return found

    desk = Leaving()
    with pytest.raises(LmxError, match="The same command goes on from here"):
        search(7, RATES, desk=desk)
    stopped = [job.run.name for job in desk.stopped]
    assert stopped
    _, desk = search(7, RATES)
    assert desk.begun[: len(set(stopped))] == list(dict.fromkeys(stopped)), "those that were stopped come first"


def test_other_tasks_are_scored_by_yardsticks_and_never_given_up(search):
    """A mask rate changes what the loss means; accuracy is higher at a higher learning rate here."""
    found, desk = search(3, "objective=mlm", "objective.rate=interval(0.1,0.5)", "optim.lr=0.1,0.2")
    assert found.pruned == []
    assert desk.stopped == []
    assert found.study.best_value in (pytest.approx(0.6), pytest.approx(0.7))


def test_seeds_make_one_score(search):
    found, desk = search(2, RATES, "seed=range(0,2)")
    assert len(desk.begun) == 4
    assert all(len(runs) == 2 for runs in found.groups.values())
    assert len(found.study.trials) == 2

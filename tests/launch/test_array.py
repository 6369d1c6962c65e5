"""What becomes of jobs that leave SLURM's queue, without SLURM: tests/full/slurm has a real one."""

import pytest

from lmx.errors import INTERNAL, PREEMPTED
from lmx.launch import slurm
from lmx.launch.jobs import Job
from lmx.launch.slurm import Array
from tests.compare.directories import run


class Submitted(Array):
    def __init__(self, requeues: int = 2):
        super().__init__({}, 10, requeues)
        self.added: list[str] = []

    def add(self, jobs):
        for job in jobs:
            self.added.append(job.run.name)
            self.ids[job] = f"7_{len(self.added)}"
        self.asked = 0.0


@pytest.fixture
def queue(monkeypatch):
    """The ids that squeue tells."""
    there: set[str] = set()
    monkeypatch.setattr(slurm, "EVERY", -1)
    monkeypatch.setattr(slurm, "waiting_or_running", lambda: set(there))
    return there


def test_how_a_run_ended_is_in_its_directory(tmp_path, queue):
    jobs = [Job(run(tmp_path, "clm", seed), ("true",)) for seed in range(3)]
    fleet = Submitted()
    fleet.add(jobs)
    queue |= {"7_1", "7_2", "7_3"}
    assert fleet.ended() == []
    jobs[1].run.set_status(state="failed", exit_code=6)
    jobs[2].run.set_status(state="queued", exit_code=None)
    queue -= {"7_1", "7_2", "7_3"}
    assert fleet.ended() == [(jobs[0], 0), (jobs[1], 6), (jobs[2], INTERNAL)]
    assert "ended before it began" in jobs[2].run.status()["reason"]
    assert fleet.active() == []


def test_what_was_preempted_is_given_back_until_it_was_often_enough(tmp_path, queue):
    job = Job(run(tmp_path), ("true",))
    job.run.set_status(state="preempted", exit_code=PREEMPTED)
    fleet = Submitted(requeues=2)
    fleet.add([job])
    assert fleet.ended() == []
    assert fleet.ended() == []
    assert fleet.ended() == [(job, PREEMPTED)]
    assert len(fleet.added) == 3


def test_what_was_told_to_stop_is_not_given_back(tmp_path, queue, monkeypatch):
    said = []
    monkeypatch.setattr(slurm.subprocess, "run", lambda command, check: said.append(command))
    job = Job(run(tmp_path), ("true",))
    job.run.set_status(state="preempted", exit_code=PREEMPTED)
    fleet = Submitted()
    fleet.add([job])
    fleet.stop(15)
    assert fleet.ended() == [(job, PREEMPTED)]
    assert said == [["scancel", "7_1"]]

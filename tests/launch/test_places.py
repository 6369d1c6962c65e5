"""Places of one machine: as many jobs at once as there are places, each with its share of the machine."""

import os
import signal
import sys
import time

import pytest

from lmx.launch.jobs import Job
from lmx.launch.local import Local
from lmx.launch.places import Places
from lmx.launch.pool import Pool, devices, shares
from tests.compare.directories import run

KNOBS = {"processes": 1, "threads": None, "grace": 5, "rank_timeout": 60, "restarts": 0}


def job(folder, code: str) -> Job:
    return Job(run(folder), (sys.executable, "-c", code))


def wait(fleet) -> list[tuple[Job, int]]:
    end = time.monotonic() + 60
    while not (found := fleet.ended()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


def test_a_free_place_takes_the_next_job(tmp_path):
    fleet = Places([{"PLACE": "a"}, {"PLACE": "b"}])
    told = "import os, sys; print(os.environ['PLACE']); sys.exit({})"
    first, second = job(tmp_path, told.format(0)), job(tmp_path, "import time; time.sleep(60)")
    fleet.add([first, second])
    assert wait(fleet) == [(first, 0)]
    assert fleet.active() == [second]
    third = job(tmp_path, told.format(8))
    fleet.add([third])
    assert wait(fleet) == [(third, 8)]
    assert [(one.run.path / "log.txt").read_text() for one in (first, third)] == ["a\n", "a\n"]
    fleet.stop(signal.SIGTERM)
    assert wait(fleet) == [(second, -signal.SIGTERM)]
    assert fleet.active() == []


def test_local_is_one_place():
    assert Local(**KNOBS).fleet().width == 1


@pytest.mark.parametrize(("workers", "processes", "threads"), [(1, 1, 8), (2, 1, 4), (3, 1, 2), (2, 2, 2), (16, 1, 1)])
def test_cores_are_divided(monkeypatch, workers, processes, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    pool = Pool(workers=workers, **KNOBS | {"processes": processes})
    assert pool.environment()["OMP_NUM_THREADS"] == str(threads)
    assert pool.fleet().width == workers


def test_gpus_are_divided(monkeypatch):
    assert shares(["0", "1", "2", "3"], 2) == [["0", "1"], ["2", "3"]]
    assert shares(["0", "1", "2"], 2) == [["0"], ["1"]], "as many for each"
    assert shares(["0", "1"], 3) == [["0"], ["1"], ["0"]]
    assert shares([], 2) == [[], []]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert devices() == ["4", "5"]
    assert Pool(workers=2, **KNOBS).fleet().free == [{"CUDA_VISIBLE_DEVICES": "4"}, {"CUDA_VISIBLE_DEVICES": "5"}]

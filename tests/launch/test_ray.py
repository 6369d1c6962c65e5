"""Tasks of Ray on this machine: how jobs end, and that what is cancelled may save."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from lmx.errors import PREEMPTED
from lmx.launch.jobs import Job
from lmx.launch.ray import Ray
from tests.compare.directories import run

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install ray")
SLOW = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(75)); print('up', flush=True); time.sleep(100)"


@pytest.fixture(scope="module")
def launcher():
    """Ray as `lmx sweep … &` in a script begins it: deaf to Ctrl-C, as are its workers."""
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    one = Ray(
        workers=2,
        processes=1,
        threads=None,
        grace=5,
        rank_timeout=60,
        restarts=0,
        address=None,
        cpus=1,
        gpus=0,
        retries=0,
    )
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    one.fleet()
    signal.signal(signal.SIGINT, before)
    yield one
    ray.shutdown()


def job(folder, code: str) -> Job:
    return Job(run(folder), (sys.executable, "-c", code))


def all_of(fleet, patience: float = 240.0) -> dict[Job, int]:
    end, found = time.monotonic() + patience, {}
    while fleet.active():
        found |= dict(fleet.ended())
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def test_jobs_end_with_their_codes(tmp_path, launcher):
    jobs = [job(tmp_path, f"import sys; print('here'); sys.exit({code})") for code in (0, 6, 0)]
    fleet = launcher.fleet()
    fleet.add(jobs)
    assert len(fleet.tasks) == 2, "the third waits"
    assert all_of(fleet) == dict(zip(jobs, (0, 6, 0), strict=True))
    assert (jobs[2].run.path / "log.txt").read_text() == "here\n"


def test_what_is_cancelled_saves_and_what_waits_does_not_begin(tmp_path, launcher):
    jobs = [job(tmp_path, SLOW) for _ in range(3)]
    for one in jobs:
        one.run.set_status(state="preempted", exit_code=PREEMPTED)
    fleet = launcher.fleet()
    fleet.add(jobs)
    end = time.monotonic() + 120
    while not all((one.run.path / "log.txt").exists() and (one.run.path / "log.txt").read_text() for one in jobs[:2]):
        assert time.monotonic() < end
        time.sleep(0.1)
    fleet.stop(signal.SIGINT)
    assert set(all_of(fleet).values()) == {PREEMPTED}
    assert not (jobs[2].run.path / "log.txt").exists()

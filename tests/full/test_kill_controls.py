"""Controls of tests/faults/test_kill_resume.py: mistakes in resuming that its comparison has to notice."""

# ruff: noqa: F401, F811 (fixtures)

import signal

import pytest

from tests.faults import tiny
from tests.faults.test_kill_resume import KINDS, folder, new, reference, server
from tests.faults.tiny import left
from tests.faults.worker_server import BUGS


@pytest.mark.parametrize(("bug", "step"), [(bug, 40 if bug == "late" else 13) for bug in BUGS])
def test_bugs_are_seen(server, folder, reference, bug, step):
    """The control: the same kill, with a mistake in the worker that a straight run would not show."""
    run = new(folder, KINDS[3])
    assert server.work(run, bug=bug, kill_at=step) == -signal.SIGKILL
    assert server.work(run, bug=bug) == 0
    assert tiny.differences(reference, left(run))


@pytest.mark.parametrize("bug", ["moments", "lines", "ledger", "late"])
def test_bugs_that_a_straight_run_hides(server, folder, reference, bug):
    """So it is resuming that the test above looks at."""
    run = new(folder, KINDS[3])
    assert server.work(run, bug=bug) == 0
    assert tiny.differences(reference, left(run)) == []

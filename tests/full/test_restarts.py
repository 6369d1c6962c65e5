"""torchrun begins again after a failure, and the run goes on from its newest checkpoint.

Fails where new ranks are told the addresses of those that are gone (gloo: connection refused).
"""

import os
import signal

from tests.dist.test_two_ranks import LIMIT, alike, alone, folder, other, start, trained, until  # noqa: F401 fixtures


def test_torchrun_begins_again_after_a_failure(folder, alone):  # noqa: F811
    launcher, run = start(folder, 2, "launcher.restarts=1")
    until(trained(run, 6), LIMIT)
    os.kill(other(run), signal.SIGKILL)
    text, _ = launcher.communicate(timeout=LIMIT)
    assert launcher.returncode == 0, text
    assert run.status()["state"] == "done"
    assert run.status()["note"] == "begun again after a failure, time 1"
    alike(run, alone)

"""A reader of a run that is killed while it sends; the rest is in tests/track/test_wandb.py."""

# ruff: noqa: F401, F811 (fixtures)

import os
import signal
import subprocess
import time

from lmx.runs import Run
from tests.track.directories import end, make, start, train
from tests.track.fake_wandb import FakeWandb
from tests.track.test_wandb import READER, check_rows, fake


def wait_for(rows: int, fake: FakeWandb, run: Run) -> None:
    patience = time.monotonic() + 30
    while len(fake.history(run.name)) < rows:
        assert time.monotonic() < patience, f"{len(fake.history(run.name))} rows of {rows}"
        time.sleep(0.1)


def test_reader_killed_while_following(tmp_path, fake):
    """No row is lost, none comes twice, and a reader that starts early waits for the one before."""
    run = make(tmp_path)
    start(run)
    follow = {
        "args": [*READER, str(run.path), "--follow"],
        "env": os.environ | fake.environment(),
        "stdout": subprocess.PIPE,
    }
    first = subprocess.Popen(**follow)
    train(run, 1, 60)
    wait_for(4, fake, run)
    second = subprocess.Popen(**follow)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    train(run, 61, 80)
    wait_for(8, fake, run)
    train(run, 81, 100)
    end(run)
    second.communicate(timeout=60)
    assert second.returncode == 0
    check_rows(run, fake.history(run.name))
    assert fake.exit_codes[run.name] == 0

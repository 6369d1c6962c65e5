"""One job without a model: a run that gives no sign of life is killed, one that is told to stop is not measured."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from lmx.cli import job
from lmx.errors import HUNG, INTERRUPTED, PREEMPTED
from lmx.launch.local import Processes
from lmx.runs import Run
from tests.compare.directories import KNOBS, run

SIGN = "import pathlib, time\nfor _ in range(40):\n    pathlib.Path('metrics.jsonl').touch(); time.sleep(0.1)\n"


class Launcher:
    """Starts Python code instead of a worker; it stands for itself in a config."""

    def __init__(self, code: str):
        self.code = code

    def start(self, run: Run):
        if self.code == "track":
            return None
        command = [sys.executable, "-c", self.code]
        return Processes(run, subprocess.Popen(command, start_new_session=True, cwd=run.path), 5, alone=True)


@pytest.fixture
def train(tmp_path, monkeypatch):
    """train(code, timeout) -> exit code, status"""

    def trained(code: str, timeout: float | None):
        one = run(tmp_path, state="failed")
        monkeypatch.setattr(job, "build", lambda node: Launcher("track" if "project" in node else code))
        found = job.train(one, timeout)
        assert not one.alive()
        return found, one.status()

    return trained


def test_a_run_without_a_sign_of_life_is_killed(train):
    code, status = train("import time; time.sleep(1000)", 2)
    assert code == status["exit_code"] == HUNG
    assert (status["state"], status["reason"]) == ("failed", "no sign of life for 2 seconds: it was killed")


def test_signs_of_life_keep_a_run_alive(train):
    """Four seconds of work with a line now and then; that it writes no status here is the test's."""
    code, status = train(SIGN, 3)
    assert code != HUNG
    assert "no sign of life" not in status["reason"]


def test_what_is_told_to_stop_before_it_began_can_go_on(train):
    threading.Timer(2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    code, status = train("import time; time.sleep(1000)", None)
    assert code == PREEMPTED
    assert status["state"] == "preempted"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, PREEMPTED)])
def test_a_signal_while_measuring_ends_it(tmp_path, monkeypatch, number, code):
    def slow(*_):
        signal.raise_signal(number)
        time.sleep(60)

    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    monkeypatch.setattr(job, "measure", slow)
    monkeypatch.setattr(sys, "argv", ["job", str(run(tmp_path).path)])
    try:
        with pytest.raises(SystemExit) as left:
            job.main()
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    assert left.value.code == code


def test_what_a_launcher_is_given(tmp_path):
    one = job.job(run(tmp_path), KNOBS, 30)
    assert one.command[:4] == (sys.executable, "-P", "-m", "lmx.cli.job")
    assert one.command[-2:] == ("--timeout", "30")

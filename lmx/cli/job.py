"""One run to its end, on the machine where a launcher has put it: `python -m lmx.cli.job RUN`. It is trained, then measured.

What it has to say is in the run's directory; the exit code is the run's, or that of measuring it. Whoever trains the run already
is waited for.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from subprocess import TimeoutExpired
from types import FrameType
from typing import Any

from lmx.build import build
from lmx.cli.evaluating import measure
from lmx.cli.launching import FINISHING
from lmx.errors import HUNG, INTERRUPTED, PREEMPTED, LmxError
from lmx.launch.jobs import Job
from lmx.runs import Run, done

EVERY = 0.1  # seconds between two looks
SIGNS = ("status.json", "metrics.jsonl", "evals/validation.jsonl", "evals/samples.jsonl", "log.txt")


def job(run: Run, yardsticks: Mapping[str, Any], timeout: float | None = None) -> Job:
    """What a launcher is given; `timeout` is how many seconds a run may leave no sign of life."""
    told = ["--yardsticks", json.dumps(yardsticks), *(["--timeout", f"{timeout:g}"] if timeout else [])]
    return Job(run, (sys.executable, "-P", "-m", "lmx.cli.job", str(run.path.resolve()), *told))


def train(run: Run, timeout: float | None) -> int:
    """-> the exit code"""
    config = run.config()
    run.lock()
    run.set_status(state="queued", pid=None, phase="starting", phase_progress=None, reason=None, exit_code=None)
    processes = build(config["launcher"]).start(run)
    tracker = build(config["track"]).start(run)
    hung = False
    while processes.running():
        time.sleep(EVERY)
        if timeout and silence(run) > timeout and not hung:
            hung = True
            os.killpg(processes.child.pid, signal.SIGKILL)
    stopped = processes.stopping()
    code = processes.finish()
    if hung and code:
        code = HUNG
        run.set_status(state="failed", reason=f"no sign of life for {timeout:g} seconds: it was killed", exit_code=code)
    run.unlock()
    if tracker is not None and code == 0:
        with suppress(TimeoutExpired):  # `lmx sync` sends the rest
            tracker.wait(FINISHING)
    return PREEMPTED if stopped and code == 0 else code


def silence(run: Run) -> float:
    """Seconds since the run has written anything."""
    signs = [run.path / name for name in SIGNS]
    return time.time() - max(path.stat().st_mtime for path in signs if path.exists())


def leave(number: int, frame: FrameType | None) -> None:
    """Between training and after it there is nothing to save."""
    sys.exit(INTERRUPTED if number == signal.SIGINT else PREEMPTED)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--yardsticks", type=json.loads, default={})
    parser.add_argument("--timeout", type=float)
    asked = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, leave)
    run = Run.open(asked.run)
    try:
        while run.alive():
            time.sleep(EVERY)
        code = 0 if done(run) else train(run, asked.timeout)
        if code == 0 and (failed := measure(run, None, asked.yardsticks)):
            return next(iter(failed.values())).exit_code
    except LmxError as error:
        print(f"lmx: {error}", file=sys.stderr)
        return error.exit_code
    return code


if __name__ == "__main__":
    sys.exit(main())

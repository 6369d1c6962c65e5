"""Training processes on this machine: one python, or torchrun for several.

They outlive no launcher, and lose nothing by it.
The worker is told to stop by signals (lmx/train/stop.py). torchrun always exits with 1, so the exit code is read from the
run's status.
"""

import ctypes
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated

from annotated_types import Ge, Gt

from lmx.errors import INTERNAL, INTERRUPTED, PREEMPTED
from lmx.launch.places import Places
from lmx.runs import ELSEWHERE, LOCK, RANK_TIMEOUT, Run

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
MALLOC = {  # glibc: keep freed memory. Mapping it anew for every tensor costs up to a fifth of a step
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(64 * 2**30),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}


class Local:
    remote = False  # whether its fleet is other machines

    def __init__(
        self,
        *,
        processes: Annotated[int, Ge(1)],
        threads: Annotated[int, Ge(1)] | None,
        grace: Annotated[int, Ge(1)],
        rank_timeout: Annotated[float, Gt(0)],
        restarts: Annotated[int, Ge(0)],
    ):
        self.processes, self.threads, self.grace = processes, threads, grace
        self.rank_timeout, self.restarts = rank_timeout, restarts

    def start(self, run: Run) -> "Processes":
        """Start the workers of a run that this process has locked, or another machine's launcher."""
        alone, lock = self.alone(), ELSEWHERE if run.descriptor is None else run.descriptor
        worker = ["-m", "lmx.worker", str(run.path)]
        torchrun = ["-m", "torch.distributed.run", *self.meeting(run), f"--nproc-per-node={self.processes}"]
        torchrun.append(f"--max-restarts={self.restarts}")
        with (run.path / "log.txt").open("ab") as log, held():
            child = subprocess.Popen(
                [sys.executable, *([] if alone else torchrun), *worker],
                env=os.environ | self.environment() | {LOCK: str(lock)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # the terminal's Ctrl-C comes through `forward` alone
                pass_fds=[] if lock == ELSEWHERE else [lock],
                preexec_fn=partial(begin, alone),
            )
            return Processes(run, child, self.grace, alone=alone)

    def alone(self) -> bool:
        """Whether it is one process, which needs no torchrun."""
        return self.processes == 1

    def meeting(self, run: Run) -> list[str]:
        """How torchrun finds the other machines."""
        return ["--standalone"]

    def environment(self) -> dict[str, str]:
        threads = self.threads or max(1, self.cores() // self.processes)
        return {
            "OMP_NUM_THREADS": str(threads),
            "GOMP_SPINCOUNT": "10000",  # threads that wait give way soon: spinning stalls a busy machine
            "PYTHONSAFEPATH": "1",  # nothing is imported from the working directory
            "PYTHONUNBUFFERED": "1",
            "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(self.grace),
            RANK_TIMEOUT: f"{self.rank_timeout:g}",
            **MALLOC,
        }

    def cores(self) -> int:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def fleet(self) -> Places:
        """One place: runs one after the other."""
        return Places([{}])


@contextmanager
def held() -> Iterator[None]:
    """Signals wait until they can be handed on."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def begin(alone: bool) -> None:
    """In the child: a SIGTERM when the launcher dies (Linux), so that it saves and ends.

    Signals stay blocked until a worker listens to them (lmx/train/stop.py); torchrun would not unblock them.
    """
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if not alone:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


class Processes:
    """The workers of one run, as one thing to wait for and to signal."""

    def __init__(self, run: Run, child: subprocess.Popen, grace: int, *, alone: bool):
        self.run, self.child, self.grace, self.alone = run, child, grace, alone
        self.deadline: float | None = None
        self.asked: int | None = None  # the signal handed on
        self.before = {number: signal.signal(number, self.forward) for number in SIGNALS}

    def forward(self, number: int, frame: FrameType | None) -> None:
        """Hand a signal on; torchrun knows only SIGTERM and SIGINT."""
        self.asked, self.deadline = number, self.deadline or time.monotonic() + self.grace
        if self.child.poll() is None:
            self.child.send_signal(number if self.alone or number != signal.SIGUSR1 else signal.SIGTERM)

    def stopping(self) -> bool:
        """Whether a signal has come: the workers finish a step and save."""
        return self.deadline is not None

    def running(self) -> bool:
        """False once the workers are gone; those that do not end within the grace period after a signal are killed."""
        if self.child.poll() is not None:
            return False
        if self.deadline and time.monotonic() > self.deadline:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()
            return False
        return True

    def finish(self) -> int:
        """Wait, put the signal handlers back; -> the exit code of the run. Raises what a handler does."""
        while self.running():
            time.sleep(0.05)
        for number, handler in self.before.items():
            signal.signal(number, handler)
        state, code, reason = self.outcome()
        if reason is not None:
            self.run.set_status(state=state, reason=reason, exit_code=code)
        if self.asked is not None and code not in (INTERRUPTED, PREEMPTED):
            self.pass_on(self.asked)
        return code

    def pass_on(self, number: int) -> None:
        """A signal that came too late for this run still stops whoever has more to do, and has said so by a handler."""
        handler = self.before[signal.Signals(number)]
        if callable(handler) and handler is not signal.default_int_handler:
            handler(number, None)

    def outcome(self) -> tuple[str, int, str | None]:
        """-> state, exit code, and the reason where the worker could not write them itself."""
        status, code = self.run.read_json("status.json"), self.child.returncode
        if status["state"] in ("done", "failed", "preempted"):
            return status["state"], status["exit_code"], None
        if status["state"] == "queued" and self.asked is not None:
            # the worker did not listen yet: nothing is lost
            code = INTERRUPTED if self.asked == signal.SIGINT else PREEMPTED
            return "preempted", code, "told to stop before it began"
        if code == INTERRUPTED:
            return "killed", code, "interrupted twice: it left without saving"
        if code < 0:
            return "killed", 128 - code, f"its process was ended by {signal.Signals(-code).name}"
        return "killed", INTERNAL, f"its process exited with {code}, see log.txt"


def log_tail(run: Run, lines: int = 3) -> str:
    """The end of a run's log, for a failure that left no reason."""
    path: Path = run.path / "log.txt"
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

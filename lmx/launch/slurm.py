"""SLURM, through submitit: runs as an array of jobs that are saved before their time is up or they are preempted, and go on.

What runs is known from `squeue`, which needs no accounting; how a run ended, from its directory, which all nodes must share.
submitit pickles the command of each job into a folder beside the runs, and reads it again on the node.
"""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import submitit
from annotated_types import Ge, Gt
from submitit.core.utils import FailedJobError

from lmx.errors import INTERNAL, PREEMPTED, LmxError
from lmx.launch.jobs import Fleet, Job
from lmx.launch.local import Local
from lmx.launch.places import end_with_parent

FOLDER = ".slurm"  # beside the runs: what submitit writes, and the output of jobs
SIGNAL = "USR1"  # before the time is up; a worker saves and ends
MANY = 1000  # jobs at once, where SLURM alone limits them
EVERY = 2.0  # seconds between two questions to SLURM


class Slurm(Local):
    remote = True

    def __init__(
        self,
        *,
        workers: Annotated[int, Ge(1)] | None,
        processes: Annotated[int, Ge(1)],
        threads: Annotated[int, Ge(1)] | None,
        grace: Annotated[int, Ge(1)],
        rank_timeout: Annotated[float, Gt(0)],
        restarts: Annotated[int, Ge(0)],
        partition: str | None,
        account: str | None,
        minutes: Annotated[int, Ge(1)],
        requeues: Annotated[int, Ge(0)],
        cpus: Annotated[int, Ge(1)],
        gpus: Annotated[int, Ge(0)],
        memory_gb: Annotated[float, Gt(0)] | None,
        options: dict[str, str | int],
    ):
        super().__init__(
            processes=processes, threads=threads, grace=grace, rank_timeout=rank_timeout, restarts=restarts
        )
        self.workers, self.requeues = workers, requeues
        wanted = {
            "partition": partition,
            "account": account,
            "time": minutes,
            "cpus_per_task": cpus,
            "gpus_per_node": gpus or None,
            "mem": f"{round(memory_gb * 1024)}MB" if memory_gb else None,
            "array_parallelism": workers or MANY,
            "signal_delay_s": grace,
            "additional_parameters": options or None,
        }
        self.parameters = {key: value for key, value in wanted.items() if value is not None}

    def cores(self) -> int:
        return int(os.environ.get("SLURM_CPUS_PER_TASK") or super().cores())

    def fleet(self) -> "Array":
        return Array(self.parameters, self.workers or MANY, self.requeues)


class Array(Fleet):
    queues = True

    def __init__(self, parameters: dict, width: int, requeues: int):
        self.parameters, self.width, self.requeues = parameters, width, requeues
        self.ids: dict[Job, str] = {}
        self.again: dict[Job, int] = {}  # how often a job was given back after it had been told to save
        self.stopped: set[Job] = set()
        self.known: set[str] = set()
        self.asked = 0.0

    def add(self, jobs: Sequence[Job]) -> None:
        if not jobs:
            return
        os.environ["SUBMITIT_PREEMPT_SIGNAL"] = SIGNAL  # inherited by the job
        folder = jobs[0].run.path.resolve().parent / FOLDER
        try:
            executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=self.requeues)
            executor.update_parameters(job_name="lmx", **self.parameters)
            paths = [str(job.run.path.resolve()) for job in jobs]
            submitted = executor.map_array(Work(), [job.command for job in jobs], paths)
        except (RuntimeError, ValueError, FailedJobError) as error:
            raise LmxError(
                f"launcher=slurm must have a SLURM that takes jobs, got: {str(error).splitlines()[-1]}"
            ) from None
        self.ids |= {job: one.job_id for job, one in zip(jobs, submitted, strict=True)}
        self.asked = 0.0

    def active(self) -> list[Job]:
        return list(self.ids)

    def ended(self) -> list[tuple[Job, int]]:
        if self.ids and time.monotonic() - self.asked > EVERY:
            self.known, self.asked = waiting_or_running(), time.monotonic()
        gone = [job for job, number in self.ids.items() if number not in self.known] if self.asked else []
        found = []
        for job in gone:
            del self.ids[job]
            code = outcome(job)
            if code == PREEMPTED and job not in self.stopped and self.again.get(job, 0) < self.requeues:
                self.again[job] = self.again.get(job, 0) + 1
                self.add([job])
            else:
                found.append((job, code))
        return found

    def end(self, job: Job, number: int) -> None:
        """Whatever the signal: SLURM takes a job that waits out of its queue, and sends SIGTERM to one that runs."""
        self.stopped.add(job)
        subprocess.run(["scancel", self.ids[job]], check=False)


class Work:
    """What submitit calls on a node, and asks to save before it requeues the job."""

    child: subprocess.Popen

    def __call__(self, command: Sequence[str], path: str) -> int:
        with (Path(path) / "log.txt").open("ab") as log:
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=end_with_parent
            )
        return self.child.wait()

    def checkpoint(self, command: Sequence[str], path: str) -> submitit.helpers.DelayedSubmission:
        self.child.send_signal(signal.SIGUSR1)
        self.child.wait()
        return submitit.helpers.DelayedSubmission(Work(), command, path)


def waiting_or_running() -> set[str]:
    """Ids of jobs and of tasks of arrays, `12` and `12_0`. Raises LmxError when SLURM does not answer."""
    done = subprocess.run(["squeue", "-h", "-r", "-o", "%F %K"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LmxError(f"launcher=slurm must have a SLURM that answers, got: {done.stderr.strip()}")
    pairs = [line.split() for line in done.stdout.splitlines()]
    return {job if task == "N/A" else f"{job}_{task}" for job, task in pairs}


def outcome(job: Job) -> int:
    """The exit code of a run whose job has left the queue, as its directory has it."""
    status = job.run.status()
    if status.get("state") == "done":
        return 0
    if status.get("state") == "queued":
        job.run.set_status(
            state="failed", reason=f"its job ended before it began: see {Path(job.run.path.parent, FOLDER)}"
        )
    return status.get("exit_code") or INTERNAL

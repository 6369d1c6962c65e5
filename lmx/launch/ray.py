"""Ray: runs as tasks with resources, on this machine or a cluster whose machines share the folder of runs.

A task that loses its machine is given another one, where its run goes on from its last checkpoint.
"""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt

from lmx.errors import INTERNAL, PREEMPTED, LmxError
from lmx.launch.jobs import Fleet, Job
from lmx.launch.local import Local
from lmx.launch.places import end_with_parent

MANY = 1000  # tasks at once, where Ray alone limits them
EVERY = 0.2  # seconds between two looks of a task
CARRIED = ("LMX_", "WANDB_", "PYTHONPATH", "HF_")  # beginnings of variables that a task needs


class Ray(Local):
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
        address: str | None,
        cpus: Annotated[int, Ge(1)],
        gpus: Annotated[int, Ge(0)],
        retries: Annotated[int, Ge(0)],
    ):
        threads = threads or max(1, cpus // processes)
        super().__init__(
            processes=processes, threads=threads, grace=grace, rank_timeout=rank_timeout, restarts=restarts
        )
        self.workers, self.address = workers, address
        self.resources = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": retries}

    def fleet(self) -> "Tasks":
        return Tasks(self.address, self.resources, self.workers or MANY, self.grace)


class Tasks(Fleet):
    queues = True

    def __init__(self, address: str | None, resources: dict[str, int], width: int, grace: int):
        self.ray = loaded()
        if not self.ray.is_initialized():
            quiet = {"include_dashboard": False} if address is None else {}
            self.ray.init(address=address, log_to_driver=False, configure_logging=False, **quiet)
        self.width, self.grace = width, grace
        self.task = self.ray.remote(carry).options(**resources)
        self.waiting: list[Job] = []
        self.tasks: dict[Job, Any] = {}
        self.stopped: set[Job] = set()

    def add(self, jobs: Sequence[Job]) -> None:
        self.waiting += jobs
        variables = {key: value for key, value in os.environ.items() if key.startswith(CARRIED)}
        while self.waiting and len(self.tasks) < self.width:
            job = self.waiting.pop(0)
            place = str(job.run.path.resolve())
            self.tasks[job] = self.task.remote(list(job.command), place, variables, self.grace)

    def active(self) -> list[Job]:
        return [*self.tasks, *self.waiting]

    def ended(self) -> list[tuple[Job, int]]:
        self.add([])
        if not self.tasks:
            return []
        owners = {task: job for job, task in self.tasks.items()}
        over, _ = self.ray.wait(list(owners), num_returns=len(owners), timeout=0)
        found = []
        for task in over:
            job = owners[task]
            if job.run.alive():  # a task that was cancelled is over before its run has saved
                continue
            del self.tasks[job]
            code = self.outcome(task, job)
            if code == PREEMPTED and job not in self.stopped:  # its machine was taken away
                self.waiting.append(job)
            else:
                found.append((job, code))
        return found

    def outcome(self, task: Any, job: Job) -> int:
        """The exit code that a task gives, or that its run's directory has where there is no task any more."""
        try:
            return int(self.ray.get(task))
        except self.ray.exceptions.RayError:
            status = job.run.status()
            if status.get("state") == "queued":
                job.run.set_status(state="preempted", reason="told to stop before it began", exit_code=PREEMPTED)
                return PREEMPTED
            return 0 if status.get("state") == "done" else status.get("exit_code") or INTERNAL

    def end(self, job: Job, number: int) -> None:
        """Whatever the signal, a task that runs saves and ends."""
        self.stopped.add(job)
        if job in self.waiting:
            self.waiting.remove(job)
        else:
            self.ray.cancel(self.tasks[job], force=False)


def loaded() -> Any:
    """Ray takes a second to import, and not everybody has it."""
    try:
        import ray
    except ModuleNotFoundError:
        raise LmxError("launcher=ray needs the package ray. Type pip install ray.") from None
    return ray


def carry(command: list[str], path: str, variables: dict[str, str], grace: int) -> int:
    """In a worker of Ray. A task that is cancelled hears of it as Ctrl-C, also where Ray began in the background, deaf to it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with (Path(path) / "log.txt").open("ab") as log:
        child = subprocess.Popen(
            command, env=os.environ | variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            preexec_fn=end_with_parent,
        )  # fmt: skip
    try:
        while child.poll() is None:
            time.sleep(EVERY)
    except BaseException:
        child.send_signal(signal.SIGTERM)
        child.wait(grace + 10)
    return child.returncode

"""Places of this machine for jobs: one process each, with the environment of its place."""

import ctypes
import os
import platform
import signal
import subprocess
from collections.abc import Mapping, Sequence

from lmx.launch.jobs import Fleet, Job


class Places(Fleet):
    def __init__(self, environments: Sequence[Mapping[str, str]]):
        self.width, self.free = len(environments), list(environments)
        self.children: dict[Job, tuple[subprocess.Popen, Mapping[str, str]]] = {}

    def add(self, jobs: Sequence[Job]) -> None:
        """At most as many as there are free places. What a job says goes to its run's log."""
        for job in jobs:
            place = self.free.pop(0)
            with (job.run.path / "log.txt").open("ab") as log:
                child = subprocess.Popen(
                    job.command,
                    env=os.environ | place,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # the terminal's Ctrl-C comes through `stop` alone
                    preexec_fn=end_with_parent,
                )
            self.children[job] = (child, place)

    def active(self) -> list[Job]:
        return list(self.children)

    def ended(self) -> list[tuple[Job, int]]:
        found = [(job, child.returncode) for job, (child, _) in self.children.items() if child.poll() is not None]
        for job, _ in found:
            self.free.append(self.children.pop(job)[1])
        return found

    def end(self, job: Job, number: int) -> None:
        child, _ = self.children[job]
        if child.poll() is None:
            child.send_signal(number)


def end_with_parent() -> None:
    """In the child: a SIGTERM when its parent dies (Linux), so that it saves and ends."""
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)

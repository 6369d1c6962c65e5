"""The contract of launchers: each run is given away as a job, and where jobs are carried out is the launcher's business.

    fleet = launcher.fleet()
    fleet.add(jobs)         into its places, or into its queue
    fleet.ended()           those that have ended since the last look, with their exit codes
    fleet.stop(SIGINT)      what runs saves and ends, what waits does not begin

A job is a command that takes one run to its end on whatever machine it finds itself. All else is in the run's directory.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from lmx.runs import Run


@dataclass(frozen=True)
class Job:
    run: Run
    command: tuple[str, ...]


class Fleet(ABC):
    """`width` jobs at once; one that `queues` takes more, and begins them when it can."""

    width: int
    queues = False

    @abstractmethod
    def add(self, jobs: Sequence[Job]) -> None: ...

    @abstractmethod
    def active(self) -> list[Job]:
        """Those that have been added and have not ended."""

    @abstractmethod
    def ended(self) -> list[tuple[Job, int]]: ...

    @abstractmethod
    def end(self, job: Job, number: int) -> None:
        """Send a signal to one job."""

    def stop(self, number: int) -> None:
        for job in self.active():
            self.end(job, number)

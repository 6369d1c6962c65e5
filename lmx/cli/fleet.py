"""Jobs in flight: handed to a launcher as it has room for them, shown while they run, and told to stop when we are."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice

from rich.console import Console

from lmx.cli.board import Board
from lmx.errors import INTERRUPTED, PREEMPTED, LmxError
from lmx.launch.jobs import Fleet, Job
from lmx.track.progress import EVERY

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def nobody(job: Job, code: int) -> None:
    pass


def carry_out(
    jobs: Iterator[Job],
    fleet: Fleet,
    board: Board,
    console: Console,
    *,
    ahead: bool = True,
    ended: Callable[[Job, int], None] = nobody,
    watched: Callable[[list[Job]], None] = lambda active: None,
) -> None:
    """All jobs, to their ends. One that fails stops no other; Ctrl-C and SIGTERM stop all, and raise LmxError once all is saved.

    `ahead`: jobs may be taken before others have ended; `ended` and `watched` are told how it goes.
    """
    with hearing() as heard, board.shown(console):
        told = 0
        while True:
            for number in heard[told:]:
                fleet.stop(number)
            told = len(heard)
            for job, code in fleet.ended():
                board.ended(job.run, console)
                ended(job, code)
            if not heard:
                room = None if ahead and fleet.queues else fleet.width - len(fleet.active())
                fleet.add(list(islice(jobs, room)))
            active = fleet.active()
            if not active:
                break
            board.look([job.run for job in active], stopping=bool(heard))
            watched(active)
            time.sleep(EVERY)
    if heard:
        error = LmxError("stopped; all that ran is saved. The same command goes on from here.")
        error.exit_code = INTERRUPTED if heard[0] == signal.SIGINT else PREEMPTED
        raise error


@contextmanager
def hearing() -> Iterator[list[int]]:
    """Signals are noted, and acted upon between two looks."""
    heard: list[int] = []
    before = {number: signal.signal(number, lambda number, _: heard.append(number)) for number in SIGNALS}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

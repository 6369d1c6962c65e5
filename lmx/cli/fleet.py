"""Jobs in flight: handed to a launcher as it has room for them, shown while they run, and told to stop when we are."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice

from rich.console import Console

from lmx.cli.board import Board
from lmx.cli.job import job
from lmx.errors import INTERRUPTED, PREEMPTED, LmxError
from lmx.launch.jobs import Fleet, Job
from lmx.runs import Run
from lmx.track.progress import EVERY, follow, summary

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def nobody(one: Job, code: int) -> None:
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
            for one, code in fleet.ended():
                board.ended(one.run, console)
                ended(one, code)
            if not heard:
                room = None if ahead and fleet.queues else fleet.width - len(fleet.active())
                fleet.add(list(islice(jobs, room)))
            active = fleet.active()
            if not active:
                break
            board.look([one.run for one in active], stopping=bool(heard))
            watched(active)
            time.sleep(EVERY)
    if heard:
        error = LmxError("stopped; all that ran is saved. The same command goes on from here.")
        error.exit_code = INTERRUPTED if heard[0] == signal.SIGINT else PREEMPTED
        raise error


def sent(run: Run, fleet: Fleet) -> int:
    """One run to its end on another machine, followed from here; -> its exit code."""
    console, codes = Console(highlight=False), []
    fleet.add([job(run, {})])
    with hearing() as heard:

        def running() -> bool:
            if heard:
                fleet.stop(heard[0])
            codes.extend(code for _, code in fleet.ended())
            return not codes

        summary(follow(run, running, console, lambda: bool(heard)), console)
    return codes[0]


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

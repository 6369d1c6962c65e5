"""Modules that run in processes of their own, because the command line does not import torch; and what stops both."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

from lmx.errors import INTERRUPTED, PREEMPTED, LmxError
from lmx.launch.local import SIGNALS, begin


def aside(module: str, stderr: Any, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """`python -m MODULE`, to be talked to. No Ctrl-C of the terminal reaches it, and it outlives nobody."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True, encoding="utf-8", env=environment,
        start_new_session=True, preexec_fn=partial(begin, False),
    )  # fmt: skip


class Stopped(KeyboardInterrupt):
    """No failure, so that nobody goes on after it."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGUSR1 end the block with one line and their exit code. What has been made or measured is on disk."""
    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    except Stopped as stopped:
        error = LmxError("stopped; what has been done is kept. The same command goes on from here.")
        error.exit_code = stopped.args[0]
        raise error from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(INTERRUPTED if number == signal.SIGINT else PREEMPTED)

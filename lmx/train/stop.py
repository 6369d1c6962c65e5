"""Signals that ask a run to stop: the step is finished, everything is saved, and the exit code says who asked."""

import os
import signal
from types import FrameType

import torch

from lmx.errors import INTERRUPTED, PREEMPTED
from lmx.train import checkpoint, distributed

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Stopped(Exception):
    """Asked to stop while there was nothing to save yet."""


class Stop:
    """SIGTERM and SIGUSR1: exit 75, requeue me. SIGINT: exit 130; a second one leaves at once, but not amid a checkpoint."""

    def __init__(self) -> None:
        self.code = 0
        for number in SIGNALS:
            signal.signal(number, self.hear)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # the launcher blocks them until someone listens

    def hear(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.code == INTERRUPTED and not checkpoint.committing():
            os._exit(INTERRUPTED)
        self.code = max(self.code, INTERRUPTED if number == signal.SIGINT else PREEMPTED)

    @property
    def reason(self) -> str:
        return "interrupted" if self.code == INTERRUPTED else "preempted by a signal"

    def check(self) -> None:
        """Raises Stopped if this process was asked to stop."""
        if self.code:
            raise Stopped

    def agreed(self, device: torch.device) -> bool:
        """Whether any rank was asked to stop: all ranks stop after the same step."""
        told = distributed.largest(self.code, device)
        if told:  # a signal that came meanwhile, of which the others do not know yet, is kept for the next step
            self.code = told
        return told != 0

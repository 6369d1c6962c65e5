"""Mistakes a user can fix, and the exit code of each kind.

The command line prints the message alone, on one line. Anything that is not an `LmxError` is a bug
and keeps its traceback (exit code 70).
"""

from collections.abc import Iterable
from difflib import get_close_matches

FAILED_ARM = 8  # some runs of a comparison failed; the others are compared
PREEMPTED = 75  # after SIGTERM or SIGUSR1: saved, requeue me (EX_TEMPFAIL)
HUNG = 124  # of a run that gave no sign of life and was killed, as timeout(1) has it
INTERRUPTED = 130  # after SIGINT: saved
INTERNAL = 70  # a bug (EX_SOFTWARE)


class LmxError(Exception):
    """`<dotted.key> must <rule>, got <value>.` and what to type instead, on one line."""

    exit_code = 2


class DataError(LmxError):
    """Names the file, the line or byte, and the cause."""

    exit_code = 3


class CheckpointError(LmxError):
    exit_code = 4


class DiskFull(LmxError):
    exit_code = 5


class NonFinite(LmxError):
    """A loss or gradient that is not finite, too often in a row: names step, term and samples."""

    exit_code = 6


class Locked(LmxError):
    """Another process writes this run directory."""

    exit_code = 7


def nearest(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'mlm'?`, or nothing when no known name is close."""
    close = get_close_matches(name, list(known), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""

"""A rank that is dead, stopped or stuck ends the run: with its name, its step and its stack, and not with a wait for ever.

    ranks/0.json    how far rank 0 is: written every second, by a thread
    ranks/0.txt     its stack, once somebody has asked for it

Every rank looks at the others. A process that is gone is seen at once; one that gives no sign of life, or does not come where
the others wait for it, after `launcher.rank_timeout`. Whoever sees it says so in status.json, has stacks written, and ends.
"""

import faulthandler
import json
import os
import re
import shutil
import signal
import socket
import sys
import threading
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from lmx.errors import INTERNAL
from lmx.runs import RANK_TIMEOUT, Run
from lmx.train import distributed

EVERY = 1.0  # seconds between two looks
DUMPING = 0.5  # seconds in which a process can write its stack
TOGETHER = (
    "training"  # the phase in which ranks wait for each other; in others, rank 0 works alone for as long as it needs
)
ENDED = "ended"


class Watch:
    """Nothing, when there is one process."""

    def __init__(self, run: Run):
        self.run, self.folder = run, run.path / "ranks"
        self.timeout = float(os.environ.get(RANK_TIMEOUT, "inf"))
        self.ended, self.thread = threading.Event(), None
        self.pids: list[int] = []
        self.together = 0.0  # since when all ranks are known to train
        self.heard: dict[int, tuple[int, float]] = {}  # rank -> its last beat, and when it was heard here

    def start(self, device: torch.device) -> None:
        """Once all ranks are there. Process ids come from the ranks themselves: a run directory could name any process."""
        if distributed.world_size() == 1:
            return
        own = torch.tensor([os.getpid(), machine()], dtype=torch.int64, device=device)
        places = [place.tolist() for place in distributed.gather(own)]
        self.pids = [pid if there == machine() else 0 for pid, there in places]
        if distributed.rank() == 0:
            self.clear()
        distributed.barrier()
        self.folder.mkdir(exist_ok=True)
        self.stack = self.path(distributed.rank(), "txt").open("w+")
        faulthandler.register(signal.SIGUSR2, file=self.stack, all_threads=True)
        self.beat(0)
        distributed.barrier()
        self.thread = threading.Thread(target=self.look, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """This rank has said all it had to say."""
        self.ended.set()
        if self.thread:
            self.thread.join()
            distributed.PULSE.phase = ENDED
            self.beat(-1)
            if distributed.rank() == 0 and self.run.read_json("status.json")["state"] in ("done", "preempted"):
                self.clear()

    def clear(self) -> None:
        """What an earlier attempt left; a link, which could lead anywhere, is not followed."""
        if self.folder.is_symlink():
            self.folder.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, rank: int, suffix: str) -> Path:
        return self.folder / f"{rank}.{suffix}"

    def look(self) -> None:
        number = 0
        while not self.ended.wait(EVERY):
            number += 1
            self.beat(number)
            if lost := self.lost():
                self.end(lost)

    def beat(self, number: int) -> None:
        """`number` grows: clocks of two machines are not compared."""
        pulse = distributed.PULSE
        told = {"beat": number, "phase": pulse.phase, "step": pulse.step, "meetings": pulse.meetings}
        temporary = self.path(distributed.rank(), "tmp")
        with suppress(OSError):  # a full disk, or another rank has tidied up
            temporary.write_text(json.dumps(told))
            temporary.replace(self.path(distributed.rank(), "json"))

    def told(self, rank: int) -> dict[str, Any]:
        try:
            return json.loads(self.path(rank, "json").read_text())
        except (OSError, ValueError):
            return {"beat": 0, "phase": "starting", "step": 0, "meetings": 0}

    def lost(self) -> dict[int, str]:
        """Ranks for which nobody needs to wait any longer -> why."""
        now, conditions = time.monotonic(), [condition(pid) if pid else "?" for pid in self.pids]
        told = [self.told(rank) for rank in range(len(self.pids))]  # afterwards: whoever ends says so before it is gone
        found: dict[int, str] = {}
        for rank, state in enumerate(told):
            if rank == distributed.rank() or state["phase"] == ENDED:
                continue
            beat, since = self.heard.get(rank, (-2, now))
            since = since if beat == state["beat"] else now
            self.heard[rank] = (state["beat"], since)
            if conditions[rank] in ("", "Z", "X"):
                found[rank] = "has ended without a word"
            elif now - since > self.timeout:
                found[rank] = self.how(conditions[rank], "gives no sign of life, for")
        return found or self.late(told, conditions, now)

    def how(self, condition: str, otherwise: str) -> str:
        return f"{'is stopped, for' if condition in ('T', 't') else otherwise} {self.timeout:g} s"

    def late(self, told: list[dict[str, Any]], conditions: list[str], now: float) -> dict[int, str]:
        """Those that are behind, when nothing has moved for too long while all were training."""
        pulse = distributed.PULSE
        told[distributed.rank()] = {"phase": pulse.phase, "meetings": pulse.meetings}
        if any(state["phase"] != TOGETHER for state in told):
            self.together = now
        if now - max(pulse.since, self.together) <= self.timeout:
            return {}
        behind = min(state["meetings"] for state in told)
        return {
            rank: self.how(conditions[rank], "has kept the others waiting for")
            for rank, state in enumerate(told)
            if state["meetings"] == behind
        }

    def end(self, lost: dict[int, str]) -> None:
        """Say it, unless somebody has, and leave; those that are lost on this machine are ended, too."""
        steps = {rank: self.told(rank)["step"] for rank in lost}
        stacks = {rank: self.dump(rank) for rank in lost}
        with suppress(OSError):
            faulthandler.dump_traceback(file=self.stack)
        for rank in lost:
            if self.pids[rank] and rank != distributed.rank():
                with suppress(ProcessLookupError):
                    os.kill(self.pids[rank], signal.SIGKILL)
        if self.run.read_json("status.json").get("state") == "running":
            reason = "; ".join(
                f"rank {rank} (process {self.pids[rank] or 'elsewhere'}) {why}, after step {steps[rank]}{last(stacks[rank])}"
                for rank, why in lost.items()
            )
            print(f"lmx: {reason}", *stacks.values(), sep="\n", file=sys.stderr, flush=True)
            self.run.set_status(state="failed", exit_code=INTERNAL, reason=f"{reason}; see log.txt")
        os._exit(INTERNAL)

    def dump(self, rank: int) -> str:
        """The stack of a rank on this machine; one that is stopped goes on for a moment, to write it."""
        if not self.pids[rank]:
            return ""
        try:
            os.kill(self.pids[rank], signal.SIGUSR2)
            os.kill(self.pids[rank], signal.SIGCONT)
            time.sleep(DUMPING)
            return self.path(rank, "txt").read_text()
        except OSError:
            return ""

    def gone(self, patience: float = 1.0) -> None:
        """After an error of this rank: if another one's end is the cause, say that instead and leave."""
        end = time.monotonic() + patience
        while self.pids and time.monotonic() < end:
            if lost := self.lost():
                self.end(lost)
            time.sleep(0.05)


def machine() -> int:
    """A number for this machine and its process ids, which a container may have of its own."""
    with suppress(OSError):
        return zlib.crc32(f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}".encode())
    return zlib.crc32(socket.gethostname().encode())


def condition(pid: int) -> str:
    """R, S, T …, as in proc(5); empty for a process that is not there. Elsewhere than on Linux, `?` for one that is."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        return "?"
    return "" if Path("/proc/self").exists() else "?"


def last(stack: str) -> str:
    """Where the main thread was, of a dumped stack, which lists it last. The current one may be that of the watch."""
    threads = re.split(r"^(?:Current thread|Thread) 0x", stack, flags=re.MULTILINE)
    lines = [line.strip() for line in threads[-1].splitlines() if 'File "' in line]
    return f", at {lines[0]}" if lines else ""

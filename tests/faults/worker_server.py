"""Forks workers: `python -m tests.faults.worker_server`, since importing torch takes longer than a whole tiny run.

A line of JSON on stdin starts one; stdout then says "pid N", and "exit CODE" once it has ended. "run" is its folder. A
"bug" from BUGS is put into that worker alone; it kills itself after step "kill_at"; it sends itself "signals" when it
enters a phase ("at") for the "nth" time. One thread and no parallel work before a fork: OpenMP does not survive it.
"""

import importlib
import itertools
import json
import os
import signal
import sys
import traceback
from pathlib import Path

import torch

from lmx import worker
from lmx.data.loader import Loader
from lmx.optim.optimizer import Optimizer
from lmx.runs import Run
from lmx.train import checkpoint, trainer
from lmx.train.record import Record
from lmx.train.trainer import Trainer


def stateful_order() -> None:
    """Data come in the order in which this process asks for them."""
    count, make = itertools.count(1), Loader.make
    Loader.make = lambda self, step, progress: make(self, next(count), progress)


def stateful_dropout() -> None:
    """Dropout goes on from whatever the generator's state is."""
    seeds = itertools.count()
    trainer.torch_seed = lambda *parts: next(seeds)


def forgotten_moments() -> None:
    Optimizer.load = lambda self, state: None


def kept_lines() -> None:
    """What was written after the checkpoint stays."""
    Run.truncate = lambda self, step: None


def forgotten_ledger() -> None:
    load = Trainer.load
    Trainer.load = lambda self, state: load(self, state | {"ledger": state["ledger"] | {"tokens": 0}})


def late_last_line() -> None:
    """The last line of metrics is written after the last checkpoint."""
    loop = worker.loop

    def changed(run, parts, record, stop):
        metrics, held = record.metrics, []
        record.metrics = lambda step, trainer: held.append((step, trainer)) if step.last else metrics(step, trainer)
        done = loop(run, parts, record, stop)
        for line in held:
            metrics(*line)
        return done

    worker.loop = changed


USED = ("data.sources", "data.tokenizer", "objectives.clm", "objectives.mlm")  # by name, from configs
BUGS = {
    "order": stateful_order,
    "dropout": stateful_dropout,
    "moments": forgotten_moments,
    "lines": kept_lines,
    "ledger": forgotten_ledger,
    "late": late_last_line,
}


def kill_after(step: int) -> None:
    """Die once step `step` is done and everything that follows from it is written: at the first look at the signals after it."""
    agreed = worker.Stop.agreed
    count = Trainer.account

    def account(self, cost, done):
        count(self, cost, done)
        if self.ledger.step == step:
            worker.Stop.agreed = lambda self, device: os.kill(os.getpid(), signal.SIGKILL)

    Trainer.account, worker.Stop.agreed = account, agreed


def signal_at(place: str, nth: int, signals: list[int]) -> None:
    """`place` is a phase of status.json, or "commit", the moment between the files of a checkpoint and its name."""
    times = itertools.count(1)

    def here() -> None:
        if next(times) == nth:
            for number in signals:
                os.kill(os.getpid(), number)

    phase, commit = Record.phase, checkpoint.commit

    def commits(*args) -> None:
        here()
        commit(*args)

    def enters(self, name, share=None) -> None:
        phase(self, name, share)
        if name == place:
            here()

    if place == "commit":
        checkpoint.commit = commits
    else:
        Record.phase = enters


def work(order: dict) -> int:
    log = os.open(Path(order["run"]) / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 2)
    os.dup2(log, 1)
    if "bug" in order:
        BUGS[order["bug"]]()
    if "kill_at" in order:
        kill_after(order["kill_at"])
    if "at" in order:
        signal_at(order["at"], order.get("nth", 1), order["signals"])
    try:
        return worker.main(order["run"])
    except BaseException:
        traceback.print_exc()
        return 99


def main() -> None:
    torch.set_num_threads(1)
    for name in USED:
        importlib.import_module(f"lmx.{name}")
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os._exit(work(json.loads(line)))
        os.write(1, f"pid {pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        os.write(1, f"exit {os.waitstatus_to_exitcode(status)}\n".encode())


if __name__ == "__main__":
    main()

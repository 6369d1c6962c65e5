"""Forks the ranks of runs: `python -m tests.dist.rank_server`, since importing torch takes longer than a whole tiny run.

A line of JSON on stdin, {"run": folder, "ranks": 2}, starts them as torchrun would; stdout then says "pids N N", and "exits CODE
CODE" once all have ended. A "bug" from BUGS is put into all of them, "environment" is added to theirs; the last rank sends itself
a SIGTERM after step "stop_after".
"""

import errno
import importlib
import itertools
import json
import os
import signal
import socket
import sys
import time
from functools import partial

import torch

from lmx import worker
from lmx.evals.validation import Validation
from lmx.train import checkpoint, distributed, parts, record, tree
from lmx.train.trainer import Trainer
from tests.faults.worker_server import USED, work


def plain_sum() -> None:
    """Gradients are added up as they come, rank by rank: as without strict determinism."""
    Trainer.folded = Trainer.summed


def own_tree() -> None:
    """A rank adds up its own parts as pairs of pairs, and then ranks are added."""

    def total(self: tree.Tree) -> list[torch.Tensor]:
        values = self.root()
        distributed.add(values)
        return values

    tree.Tree.total = total


def stuck() -> None:
    """Rank 1 does not come out of step 5."""

    def stays(self, *rest):
        while distributed.rank() == 1 and self.ledger.step == 4:
            time.sleep(0.01)
        return step(self, *rest)

    step, Trainer.step = Trainer.step, stays


def error() -> None:
    def raises(self, *rest):
        if distributed.rank() == 1 and self.ledger.step == 4:
            raise ZeroDivisionError("of rank 1")
        return step(self, *rest)

    step, Trainer.step = Trainer.step, raises


def slow() -> None:
    """Evaluating takes 8 seconds."""
    evaluate = Validation.__call__
    Validation.__call__ = lambda self: (time.sleep(8), evaluate(self))[1]


def resaves() -> None:
    """What has been loaded is saved once more, in place, and the run ends."""

    def loads(*arguments):
        restore(*arguments)
        run, _, trainer, fingerprint, writer = arguments
        checkpoint.sound = lambda path: False
        worker.save(run, trainer, fingerprint, writer)
        os._exit(0)

    restore, worker.restore = worker.restore, loads


def killed(rank: int) -> None:
    """A rank dies when the files of the second checkpoint are written and the manifest is not."""
    times = itertools.count(1)

    def shared(*rest):
        if next(times) == 2 and distributed.rank() == rank:
            os.kill(os.getpid(), signal.SIGKILL)
        return share(*rest)

    share, parts.shared = parts.shared, shared


def full() -> None:
    """The disk of rank 1 is full."""

    def written(*rest):
        if distributed.rank() == 1:
            raise OSError(errno.ENOSPC, "no space")
        return write(*rest)

    write, parts.written = parts.written, written


def stop_after(step: int) -> None:
    """A SIGTERM once that step is accounted for."""
    account = Trainer.account

    def accounts(self, cost, done):
        account(self, cost, done)
        if self.ledger.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    Trainer.account = accounts


BUGS = {
    "plain": plain_sum, "own": own_tree, "stuck": stuck, "error": error, "slow": slow, "full": full, "resaves": resaves,
    "killed0": partial(killed, 0), "killed1": partial(killed, 1),
}  # fmt: skip


def rank(number: int, port: int, order: dict) -> int:
    environment = {
        "RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": order["ranks"], "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
        "TORCHELASTIC_RUN_ID": "tests", **order.get("environment", {}),
    }  # fmt: skip
    os.environ.update({key: str(value) for key, value in environment.items()})
    if "bug" in order:
        BUGS[order["bug"]]()
    if "stop_after" in order and number == order["ranks"] - 1:
        stop_after(order["stop_after"])
    return work({"run": order["run"]})


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def fork(order: dict) -> list[int]:
    port, pids = free_port(), []
    for number in range(order["ranks"]):
        pid = os.fork()
        if pid == 0:
            os._exit(rank(number, port, order))
        pids.append(pid)
    return pids


def main() -> None:
    torch.set_num_threads(1)
    for name in [
        *(f"lmx.{name}" for name in USED),
        "torch._dynamo",
        "torch.distributed.fsdp",
        "torch.distributed.tensor",
    ]:
        importlib.import_module(name)
    record.peak_flops = lambda *_: 1e9  # measuring it takes as long as the whole run
    for line in sys.stdin:
        pids = fork(json.loads(line))
        os.write(1, f"pids {' '.join(map(str, pids))}\n".encode())
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        os.write(1, f"exits {' '.join(map(str, codes))}\n".encode())


if __name__ == "__main__":
    main()

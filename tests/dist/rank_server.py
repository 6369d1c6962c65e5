"""Forks the ranks of runs: `python -m tests.dist.rank_server`, since importing torch takes longer than a whole tiny run.

A line of JSON on stdin, {"run": folder, "ranks": 2}, starts them as torchrun would; stdout then says "pids N N", and "exits CODE
CODE" once all have ended. A "bug" from BUGS is put into all of them, "environment" is added to theirs; the last rank sends itself
a SIGTERM after step "stop_after".
"""

import importlib
import json
import os
import signal
import socket
import sys

import torch

from lmx.train import distributed, tree
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


def stop_after(step: int) -> None:
    """A SIGTERM once that step is accounted for."""
    account = Trainer.account

    def accounts(self, cost, done):
        account(self, cost, done)
        if self.ledger.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    Trainer.account = accounts


BUGS = {"plain": plain_sum, "own": own_tree}


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
    for name in USED:
        importlib.import_module(f"lmx.{name}")
    for line in sys.stdin:
        pids = fork(json.loads(line))
        os.write(1, f"pids {' '.join(map(str, pids))}\n".encode())
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        os.write(1, f"exits {' '.join(map(str, codes))}\n".encode())


if __name__ == "__main__":
    main()

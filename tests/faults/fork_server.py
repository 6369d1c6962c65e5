"""Forks processes that save checkpoints until they are killed: `python -m tests.faults.fork_server`.

A line "saver folder first" on stdin starts one; stdout then says "pid N", "saved STEP" after each save, and
"gone" once the process is dead. Torch is imported once, with one thread and no parallel work before a fork,
since OpenMP does not survive it.
"""

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from lmx.train import checkpoint
from tests.faults.saves import save, tensors

NUMBERS = 20_000  # 160 kB a tensor: long enough to be hit while writing


def lmx(folder: Path, step: int) -> None:
    save(folder, step, numbers=NUMBERS)


def naive(folder: Path, step: int) -> None:
    """What a saver without a protocol does: the same files again and again."""
    folder.mkdir(exist_ok=True)
    for name, values in tensors(step, NUMBERS).items():
        save_file(values, folder / f"{name}.safetensors")


SAVERS = {"lmx": lmx, "naive": naive}


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def main() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        saver, folder, first = line.split()
        pid = os.fork()
        if pid == 0:
            checkpoint.clean(Path(folder))
            step = int(first)
            while True:
                SAVERS[saver](Path(folder), step)
                say(f"saved {step}")
                step += 1
        say(f"pid {pid}")
        os.waitpid(pid, 0)
        say("gone")


if __name__ == "__main__":
    main()

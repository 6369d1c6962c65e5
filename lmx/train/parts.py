"""A checkpoint that ranks write together, each the rows that it holds; it loads on any number of ranks.

    step-00000100/model-00001-of-00002.safetensors   rows of rank 0, and what is whole on every rank
                  model-00002-of-00002.safetensors   rows of rank 1: joined in this order, they are the tensors
                  manifest.json                      with the sha256 of all parts

The protocol is that of checkpoint.py: all files are synced under a temporary name before rank 0 writes the manifest and renames.
After every step of it the ranks agree whether it worked, so that an error of one is an error of all, and nobody waits.
"""

import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmx.train import checkpoint, distributed, tensor_file
from lmx.train.manifest import PARTED, SUFFIX, encode
from lmx.train.sharding import held

CPU = torch.device("cpu")


def save(
    folder: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    *,
    keep: int,
    repro: Mapping[str, Any],
    spare: int | None = None,
) -> Path:
    """Commit a checkpoint, as checkpoint.save does; every rank calls it. Raises on all ranks what one of them met."""
    rank, ranks = distributed.rank(), distributed.world_size()
    files = {tensor_file.part_name(stem, rank, ranks) + SUFFIX: held(values) for stem, values in tensors.items()}
    body = {"format": PARTED, "step": step, "state": dict(state), "repro": dict(repro)}
    own = sum(map(tensor_file.size, files.values())) + checkpoint.ENTRY * len(files)
    need = distributed.total([own], place(tensors))[0] + len(encode(body))
    agree = Agreement(folder, step, need, place(tensors))
    target = checkpoint.at(folder, step)
    with checkpoint.busy():
        there = agree(lambda: int(rank == 0 and step in checkpoint.steps(folder) and checkpoint.sound(target)))
        if not there:
            token = agree(lambda: opened(folder, need) if rank == 0 else 0)
            temporary = folder / f"{checkpoint.TEMPORARY}{step:08d}-{token:08x}"
            try:
                if rank == 0:
                    os.mkdir(temporary, 0o755)
                distributed.barrier()
                entries: dict[str, Any] = {}
                agree(lambda: written(temporary, files, entries))
                everything = shared(entries, place(tensors))
                agree(lambda: committed(temporary, target, body | {"files": everything}) if rank == 0 else 0)
            finally:
                if rank == 0:
                    shutil.rmtree(temporary, ignore_errors=True)
        agree(lambda: retained(folder, step, keep, spare) if rank == 0 else 0)
    return target


class Agreement:
    """Ranks do something that the disk may refuse; -> the largest of their answers, or the same exception on all of them."""

    def __init__(self, folder: Path, step: int, need: int, device: torch.device):
        self.folder, self.step, self.need, self.device = folder, step, need, device

    def __call__(self, act: Callable[[], int]) -> int:
        failure = answer = 0
        try:
            answer = act()
        except OSError as error:
            failure = error.errno or 1
        if failure := distributed.largest(failure, self.device):
            error = OSError(failure, os.strerror(failure))
            raise checkpoint.explained(error, self.folder, self.step, self.need) from error
        return distributed.largest(answer, self.device)


def place(tensors: Mapping[str, Mapping[str, Tensor]]) -> torch.device:
    """Where ranks can talk to each other."""
    return next((tensor.device for values in tensors.values() for tensor in values.values()), CPU)


def opened(folder: Path, need: int) -> int:
    """-> a number for the temporary name"""
    checkpoint.make(folder)
    checkpoint.room(folder, need)
    return secrets.randbits(32)


def written(temporary: Path, files: Mapping[str, Mapping[str, Tensor]], entries: dict[str, Any]) -> int:
    for name, values in files.items():
        entries[name] = tensor_file.write(temporary / name, values)
    return 0


def committed(temporary: Path, target: Path, body: dict[str, Any]) -> int:
    checkpoint.commit(temporary, target, body)
    return 0


def retained(folder: Path, step: int, keep: int, spare: int | None) -> int:
    checkpoint.retain(folder, step, keep, spare)
    return 0


def shared(entries: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The entries of all ranks, as JSON in a tensor: nothing that is sent is ever unpickled."""
    text = json.dumps(entries).encode()
    room = distributed.largest(len(text), device)
    padded = torch.zeros(room, dtype=torch.uint8)
    padded[: len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    found: dict[str, Any] = {}
    for part in distributed.gather(padded.to(device)):
        found |= json.loads(bytes(part.tolist()).rstrip(b"\0"))
    return found

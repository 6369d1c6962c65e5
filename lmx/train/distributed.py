"""What ranks have to agree on. With one process every function is the identity."""

import ctypes
import os
import platform
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.rendezvous import rendezvous

LONGEST = timedelta(days=1)  # a call may take: lmx/train/watch.py looks sooner, and knows who works and who is lost


@dataclass
class Pulse:
    """How far this process is, which the other ranks are told (lmx/train/watch.py)."""

    step: int = 0
    phase: str | None = "starting"
    meetings: int = 0  # of all ranks, to which this one has come
    since: float = field(default_factory=time.monotonic)  # when it left the last one, or entered the phase

    def enter(self, phase: str | None) -> None:
        self.phase, self.since = phase, time.monotonic()

    @contextmanager
    def meeting(self) -> Iterator[None]:
        self.meetings += 1
        yield
        self.since = time.monotonic()


PULSE = Pulse()


def under_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def restarts() -> int:
    """How often torchrun has begun again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


def leads() -> bool:
    """Whether this process is, or is going to be, rank 0."""
    return not under_torchrun() or os.environ["RANK"] == "0"


def start(device: torch.device, *, offload: bool = False) -> None:
    """Join the other ranks, if torchrun started this process. It ends with torchrun, which has no last word when it is killed."""
    if under_torchrun():
        if platform.system() == "Linux":
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        cuda = "cpu:gloo,cuda:nccl" if offload else "nccl"
        store, rank, size = next(rendezvous("env://", timeout=LONGEST))
        # torchrun may keep its store for the next attempt, with the addresses of ranks that are gone.
        own = PrefixStore(f"attempt {restarts()}", store)
        backend = cuda if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=own, rank=rank, world_size=size, timeout=LONGEST)


def stop() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def total(values: Sequence[int], device: torch.device) -> list[int]:
    """Sums over ranks, exact: in int64."""
    if not dist.is_initialized():
        return list(values)
    tensor = torch.tensor(values, dtype=torch.int64, device=device)
    with PULSE.meeting():
        dist.all_reduce(tensor)
        return tensor.tolist()


def largest(value: int, device: torch.device) -> int:
    """The largest over ranks: how they agree to stop at the same step."""
    if not dist.is_initialized():
        return value
    tensor = torch.tensor(value, dtype=torch.int64, device=device)
    with PULSE.meeting():
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return int(tensor)


def slowest(seconds: float, device: torch.device) -> float:
    """The longest time over ranks: clocks differ, and what depends on them must not."""
    if not dist.is_initialized():
        return seconds
    tensor = torch.tensor(seconds, dtype=torch.float32, device=device)
    with PULSE.meeting():
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return float(tensor)


def add(tensors: Sequence[Tensor]) -> None:
    """Sum each tensor over ranks, in place, all in one message."""
    if dist.is_initialized() and tensors:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with PULSE.meeting():
            dist.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))


def gather(tensor: Tensor) -> list[Tensor]:
    """The tensor of every rank, in their order."""
    if not dist.is_initialized():
        return [tensor]
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    with PULSE.meeting():
        dist.all_gather(parts, tensor.contiguous())
    return parts


def barrier() -> None:
    if dist.is_initialized():
        with PULSE.meeting():
            dist.barrier()

"""What ranks have to agree on. With one process every function is the identity."""

import ctypes
import os
import platform
import signal
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def under_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def leads() -> bool:
    """Whether this process is, or is going to be, rank 0."""
    return not under_torchrun() or os.environ["RANK"] == "0"


def start(device: torch.device) -> None:
    """Join the other ranks, if torchrun started this process. It ends with torchrun, which has no last word when it is killed."""
    if under_torchrun():
        if platform.system() == "Linux":
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


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
    dist.all_reduce(tensor)
    return tensor.tolist()


def largest(value: int, device: torch.device) -> int:
    """The largest over ranks: how they agree to stop at the same step."""
    if not dist.is_initialized():
        return value
    tensor = torch.tensor(value, dtype=torch.int64, device=device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return int(tensor)


def slowest(seconds: float, device: torch.device) -> float:
    """The longest time over ranks: clocks differ, and what depends on them must not."""
    if not dist.is_initialized():
        return seconds
    tensor = torch.tensor(seconds, dtype=torch.float32, device=device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return float(tensor)


def add(tensors: Sequence[Tensor]) -> None:
    """Sum each tensor over ranks, in place, all in one message."""
    if dist.is_initialized() and tensors:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))


def gather(tensor: Tensor) -> list[Tensor]:
    """The tensor of every rank, in their order."""
    if not dist.is_initialized():
        return [tensor]
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return parts


def barrier() -> None:
    if dist.is_initialized():
        dist.barrier()

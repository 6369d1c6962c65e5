"""Which device, which precision, and how fast it multiplies."""

import os
import platform
import shutil
import time
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from lmx.errors import LmxError


def pick(name: str) -> torch.device:
    """`auto` takes CUDA, then MPS, then the CPU. Raises LmxError for a device that is not there."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in present.items() if there)
    if not present[name]:
        there = ", ".join(kind for kind, there in present.items() if there)
        raise LmxError(f"device must be present on this machine ({there}), got {name}. Type device=auto.")
    if name == "cuda":  # one a rank
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device(name)


def uses_bf16(device: torch.device, precision: str) -> bool:
    """`auto` is bf16 where the hardware multiplies it: GPUs that do, CPUs with AMX or AVX512-BF16."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def deterministic() -> None:
    """One thread, whose number changes how sums are split, and no kernel that adds in the order in which its parts come."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    return torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16(device, precision))


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile has what it needs: on CPUs a C++ compiler."""
    if device.type == "cuda":
        return True
    return device.type == "cpu" and platform.system() == "Linux" and any(map(shutil.which, ("g++", "clang++", "c++")))


def peak_flops(device: torch.device, precision: str) -> float:
    """FLOPs a second of a large matrix product here and now: what a share of peak refers to."""
    size = 1024 if device.type == "cpu" else 8192
    kind = torch.bfloat16 if uses_bf16(device, precision) else torch.float32
    a, b = (torch.ones(size, size, dtype=kind, device=device) for _ in range(2))
    best = min(timed(a, b, device) for _ in range(8))
    return 2 * size**3 / best


def timed(a: Tensor, b: Tensor, device: torch.device) -> float:
    start = time.perf_counter()
    result = a @ b
    if device.type != "cpu":
        float(result[0, 0])  # wait for the device
    return time.perf_counter() - start

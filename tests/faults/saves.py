"""Checkpoints whose content follows from their step, so that a mixture of two steps is seen."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmx.train import checkpoint


def tensors(step: int, numbers: int = 3) -> dict[str, dict[str, Tensor]]:
    return {
        "model": {"weight": torch.full((numbers, 2), float(step)), "gain": torch.arange(numbers) + step},
        "optim": {
            "weight/exp_avg": torch.full((numbers, 2), -float(step)),
            "weight/step": torch.tensor(float(step)),
        },
    }


def state(step: int) -> dict[str, Any]:
    return {"ledger": {"step": step, "tokens": step * 128}}


def save(folder: Path, step: int, *, keep: int = 2, numbers: int = 3) -> Path:
    return checkpoint.save(folder, step, tensors(step, numbers), state(step), keep=keep, repro={"threads": 1})


def equal(loaded: checkpoint.Loaded | None, step: int, numbers: int = 3) -> bool:
    """Whether it is the whole checkpoint of `step` and nothing else."""
    if loaded is None or (loaded.step, loaded.state, loaded.repro) != (step, state(step), {"threads": 1}):
        return False
    expected = tensors(step, numbers)
    return loaded.tensors.keys() == expected.keys() and all(
        loaded.tensors[file].keys() == values.keys()
        and all(torch.equal(loaded.tensors[file][name], value) for name, value in values.items())
        for file, values in expected.items()
    )

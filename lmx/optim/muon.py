"""Muon for matrices of which each rank holds some rows (Jordan et al. 2024; Liu et al. 2025, arXiv:2502.16982).

Momentum stays with its rows. Updates are gathered, because orthogonalising needs whole matrices, as many at a time as there are
ranks: each rank works on one, sends it to the others, and keeps its rows of all. The bits are those of torch.optim.Muon for whole
matrices.
"""

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class ShardedMuon(torch.optim.Muon):
    """With `adjust_lr_fn="match_rms_adamw"` and Nesterov momentum, as lmx uses it."""

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            parameters: list[Any] = []
            slopes: list[Any] = []
            momenta: list[Any] = []
            self._init_group(group, parameters, slopes, momenta)
            ranks = parameters[0].device_mesh.size() if parameters else 1
            for start in range(0, len(parameters), ranks):
                part = slice(start, start + ranks)
                updates = []
                for parameter, slope, momentum in zip(parameters[part], slopes[part], momenta[part], strict=True):
                    kept = momentum.to_local().lerp_(slope.to_local(), 1 - group["momentum"])
                    updates.append(whole(slope.to_local().lerp(kept, group["momentum"]), parameter))
                for parameter, update in zip(parameters[part], self.divided(updates, parameters, group), strict=True):
                    own, rate = parameter.to_local(), 0.2 * math.sqrt(max(parameter.shape)) * group["lr"]
                    own.mul_(1 - group["lr"] * group["weight_decay"])
                    own.add_(mine(update, parameter), alpha=-rate)

    def divided(self, updates: list[Tensor], parameters: list[Any], group: dict[str, Any]) -> list[Tensor]:
        """Each orthogonal, by one rank each."""
        mesh, found = parameters[0].device_mesh, []
        for owner, update in enumerate(updates):
            if owner == mesh.get_local_rank():
                found.append(orthogonal(update, group["ns_coefficients"], group["ns_steps"], group["eps"]).contiguous())
            else:
                found.append(torch.empty_like(update, dtype=torch.bfloat16))
        for owner, update in enumerate(found):
            dist.broadcast(update, group=mesh.get_group(), group_src=owner)
        return found


def whole(rows: Tensor, like: Any) -> Tensor:
    """The matrix of which this rank holds `rows`, as it does of `like`, a DTensor."""
    from torch.distributed.tensor import DTensor

    spread = DTensor.from_local(
        rows, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )
    return spread.full_tensor()


def mine(matrix: Tensor, like: Any) -> Tensor:
    """The rows that this rank holds."""
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(matrix, like.device_mesh, like.placements, src_data_rank=None).to_local()


def orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Nearly U V^T of matrix = U S V^T, by Newton-Schulz iterations in bf16."""
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.bfloat16()
    x = x.T if tall else x
    x = x.div_(x.norm().clamp(min=eps))
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x

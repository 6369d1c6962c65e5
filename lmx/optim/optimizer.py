"""Optimizers over named parameters, with the groups that small-model practice has settled on.

Matrices of the trunk, which decay, take `lr`; embeddings and vocabulary heads, and gains and biases, take `embedding_lr` and do
not decay. State is a flat dictionary of tensors by parameter name, so that it can be stored without pickle.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval, Len
from torch import Tensor, nn

from lmx.optim.muon import ShardedMuon
from lmx.optim.schedule import Schedule

Betas = Annotated[list[Annotated[float, Interval(ge=0, lt=1)]], Len(2, 2)]
EPSILON = 1e-10  # gradients of sums divided by large counts are small; 1e-8 would damp the rare rows of an embedding


def split(module: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(matrices, the others) by name, every trained parameter once however often it is tied."""
    tables = {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)}
    heads = {id(part.weight) for part in module.modules() if getattr(part, "is_head", False)}
    matrices, others = {}, {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            plain = parameter.ndim == 2 and id(parameter) not in tables | heads
            (matrices if plain else others)[name] = parameter
    return matrices, others


class Optimizer(ABC):
    """One or two torch optimizers behind one step, scaled by a schedule."""

    def __init__(self, module: nn.Module, schedule: Schedule):
        self.schedule = schedule
        self.names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
        self.parts = [part for part in self.build(*split(module)) if part.param_groups[0]["params"]]
        self.peaks = [[group["lr"] for group in part.param_groups] for part in self.parts]

    @abstractmethod
    def build(self, matrices: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> list[torch.optim.Optimizer]: ...

    def step(self, progress: float) -> float:
        """Update every parameter at the rates of `progress`; -> the rate of the matrices."""
        factor = self.schedule(progress)
        for part, peaks in zip(self.parts, self.peaks, strict=True):
            for group, peak in zip(part.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
            part.step()
        return self.peaks[0][0] * factor

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """`<parameter>/<moment>` -> tensor; scalars (AdamW's step) are tensors too."""
        return {
            f"{self.names[parameter]}/{key}": torch.as_tensor(value)
            for part in self.parts
            for parameter, values in part.state.items()
            for key, value in values.items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state()` gave. Raises KeyError for a parameter that is not here."""
        owner = {self.names[p]: (part, p) for part in self.parts for g in part.param_groups for p in g["params"]}
        for path, value in state.items():
            name, _, key = path.rpartition("/")
            part, parameter = owner[name]
            part.state[parameter][key] = value.to(parameter.device, copy=True)


def adamw(parameters: Iterable[Tensor], lr: float, betas: list[float], weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        list(parameters), lr=lr, betas=(betas[0], betas[1]), eps=EPSILON, weight_decay=weight_decay, fused=True
    )


class AdamW(Optimizer):
    """Loshchilov and Hutter 2019, arXiv:1711.05101."""

    def __init__(
        self,
        module: nn.Module,
        *,
        lr: Annotated[float, Gt(0)],
        embedding_lr: Annotated[float, Gt(0)],
        betas: Betas,
        weight_decay: Annotated[float, Ge(0)],
        schedule: Schedule,
    ):
        self.lr, self.embedding_lr, self.betas, self.weight_decay = lr, embedding_lr, betas, weight_decay
        super().__init__(module, schedule)

    def build(self, matrices: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> list[torch.optim.Optimizer]:
        return [
            adamw(matrices.values(), self.lr, self.betas, self.weight_decay),
            adamw(others.values(), self.embedding_lr, self.betas, 0.0),
        ]


class Muon(Optimizer):
    """Orthogonalised momentum for matrices (Jordan et al. 2024; Liu et al. 2025, arXiv:2502.16982), AdamW for the rest."""

    def __init__(
        self,
        module: nn.Module,
        *,
        lr: Annotated[float, Gt(0)],
        embedding_lr: Annotated[float, Gt(0)],
        momentum: Annotated[float, Interval(ge=0, lt=1)],
        betas: Betas,
        weight_decay: Annotated[float, Ge(0)],
        schedule: Schedule,
    ):
        self.lr, self.embedding_lr, self.momentum = lr, embedding_lr, momentum
        self.betas, self.weight_decay = betas, weight_decay
        super().__init__(module, schedule)

    def build(self, matrices: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> list[torch.optim.Optimizer]:
        shared = any(hasattr(matrix, "full_tensor") for matrix in matrices.values())
        muon = (ShardedMuon if shared else torch.optim.Muon)(
            list(matrices.values()),
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
        return [muon, adamw(others.values(), self.embedding_lr, self.betas, 0.0)]

"""One model over all ranks (FSDP2): each holds some rows of every parameter, of its gradient and of its moments.

A block's weights are gathered when it is about to compute, and let go afterwards; what is outside of blocks stays gathered from
the beginning of a forward pass to the end of the backward pass. Gradients are summed, as everywhere, and not averaged.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

from lmx.nn.block import Block
from lmx.train import distributed
from lmx.train.learner import Learner


def is_sharded(tensor: Tensor | None) -> bool:
    return hasattr(tensor, "full_tensor")  # a DTensor, without a second for importing it


def shard(learner: Learner, device: torch.device, *, gather: Literal["fp32", "bf16"], offload: bool) -> Learner | None:
    """Share the parameters out, in place, before an optimizer sees them; -> on rank 0 a whole copy, on the CPU, to evaluate with.

    `gather`: the type in which blocks are gathered. `offload`: rows and moments stay in the CPU's memory.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, fully_shard

    twin = copy.deepcopy(learner).cpu() if distributed.rank() == 0 else None
    mesh = init_device_mesh(device.type, (distributed.world_size(),))
    shared: dict[str, Any] = {"mesh": mesh}
    if offload:
        shared["offload_policy"] = CPUOffloadPolicy(pin_memory=device.type == "cuda")
    if gather == "bf16":
        narrow = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    else:
        narrow = MixedPrecisionPolicy()
    for block in [module for module in learner.modules() if isinstance(module, Block) and not module.opened]:
        fully_shard(block, mp_policy=narrow, **shared)
    fully_shard(learner, **shared)  # what is left: embeddings, heads and norms, in full precision
    for module in learner.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo has no other
    return twin


def rows(value: Tensor, like: Any) -> Tensor:
    """Of a whole tensor, the rows that this rank holds of `like`; the tensor itself where `like` is whole, too."""
    if not is_sharded(like) or value.shape != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    device = like.to_local().device
    return distribute_tensor(value.to(device), like.device_mesh, like.placements, src_data_rank=None)


def spread(tensors: Mapping[str, Tensor], learner: Learner, *, moments: bool = False) -> dict[str, Tensor]:
    """Whole tensors by the name of their parameter (`moments`: `<parameter>/<moment>`), as this rank holds them."""
    like = dict(learner.named_parameters())
    names = {name: name.rpartition("/")[0] if moments else name for name in tensors}
    return {name: rows(value, like[names[name]]) if names[name] in like else value for name, value in tensors.items()}


def held(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What this rank writes into its part of a checkpoint: the rows it holds, if any. What is whole everywhere, rank 0 writes."""
    found = {}
    for name, tensor in tensors.items():
        if is_sharded(tensor):
            local = tensor.to_local()  # type: ignore[attr-defined]
            if local.numel():
                found[name] = local
        elif distributed.rank() == 0:
            found[name] = tensor
    return found


@contextmanager
def gathered(learner: Learner, twin: Learner | None, device: torch.device) -> Iterator[None]:
    """Inside, the copy on rank 0 has the weights of now and is on the device. All ranks take part."""
    own = dict(twin.named_parameters()) if twin else {}
    with torch.no_grad():
        for name, parameter in learner.named_parameters():
            whole = parameter.full_tensor() if is_sharded(parameter) else parameter  # type: ignore[attr-defined]
            if name in own:
                own[name].copy_(whole)
    if twin:
        twin.to(device)
    yield
    if twin:
        twin.cpu()

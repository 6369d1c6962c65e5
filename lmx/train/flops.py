"""Model FLOPs of a batch: matrix products forward and backward, the head on asked positions, attention over visible pairs.

PyTorch's counter counts the dense products of one step on the meta device (nothing is computed), at the batch's shapes, with
and without targets; both are linear in the number of targets. Attention is 12 x D x visible pairs a layer (two products forward,
four backward, two FLOPs a multiply-add), so that a kernel which computes masked-out scores does not earn credit for them.
"""

import copy
from dataclasses import fields, replace

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lmx.batch import IGNORE, Batch
from lmx.nn import attention
from lmx.train.learner import Learner


class Flops:
    """flops(batch) of one learner; counts once a shape."""

    def __init__(self, learner: Learner):
        self.learner = copy.deepcopy(learner).to("meta").train()
        self.known: dict[tuple, tuple[float, float, dict[str, int]]] = {}

    def __call__(self, batch: Batch) -> int:
        """FLOPs of one forward and backward pass over `batch`, which is on the CPU."""
        shape = shapes(batch)
        if shape not in self.known:
            self.known[shape] = self.count(batch)
        base, per_target, widths = self.known[shape]
        attended = sum(12 * width * batch.pairs(kind) for kind, width in widths.items())
        return round(base + per_target * int(batch.num_targets) + attended)

    def count(self, batch: Batch) -> tuple[float, float, dict[str, int]]:
        """FLOPs without targets, FLOPs a target, and for each kind of pair the sum over calls of heads x head width."""
        asked = torch.full_like(batch.targets, IGNORE)
        base, widths = self.measure(replace(batch, targets=asked, capacity=0))
        full, _ = self.measure(replace(batch, targets=asked.zero_(), capacity=asked.numel()))
        return base, (full - base) / max(asked.numel(), 1), widths

    def measure(self, batch: Batch) -> tuple[float, dict[str, int]]:
        """FLOPs of all products but attention's, and the widths of attention by kind."""
        with attention.uncounted() as calls, FlopCounterMode(display=False) as counter:
            losses = self.learner(batch.to("meta"))
            torch.stack([value for value in losses.values() if value.requires_grad]).sum().backward()
        self.learner.zero_grad(set_to_none=True)
        widths: dict[str, int] = {}
        for width, kind in calls:
            widths[kind] = widths.get(kind, 0) + width
        return counter.get_total_flops(), widths


def shapes(batch: Batch) -> tuple:
    """Of every tensor that the model is given."""
    own = (tuple(value.shape) for field in fields(batch) if isinstance(value := getattr(batch, field.name), Tensor))
    return (*own, shapes(batch.source) if batch.source else None)

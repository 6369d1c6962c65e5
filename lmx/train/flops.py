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

from lmx.batch import IGNORE, Batch, visible_pairs
from lmx.nn import attention
from lmx.train.learner import Learner


class Flops:
    """flops(batch) of one learner; counts once a shape."""

    def __init__(self, learner: Learner):
        self.learner = copy.deepcopy(learner).to("meta").train()
        self.known: dict[tuple, tuple[float, float, float]] = {}

    def __call__(self, batch: Batch) -> int:
        """FLOPs of one forward and backward pass over `batch`, which is on the CPU."""
        shape = tuple(batch.tokens.shape)
        if shape not in self.known:
            self.known[shape] = self.count(batch)
        base, per_target, per_pair = self.known[shape]
        return round(base + per_target * int(batch.num_targets) + per_pair * visible_pairs(batch))

    def count(self, batch: Batch) -> tuple[float, float, float]:
        """(FLOPs without targets, FLOPs a target, FLOPs a visible pair)"""
        asked = torch.full_like(batch.targets, IGNORE)
        base, width = self.measure(replace(batch, targets=asked, capacity=0))
        full, _ = self.measure(replace(batch, targets=asked.zero_(), capacity=asked.numel()))
        return base, (full - base) / asked.numel(), 12 * width

    def measure(self, batch: Batch) -> tuple[float, int]:
        """FLOPs of all products but attention's, and the sum over attention calls of heads x head width."""
        meta = {
            field.name: value.to("meta")
            for field in fields(batch)
            if isinstance(value := getattr(batch, field.name), Tensor)
        }
        with attention.uncounted() as widths, FlopCounterMode(display=False) as counter:
            torch.stack(list(self.learner(replace(batch, **meta)).values())).sum().backward()
        self.learner.zero_grad(set_to_none=True)
        return counter.get_total_flops(), sum(widths)

"""What every head attended to: the weights that fast attention does not keep, computed again from queries and keys."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lmx.batch import Batch, visible
from lmx.nn.block import Block


@dataclass(frozen=True)
class Attention:
    """One block's, in one forward. Grouped values are repeated, once for each head."""

    block: Block
    weights: Tensor  # [B, H, L, L] query (row) by key (column), rows add up to one
    values: Tensor  # [B, H, L, K]

    def written(self) -> Tensor:
        """[B, H, L, D] what each head adds to the residual stream of a position that attends to this one alone."""
        out = self.block.attention_out.weight.unflatten(1, (self.block.heads, -1))  # [D, H, K]
        return torch.einsum("bhlk,dhk->bhld", self.values, out)


def attention(block: Block, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor) -> Attention:
    """Of a block that reads x [B, L, D] through the mask [B, 1, L, L]; `Block.forward` has the same, and keeps nothing."""
    q, k, v = block.project(x, rotation)
    k, v = (part.repeat_interleave(q.shape[1] // part.shape[1], dim=1) for part in (k, v))
    scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    return Attention(block, scores.masked_fill(~mask, -torch.inf).softmax(-1), v)


@contextmanager
def watched(module: nn.Module, batch: Batch) -> Iterator[list[Attention]]:
    """Inside, one entry for each block of the module that reads the batch, in the order in which they run."""
    found: list[Attention] = []
    mask = visible(batch)

    def hook(block: nn.Module, given: tuple) -> None:
        assert isinstance(block, Block)
        found.append(attention(block, given[0], given[1], mask))

    handles = [part.register_forward_pre_hook(hook) for part in module.modules() if isinstance(part, Block)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()

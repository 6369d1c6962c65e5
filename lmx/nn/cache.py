"""A stack that reads on: keys and values of what it has read are kept, so that a further token costs one position.

Shapes: B sequences, N positions read so far, n new ones, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lmx.nn.attention import View, attend
from lmx.nn.block import Block, Memory


class Cache:
    """What `blocks` have read of one document a row. With `memories`, one for each block, they look at a source too."""

    def __init__(self, blocks: Sequence[Block], norm: nn.Module, memories: Sequence[Memory | None] | None = None):
        self.blocks, self.norm = blocks, norm
        self.memories = memories or [None] * len(blocks)
        self.kept: list[tuple[Tensor, Tensor]] = []
        self.order: Tensor | None = None  # [B, N]

    def read(self, x: Tensor, rotation: tuple[Tensor, Tensor], order: Tensor) -> Tensor:
        """x [B, n, D], embeddings of new positions, and their order [B, n] -> [B, n, D], normalised.

        Each sees what is read already, or now, and does not come after it in the order.
        """
        self.order = order if self.order is None else torch.cat([self.order, order], dim=1)
        seen = View("explicit", "mixed", (self.order[:, None, :] <= order[:, :, None])[:, None])
        kept = []
        for number, (block, memory) in enumerate(zip(self.blocks, self.memories, strict=True)):
            q, k, v = block.project(x, rotation)
            if self.kept:
                k, v = (torch.cat(pair, dim=2) for pair in zip(self.kept[number], (k, v), strict=True))
            kept.append((k, v))
            x = block.join(x, attend(q, k, v, seen))
            if memory is not None:
                x = x + memory.cross(x, memory.source, memory.seen)
            x = block.think(x)
        self.kept = kept
        return self.norm(x)

    def cut(self, size: int) -> None:
        """Forget what was read after the first `size` positions."""
        self.kept = [(k[:, :, :size], v[:, :, :size]) for k, v in self.kept]
        self.order = None if self.order is None else self.order[:, :size]

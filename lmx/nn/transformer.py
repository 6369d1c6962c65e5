"""A pre-norm transformer that does not know which objective trains it: it has no head.

Shapes: B sequences, L positions, D width, H heads, K head width.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from lmx.batch import Batch
from lmx.nn.attention import Backend, View, view
from lmx.nn.block import EPSILON, Block
from lmx.nn.init import initialize


class Stack(nn.Module):
    """Blocks of one shape and a norm: hidden states in, hidden states out."""

    frequency: Tensor  # [K/2], radians a position

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        heads: int,
        kv_heads: int,
        mlp: int,
        rope_base: float,
        dropout: float,
        attention: Backend,
    ):
        super().__init__()
        self.width, self.depth, self.dropout, self.rope_base = width, depth, dropout, rope_base
        self.shape = {
            "width": width,
            "heads": heads,
            "kv_heads": kv_heads,
            "mlp": mlp,
            "dropout": dropout,
        }  # of a block
        self.backend: Backend = attention
        self.blocks = nn.ModuleList(Block(**self.shape) for _ in range(depth))
        self.norm = nn.RMSNorm(width, eps=EPSILON)
        half = width // heads // 2
        frequency = rope_base ** -(torch.arange(half, dtype=torch.float32) / half)
        self.register_buffer("frequency", frequency, persistent=False)
        initialize(self, depth=depth)

    def encode(self, x: Tensor, batch: Batch) -> Tensor:
        """x [B, L, D] -> [B, L, D], normalised"""
        return self.layers(x, batch)[-1]

    def layers(self, x: Tensor, batch: Batch) -> list[Tensor]:
        """x [B, L, D] and what each block makes of it, depth + 1 in all, the last one normalised"""
        seen, rotation = self.view(batch), self.rotation(batch.position)
        found = [x]
        for block in self.blocks:
            found.append(block(found[-1], rotation, seen))
        return [*found[:-1], self.norm(found[-1])]

    def view(self, batch: Batch, *, mask: Tensor | None = None, kind: str = "self") -> View:
        """Who sees whom: what the batch says, or `mask` [B, 1, Q, L]."""
        return view(batch, self.backend, mask=mask, dropout=self.dropout > 0, kind=kind)

    def rotation(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin [B, 1, L, K/2] in float32"""
        angle = position[:, None, :, None].float() * self.frequency
        return angle.cos(), angle.sin()


class Transformer(Stack):
    """Tokens in, hidden states out; `embed` and `encode` are apart so that an objective can work between them."""

    RULES = {
        "width % heads == 0": "model.width must be a multiple of model.heads",
        "heads % kv_heads == 0": "model.heads must be a multiple of model.kv_heads",
        "width // heads % 2 == 0": "model.width / model.heads must be even, for rotary positions",
    }

    def __init__(
        self,
        *,
        vocabulary_size: int,
        width: Annotated[int, Interval(ge=8, le=65536)],
        depth: Annotated[int, Interval(ge=1, le=1024)],
        heads: Annotated[int, Ge(1)],
        kv_heads: Annotated[int, Ge(1)],
        mlp: Annotated[int, Interval(ge=8, le=1048576)],
        rope_base: Annotated[float, Gt(1)],
        dropout: Annotated[float, Interval(ge=0, lt=1)],
        tied: bool,
        embedding_norm: bool,
        attention: Backend,
    ):
        super().__init__(
            width=width, depth=depth, heads=heads, kv_heads=kv_heads, mlp=mlp, rope_base=rope_base, dropout=dropout,
            attention=attention,
        )  # fmt: skip
        self.tied = tied
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.embedding_norm = nn.RMSNorm(width, eps=EPSILON) if embedding_norm else nn.Identity()
        initialize(self.embedding, depth=depth)

    def forward(self, batch: Batch) -> Tensor:
        """-> hidden states [B, L, D], normalised"""
        return self.encode(self.embed(batch), batch)

    def embed(self, batch: Batch) -> Tensor:
        """-> [B, L, D]"""
        return self.embedding_norm(self.embedding(batch.tokens))

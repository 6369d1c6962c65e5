"""A pre-norm transformer that does not know which objective trains it: it has no head.

RMSNorm (arXiv:1910.07467), rotary positions (arXiv:2104.09864, half-split as in Llama), SwiGLU (arXiv:2002.05202),
grouped-query heads (arXiv:2305.13245), no biases. Shapes: B sequences, L positions, D width, H heads, K head width.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from lmx.batch import Batch
from lmx.nn.attention import Backend, View, attend, view
from lmx.nn.init import initialize

EPSILON = 1e-6  # of every RMSNorm


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    compiles = True  # the unit that torch.compile sees: one graph serves every layer

    def __init__(self, *, width: int, heads: int, kv_heads: int, mlp: int, dropout: float):
        super().__init__()
        self.heads, self.kv_heads, self.dropout = heads, kv_heads, dropout
        head_width = width // heads
        self.attention_norm = nn.RMSNorm(width, eps=EPSILON)
        self.mlp_norm = nn.RMSNorm(width, eps=EPSILON)
        self.attention_in = nn.Linear(width, (heads + 2 * kv_heads) * head_width, bias=False)  # q, k, v
        self.attention_out = nn.Linear(width, width, bias=False)
        self.mlp_in = nn.Linear(width, 2 * mlp, bias=False)  # gate, up
        self.mlp_down = nn.Linear(mlp, width, bias=False)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], seen: View) -> Tensor:
        """x [B, L, D] -> [B, L, D]"""
        x = x + self.drop(self.attention(self.attention_norm(x), rotation, seen))
        gate, up = self.mlp_in(self.mlp_norm(x)).chunk(2, dim=-1)
        return x + self.drop(self.mlp_down(F.silu(gate) * up))

    def attention(self, x: Tensor, rotation: tuple[Tensor, Tensor], seen: View) -> Tensor:
        B, L, D = x.shape
        qkv = self.attention_in(x).view(B, L, self.heads + 2 * self.kv_heads, -1).transpose(1, 2)
        q, k, v = qkv.split([self.heads, self.kv_heads, self.kv_heads], dim=1)  # [B, heads, L, K]
        q, k = rotate(q, *rotation), rotate(k, *rotation)
        mixed = attend(q, k, v, seen, self.dropout if self.training else 0.0)
        return self.attention_out(mixed.transpose(1, 2).reshape(B, L, D))

    def drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class Transformer(nn.Module):
    """Tokens in, hidden states out; `embed` and `encode` are apart so that an objective can work between them."""

    RULES = {
        "width % heads == 0": "model.width must be a multiple of model.heads",
        "heads % kv_heads == 0": "model.heads must be a multiple of model.kv_heads",
        "width // heads % 2 == 0": "model.width / model.heads must be even, for rotary positions",
    }

    frequency: Tensor  # [K/2], radians a position

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
        super().__init__()
        self.width, self.depth, self.tied, self.dropout = width, depth, tied, dropout
        self.backend: Backend = attention
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.embedding_norm = nn.RMSNorm(width, eps=EPSILON) if embedding_norm else nn.Identity()
        self.blocks = nn.ModuleList(
            Block(width=width, heads=heads, kv_heads=kv_heads, mlp=mlp, dropout=dropout) for _ in range(depth)
        )
        self.norm = nn.RMSNorm(width, eps=EPSILON)
        half = width // heads // 2
        frequency = rope_base ** -(torch.arange(half, dtype=torch.float32) / half)
        self.register_buffer("frequency", frequency, persistent=False)
        initialize(self, depth=depth)

    def forward(self, batch: Batch) -> Tensor:
        """-> hidden states [B, L, D], normalised"""
        return self.encode(self.embed(batch), batch)

    def embed(self, batch: Batch) -> Tensor:
        """-> [B, L, D]"""
        return self.embedding_norm(self.embedding(batch.tokens))

    def encode(self, x: Tensor, batch: Batch, *, mask: Tensor | None = None, strict: bool = False) -> Tensor:
        """x [B, L, D] -> [B, L, D]. `mask` [B, 1, L, L] replaces what the batch makes visible."""
        seen = view(batch, self.backend, mask=mask, strict=strict, dropout=self.dropout > 0)
        rotation = self.rotation(batch.position)
        for block in self.blocks:
            x = block(x, rotation, seen)
        return self.norm(x)

    def rotation(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin [B, 1, L, K/2] in float32"""
        angle = position[:, None, :, None].float() * self.frequency
        return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (x[i], x[i + K/2]) by the angle of their position. x [B, H, L, K]."""
    left, right = x.float().chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1).to(x.dtype)

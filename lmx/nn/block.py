"""The block of every stack, and the attention by which a decoder's block reads an encoder.

RMSNorm (arXiv:1910.07467), rotary positions (arXiv:2104.09864, half-split as in Llama), SwiGLU (arXiv:2002.05202),
grouped-query heads (arXiv:2305.13245), no biases. Shapes: B sequences, L positions, D width, H heads, K head width.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lmx.nn.attention import View, attend

EPSILON = 1e-6  # of every RMSNorm


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    compiles = True  # the unit that torch.compile sees: one graph serves every layer
    opened = False  # True: an objective calls its parts and not the block, which then cannot be gathered or recomputed for itself
    recomputes = False  # True: in the backward pass, instead of keeping what it computed in the forward pass

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

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], seen: View, memory: "Memory | None" = None) -> Tensor:
        """x [B, L, D] -> [B, L, D]; with a `memory`, attention to it comes between the two."""
        if self.recomputes and torch.is_grad_enabled():
            return checkpoint(self.compute, x, rotation, seen, memory, use_reentrant=False)
        return self.compute(x, rotation, seen, memory)

    def compute(self, x: Tensor, rotation: tuple[Tensor, Tensor], seen: View, memory: "Memory | None") -> Tensor:
        q, k, v = self.project(x, rotation)
        x = self.join(x, attend(q, k, v, seen, self.dropout if self.training else 0.0))
        if memory is not None:
            x = x + self.drop(memory.cross(x, memory.source, memory.seen))
        return self.think(x)

    def project(self, x: Tensor, rotation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, L, D] -> queries, keys and values [B, heads, L, K]"""
        B, L, _ = x.shape
        qkv = self.attention_in(self.attention_norm(x)).view(B, L, self.heads + 2 * self.kv_heads, -1).transpose(1, 2)
        q, k, v = qkv.split([self.heads, self.kv_heads, self.kv_heads], dim=1)
        return rotate(q, *rotation), rotate(k, *rotation), v

    def query(self, x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """x [B, Q, D] -> queries alone [B, H, Q, K], for keys and values of other positions"""
        B, Q, D = x.shape
        q = F.linear(self.attention_norm(x), self.attention_in.weight[:D])
        return rotate(q.view(B, Q, self.heads, -1).transpose(1, 2), *rotation)

    def join(self, x: Tensor, mixed: Tensor) -> Tensor:
        """What attention found, [B, H, L, K], added to x [B, L, D]."""
        return x + self.drop(self.attention_out(mixed.transpose(1, 2).reshape(x.shape)))

    def think(self, x: Tensor) -> Tensor:
        """x [B, L, D] -> x + mlp(norm(x))"""
        gate, up = self.mlp_in(self.mlp_norm(x)).chunk(2, dim=-1)
        return x + self.drop(self.mlp_down(F.silu(gate) * up))

    def drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class CrossAttention(nn.Module):
    """Attention from a decoder's positions to an encoder's; without positions of its own, as in T5."""

    def __init__(self, *, width: int, heads: int, kv_heads: int, dropout: float):
        super().__init__()
        self.heads, self.kv_heads, self.dropout = heads, kv_heads, dropout
        self.norm = nn.RMSNorm(width, eps=EPSILON)
        self.query = nn.Linear(width, width, bias=False)
        self.keys_values = nn.Linear(width, 2 * kv_heads * (width // heads), bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, source: Tensor, seen: View) -> Tensor:
        """x [B, L, D], source [B, S, D] -> [B, L, D]"""
        B, L, D = x.shape
        q = self.query(self.norm(x)).view(B, L, self.heads, -1).transpose(1, 2)
        k, v = self.keys_values(source).view(B, source.shape[1], 2 * self.kv_heads, -1).transpose(1, 2).chunk(2, dim=1)
        mixed = attend(q, k, v, seen, self.dropout if self.training else 0.0)
        return self.attention_out(mixed.transpose(1, 2).reshape(B, L, D))


@dataclass(frozen=True)
class Memory:
    """What a decoder's block reads besides its own sequence."""

    cross: CrossAttention
    source: Tensor  # [B, S, D] the encoder's hidden states
    seen: View


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (x[i], x[i + K/2]) by the angle of their position. x [B, H, L, K]."""
    left, right = x.float().chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1).to(x.dtype)

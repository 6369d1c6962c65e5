"""Who looks at whom, computed in the fastest way the hardware has: the only file that knows about attention kernels.

Three backends, equal to the dense reference up to rounding (tests/nn/test_attention.py):

    explicit   two matrix products and a softmax. On CPUs with bf16 matrix units it beats the fused kernel,
               whose backward is slow there, at the lengths small models are trained with
    sdpa       PyTorch's fused kernels; a mask only where the pattern needs one
    flex       CUDA, mixed patterns: skips the blocks of the score matrix that nothing may see
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from lmx.batch import PADDING, Batch, Pattern, visible

Backend = Literal["auto", "explicit", "sdpa", "flex"]
# Uncompiled, it would hold all the scores; compiled at the first call. Importing the compiler takes a second that a CPU can save.
fused_flex = torch.compile(flex_attention) if torch.cuda.is_available() else flex_attention
UNCOUNTED: ContextVar[list[tuple[int, str]] | None] = ContextVar("uncounted", default=None)
EXPLICIT_UP_TO = 512  # positions; beyond, the L x L scores cost more than the fused kernel's backward


@dataclass(frozen=True)
class View:
    """What one batch lets its positions see, in the form its backend wants; made once a forward pass."""

    backend: Backend
    pattern: Pattern
    mask: Tensor | None = None  # bool, broadcasts to [B, H, L, L]; None: everything is visible, or causal in sdpa
    blocks: BlockMask | None = None  # flex
    calls: list[tuple[int, str]] | None = None  # inside `uncounted`: takes (heads x head width, kind) of each call
    kind: str = "self"  # which of Batch.pairs


def view(
    batch: Batch, backend: Backend = "auto", *, mask: Tensor | None = None, dropout: bool = False, kind: str = "self"
) -> View:
    """The view that `batch` defines, or the given `mask` ([B, 1, Q, L] bool, True is visible) instead.

    Flex attention has no dropout; with `dropout`, a mask takes its place. `kind` says which of `Batch.pairs` it is.
    """
    length, device = batch.tokens.shape[1], batch.tokens.device
    if (calls := UNCOUNTED.get()) is not None:
        return View("sdpa", "full", calls=calls, kind=kind)
    if mask is not None:
        backend = choose("mixed", length, device) if backend == "auto" else backend
        return View("sdpa" if backend == "flex" else backend, "mixed", mask)
    if backend == "auto":
        backend = choose(batch.pattern, length, device)
    if backend == "flex" and dropout:
        backend = "sdpa"
    if batch.pattern == "full":
        return View(backend, "full")
    if batch.pattern == "causal":
        dense = torch.ones(length, length, dtype=torch.bool, device=device).tril() if backend == "explicit" else None
        return View(backend, "causal", dense)
    if backend == "flex":
        return View(backend, "mixed", blocks=block_mask(batch))
    return View(backend, "mixed", visible(batch))


def choose(pattern: Pattern, length: int, device: torch.device) -> Backend:
    if device.type == "cpu" and length <= EXPLICIT_UP_TO:
        return "explicit"
    return "flex" if device.type == "cuda" and pattern == "mixed" and length % 128 == 0 else "sdpa"


def block_mask(batch: Batch) -> BlockMask:
    """visible() for flex attention, which evaluates it block by block."""
    document, order = batch.document, batch.order

    def rule(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        same = (document[b, q] == document[b, k]) & (order[b, k] <= order[b, q])
        return (same & (document[b, k] != PADDING)) | (q == k)

    rows, length = batch.tokens.shape
    return create_block_mask(rule, rows, None, length, length, device=batch.tokens.device)


def attend(q: Tensor, k: Tensor, v: Tensor, view: View, dropout: float = 0.0) -> Tensor:
    """q [B, H, L, K], k and v [B, G, L, K] with G dividing H (grouped queries) -> [B, H, L, K]."""
    if view.calls is not None:
        view.calls.append((q.shape[1] * q.shape[3], view.kind))
        return q + k.mean() + v.mean()
    if view.backend == "flex":
        flex = fused_flex if q.is_cuda else flex_attention
        return flex(q, k, v, block_mask=view.blocks, enable_gqa=q.shape[1] != k.shape[1])
    if k.shape[1] != q.shape[1]:
        groups = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    if view.backend == "explicit":
        scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
        if view.mask is not None:
            scores = scores.masked_fill(~view.mask, -torch.inf)
        weights = F.dropout(scores.softmax(-1).to(v.dtype), dropout)
        return weights @ v
    causal = view.pattern == "causal" and view.mask is None
    return F.scaled_dot_product_attention(q, k, v, attn_mask=view.mask, is_causal=causal, dropout_p=dropout)


@contextmanager
def uncounted() -> Iterator[list[tuple[int, str]]]:
    """Inside, `attend` computes nothing and notes its width and kind: for counting FLOPs by visible pairs."""
    calls: list[tuple[int, str]] = []
    token = UNCOUNTED.set(calls)
    try:
        yield calls
    finally:
        UNCOUNTED.reset(token)

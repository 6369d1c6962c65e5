"""Linear layer and cross-entropy in one, in chunks: the full [N, V] logits are never held.

The sum over positions has a scalar gradient, so the gradients of hidden states and weight are computed while a chunk's
logits are at hand, and only scaled later. z is the sum of logsumexp(logits)^2 (PaLM, arXiv:2204.02311, section 5).
"""

import torch
from torch import Tensor

from lmx.batch import IGNORE

CHUNK = 2**21  # logits held at a time: 4 MB in bf16, which stays in a core's cache


class LinearCrossEntropy(torch.autograd.Function):
    """(hidden [N, D], weight [V, D], targets [N], with_z) -> ([] nats summed, [] z summed)."""

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Tensor, with_z: bool) -> tuple[Tensor, Tensor]:
        learn = any(ctx.needs_input_grad[:2])
        nats, z = hidden.new_zeros((), dtype=torch.float32), hidden.new_zeros((), dtype=torch.float32)
        grads = [(torch.empty_like(hidden), torch.zeros_like(weight)) for _ in range(1 + with_z)] if learn else []
        weight = weight.to(hidden.dtype)
        rows = max(64, CHUNK // weight.shape[0])
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            asked = (targets[part] != IGNORE).float()
            answer = targets[part].clamp(min=0)[:, None]
            logits = (hidden[part] @ weight.T).float()
            right = logits.gather(1, answer)
            lse = logits.logsumexp(1, keepdim=True)
            nats += ((lse - right)[:, 0] * asked).sum()
            z += (lse[:, 0].square() * asked).sum()
            if learn:
                share = logits.sub_(lse).exp_().mul_(asked[:, None])  # softmax; logits are gone from here on
                if with_z:
                    keep(grads[1], part, hidden, weight, share * (2 * lse))
                share.scatter_add_(1, answer, -asked[:, None])
                keep(grads[0], part, hidden, weight, share)
        ctx.save_for_backward(*[tensor for pair in grads for tensor in pair])
        return nats, z

    @staticmethod
    def backward(ctx, nats: Tensor, z: Tensor) -> tuple[Tensor, Tensor, None, None]:
        saved = ctx.saved_tensors
        hidden, weight = saved[0] * nats.to(saved[0].dtype), saved[1] * nats.to(saved[1].dtype)
        if len(saved) == 4:
            hidden, weight = hidden + saved[2] * z.to(hidden.dtype), weight + saved[3] * z.to(weight.dtype)
        return hidden, weight, None, None


def keep(grads: tuple[Tensor, Tensor], part: slice, hidden: Tensor, weight: Tensor, slope: Tensor) -> None:
    """Add what a chunk with d loss / d logits = `slope` [n, V] contributes to both gradients."""
    slope = slope.to(hidden.dtype)
    torch.mm(slope, weight, out=grads[0][part])
    grads[1].add_(slope.T @ hidden[part])  # in the weight's own type: bf16 would round at every chunk


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, *, z: bool = False) -> tuple[Tensor, Tensor]:
    """Nats and z, summed over the targets that are not IGNORE; products in the autocast type, sums in float32."""
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        hidden = hidden.to(torch.get_autocast_dtype(device))
    with torch.autocast(device, enabled=False):
        return LinearCrossEntropy.apply(hidden, weight, targets, z)

"""Linear layer and cross-entropy in one, in chunks: the full [N, V] logits are never held.

The sum over positions has a scalar gradient, so the gradients of hidden states and weight are computed while a chunk's
logits are at hand, and only scaled later. z is the sum of logsumexp(logits)^2 (PaLM, arXiv:2204.02311, section 5).
"""

import torch
from torch import Tensor, nn

from lmx.batch import IGNORE

CHUNK = 2**21  # logits held at a time: 4 MB in bf16, which stays in a core's cache


class Head(nn.Linear):
    """A row for each entry of the vocabulary, [V, D]; optimizers treat it like an embedding."""

    is_head = True

    def __init__(self, width: int, vocabulary_size: int):
        super().__init__(width, vocabulary_size, bias=False)
        nn.init.normal_(self.weight, std=0.3 * width**-0.5)


class Slopes(nn.Module):
    """Cross-entropy of a chunk and its derivative by the logits; without parameters, a module so that it can be compiled."""

    compiles = True

    def forward(self, logits: Tensor, targets: Tensor, with_z: bool) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """logits [n, V], targets [n] -> summed nats and z, d nats / d logits and, if asked, d z / d logits, [n, V]."""
        asked = (targets != IGNORE)[:, None]
        answer = targets.clamp(min=0)[:, None]
        scores = logits.float()
        top = scores.amax(1, keepdim=True)
        lse = (scores - top).exp().sum(1, keepdim=True).log() + top
        nats = ((lse - scores.gather(1, answer)) * asked).sum()
        z = (lse.square() * asked).sum()
        share = (scores - lse).exp() * asked
        right = torch.arange(logits.shape[1], device=logits.device) == answer
        slope = (share - (right & asked).float()).to(logits.dtype)
        return nats, z, slope, (share * (2 * lse)).to(logits.dtype) if with_z else None


class LinearCrossEntropy(torch.autograd.Function):
    """(hidden [N, D], weight [V, D], targets [N], slopes, with_z) -> ([] nats summed, [] z summed)."""

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Tensor, slopes: Slopes, with_z: bool) -> tuple[Tensor, Tensor]:
        learn = any(ctx.needs_input_grad[:2])
        nats, z = hidden.new_zeros((), dtype=torch.float32), hidden.new_zeros((), dtype=torch.float32)
        grads = [(torch.empty_like(hidden), torch.zeros_like(weight)) for _ in range(1 + with_z)] if learn else []
        weight = weight.to(hidden.dtype)
        rows = max(64, CHUNK // weight.shape[0])
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            more_nats, more_z, *steepness = slopes(hidden[part] @ weight.T, targets[part], with_z)
            nats += more_nats
            z += more_z
            for (by_hidden, by_weight), slope in zip(grads, steepness, strict=False):
                torch.mm(slope, weight, out=by_hidden[part])
                by_weight.add_(slope.T @ hidden[part])  # in the weight's own type: bf16 would round at every chunk
        ctx.save_for_backward(*[tensor for pair in grads for tensor in pair])
        return nats, z

    @staticmethod
    def backward(ctx, nats: Tensor, z: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        saved = ctx.saved_tensors
        hidden, weight = saved[0] * nats.to(saved[0].dtype), saved[1] * nats.to(saved[1].dtype)
        if len(saved) == 4:
            hidden, weight = hidden + saved[2] * z.to(hidden.dtype), weight + saved[3] * z.to(weight.dtype)
        return hidden, weight, None, None, None


class VocabularyLoss(nn.Module):
    """Nats and z, summed over the targets that are not IGNORE; products in the autocast type, sums in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.slopes = Slopes()

    def forward(self, hidden: Tensor, weight: Tensor, targets: Tensor, *, z: bool) -> tuple[Tensor, Tensor]:
        """hidden [N, D], weight [V, D], targets [N] -> [] and []"""
        device = hidden.device.type
        if device == "meta" or not torch.is_autocast_enabled(device):  # meta: where FLOPs are counted
            return LinearCrossEntropy.apply(hidden, weight, targets, self.slopes, z)
        hidden = hidden.to(torch.get_autocast_dtype(device))
        with torch.autocast(device, enabled=False):
            return LinearCrossEntropy.apply(hidden, weight, targets, self.slopes, z)

"""Linear layer and cross-entropy in one, in chunks: the full [N, V] logits are never held.

The sum over positions has a scalar gradient, so the gradients of hidden states and weight are computed while a chunk's
logits are at hand, and only scaled later. z is the sum of logsumexp(logits)^2 (PaLM, arXiv:2204.02311, section 5).
"""

import torch
from torch import Tensor, nn

from lmx.batch import IGNORE

CHUNK = 2**21  # logits held at a time on a CPU: 4 MB in bf16, which stays in a core's cache
CHUNK_ON_DEVICE = 2**27  # elsewhere: enough to keep matrix units busy


class Head(nn.Linear):
    """A row for each entry of the vocabulary, [V, D]; optimizers treat it like an embedding."""

    is_head = True

    def __init__(self, width: int, vocabulary_size: int):
        super().__init__(width, vocabulary_size, bias=False)
        nn.init.normal_(self.weight, std=0.3 * width**-0.5)


class Slopes(nn.Module):
    """Cross-entropy of a chunk and its derivative by the logits; without parameters, a module so that it can be compiled."""

    compiles = True

    def forward(
        self, logits: Tensor, targets: Tensor, shares: Tensor | None, z_weight: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """logits [n, V], targets and shares [n] -> nats x shares [n], summed z, and the slope of both, [n, V]."""
        asked = (targets != IGNORE).float()[:, None]
        if shares is not None:
            asked = asked * shares[:, None]
        answer = targets.clamp(min=0)[:, None]
        scores = logits.float()
        top = scores.amax(1, keepdim=True)
        lse = (scores - top).exp().sum(1, keepdim=True).log() + top
        nats = ((lse - scores.gather(1, answer)) * asked)[:, 0]
        z = (lse.square() * asked).sum()
        share = (scores - lse).exp() * asked
        right = torch.arange(logits.shape[1], device=logits.device) == answer
        slope = share * (1 + 2 * z_weight * lse) if z_weight else share
        return nats, z, (slope - right * asked).to(logits.dtype)


class LinearCrossEntropy(torch.autograd.Function):
    """(hidden [N, D], weight [V, D], targets and shares [N], slopes, z_weight) -> ([] nats, [] z summed, [N] nats).

    The gradient of the sum is that of nats + z_weight x z, the others have none: so z costs no product of its own.
    """

    @staticmethod
    def forward(
        ctx, hidden: Tensor, weight: Tensor, targets: Tensor, shares: Tensor | None, slopes: Slopes, z_weight: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        learn = any(ctx.needs_input_grad[:2])
        nats, z = hidden.new_zeros(len(hidden), dtype=torch.float32), hidden.new_zeros((), dtype=torch.float32)
        by_hidden, by_weight = torch.empty_like(hidden), torch.zeros_like(weight) if learn else weight
        weight = weight.to(hidden.dtype)
        rows = max(64, (CHUNK if hidden.device.type == "cpu" else CHUNK_ON_DEVICE) // weight.shape[0])
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            nats[part], more_z, slope = slopes(
                hidden[part] @ weight.T, targets[part], None if shares is None else shares[part], z_weight
            )
            z += more_z
            if learn:
                torch.mm(slope, weight, out=by_hidden[part])
                by_weight.add_(slope.T @ hidden[part])  # in the weight's own type: bf16 would round at every chunk
        ctx.save_for_backward(by_hidden, by_weight)
        ctx.mark_non_differentiable(z, nats)
        return nats.sum(), z, nats

    @staticmethod
    def backward(ctx, nats: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        by_hidden, by_weight = ctx.saved_tensors  # scaled in float32: a rounded 1 / N would be one more learning rate
        return (by_hidden.float() * nats).to(by_hidden.dtype), by_weight * nats, None, None, None, None


class VocabularyLoss(nn.Module):
    """Nats and z, summed over the targets that are not IGNORE; products in the autocast type, sums in float32."""

    def __init__(self, z_weight: float):
        super().__init__()
        self.slopes, self.z_weight = Slopes(), z_weight

    def forward(
        self, hidden: Tensor, weight: Tensor, targets: Tensor, shares: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """hidden [N, D], weight [V, D], targets [N] -> summed nats [] and z [], and the nats of each row [N].

        Rows count by their `shares` [N], if given. Only the sum has a gradient, that of nats + z_weight x z.
        """
        device = hidden.device.type
        if device == "meta" or not torch.is_autocast_enabled(device):  # meta: where FLOPs are counted
            return LinearCrossEntropy.apply(hidden, weight, targets, shares, self.slopes, self.z_weight)
        hidden = hidden.to(torch.get_autocast_dtype(device))
        with torch.autocast(device, enabled=False):
            return LinearCrossEntropy.apply(hidden, weight, targets, shares, self.slopes, self.z_weight)

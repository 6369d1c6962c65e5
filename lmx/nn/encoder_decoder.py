"""A decoder beside the trunk, which becomes its encoder (Vaswani et al. 2017; Raffel et al. 2020, arXiv:1910.10683).

Of a trunk of L blocks, `decoder` makes

    full     encoder L, decoder L new blocks           twice the parameters, FLOPs of a stack of L on source + target
    half     encoder the first L/2, decoder the rest    the parameters of the trunk and the cross-attention
    shared   encoder L, decoder the same L blocks       the parameters of the trunk and the cross-attention
"""

from collections.abc import Sequence
from typing import Literal, cast

from torch import Tensor, nn

from lmx.batch import Batch, crossing
from lmx.errors import LmxError
from lmx.nn.block import EPSILON, Block, CrossAttention, Memory
from lmx.nn.cache import Cache
from lmx.nn.init import initialize
from lmx.nn.transformer import Transformer

Sharing = Literal["full", "half", "shared"]


class Decoder(nn.Module):
    """Reads `batch` from left to right and all of `batch.source`; both with the trunk's embedding."""

    def __init__(self, model: Transformer, sharing: Sharing):
        """Raises LmxError for half of an odd depth."""
        super().__init__()
        if sharing == "half" and model.depth % 2:
            raise LmxError(
                f"model.depth must be even with objective.decoder=half, got {model.depth}. Type objective.decoder=full."
            )
        self.sharing = sharing
        depth = model.depth // 2 if sharing == "half" else model.depth
        self.blocks = nn.ModuleList(Block(**model.shape) for _ in range(depth if sharing == "full" else 0))
        shape = {key: value for key, value in model.shape.items() if key != "mlp"}
        self.crosses = nn.ModuleList(CrossAttention(**shape) for _ in range(depth))
        self.source_norm = nn.RMSNorm(model.width, eps=EPSILON) if sharing == "half" else None
        self.norm = nn.RMSNorm(model.width, eps=EPSILON) if sharing == "full" else None
        initialize(self, depth=depth)

    def forward(self, model: Transformer, batch: Batch) -> Tensor:
        """-> hidden states of the decoder [B, L, D], normalised"""
        assert batch.source is not None
        source = self.encode(model, batch.source)
        crossing_view = model.view(batch, mask=crossing(batch, batch.source), kind="cross")
        seen, rotation = model.view(batch), model.rotation(batch.position)
        x = model.embed(batch)
        for block, cross in zip(self.decoding(model), self.crosses, strict=True):
            x = block(x, rotation, seen, Memory(cast(CrossAttention, cross), source, crossing_view))
        return (self.norm or model.norm)(x)

    def cache(self, model: Transformer, batch: Batch) -> Cache:
        """What writes after having read `batch.source`."""
        assert batch.source is not None
        seen = model.view(batch, mask=crossing(batch, batch.source)[:, :, :1], kind="cross")
        source = self.encode(model, batch.source)
        memories = [Memory(cast(CrossAttention, cross), source, seen) for cross in self.crosses]
        return Cache(cast(Sequence[Block], self.decoding(model)), self.norm or model.norm, memories)

    def encode(self, model: Transformer, source: Batch) -> Tensor:
        """-> hidden states of the encoder [B, S, D], normalised"""
        return self.layers(model, source)[-1]

    def layers(self, model: Transformer, source: Batch) -> list[Tensor]:
        """[B, S, D] embeddings and what each block of the encoder makes of them, the last one normalised"""
        seen, rotation = model.view(source, kind="source"), model.rotation(source.position)
        found = [model.embed(source)]
        for block in model.blocks[: model.depth // 2] if self.sharing == "half" else model.blocks:
            found.append(block(found[-1], rotation, seen))
        return [*found[:-1], (self.source_norm or model.norm)(found[-1])]

    def decoding(self, model: Transformer) -> Sequence[nn.Module]:
        if self.sharing == "half":
            return list(model.blocks[model.depth // 2 :])
        return list(self.blocks or model.blocks)

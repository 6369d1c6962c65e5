"""Multi-token prediction: at each position predict the next n tokens (Gloeckle et al. 2024, arXiv:2404.19737; DeepSeek-V3,
arXiv:2412.19437).

With documents 5 6 7 8 and 9 10 11, and n = 3:

    tokens    5 6 7 8 9 10 11
    targets   6 7 8 . 10 11 .
    depth 1   7 8 . . 11  . .
    depth 2   8 . . .  .  . .

    parallel     the last block once more for each depth, all from the state below it; one norm and one head for all
    linear       a vocabulary head for each depth, all from the same state
    sequential   depth k joins the state of depth k-1 with the embedding of the token k places on, through a block of its own
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, cast

import numpy as np
import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from lmx.batch import IGNORE, Batch, Details
from lmx.data.noise import Keys
from lmx.data.packing import Sample
from lmx.data.tokenizer import Vocabulary
from lmx.nn.attention import View
from lmx.nn.block import EPSILON, Block
from lmx.nn.cache import Cache
from lmx.nn.cross_entropy import Head
from lmx.nn.init import initialize
from lmx.nn.transformer import Transformer
from lmx.objectives.clm import CLM
from lmx.objectives.objective import asked, stack

Choose = Callable[[Tensor], list[int]]  # logits [N, V] -> a token for each


@dataclass(frozen=True, kw_only=True)
class DeepBatch(Batch):
    later: Tensor  # [B, L, n - 1] the tokens 2, 3, … places on, or IGNORE


class MTP(CLM):
    def __init__(
        self,
        *,
        length: int,
        model: Transformer,
        vocabulary: Vocabulary,
        ahead: Annotated[int, Interval(ge=2, le=64)],
        kind: Literal["parallel", "linear", "sequential"],
        weight: Annotated[float, Ge(0)],
        z_loss: Annotated[float, Ge(0)],
    ):
        super().__init__(length=length, model=model, vocabulary=vocabulary, z_loss=z_loss)
        self.ahead, self.kind, self.lookahead = ahead, kind, ahead
        self.parts = nn.ModuleList(self.part(model) for _ in range(1, ahead))
        self.weights |= {f"depth_{depth}": weight for depth in range(1, ahead)}

    def part(self, model: Transformer) -> nn.Module:
        """What one further depth adds."""
        if self.kind == "linear":
            return Head(model.width, self.vocabulary.size)
        made = Block(**model.shape) if self.kind == "parallel" else Sequential(model)
        initialize(made, depth=model.depth)
        return made

    def collate(self, samples: Sequence[Sample], keys: Keys) -> Batch:
        rows = [self.pose(sample) for sample in samples]
        later = np.full((len(rows), self.length, self.ahead - 1), IGNORE, dtype=np.int64)
        for number, sample in enumerate(samples):
            size = len(rows[number]["tokens"])
            for depth in range(1, self.ahead):
                there = np.append(sample.segment, np.full(self.ahead, -1))[depth + 1 :][:size]
                token = np.append(sample.tokens, np.zeros(self.ahead, dtype=np.int64))[depth + 1 :][:size]
                later[number, :size, depth - 1] = np.where(there == sample.segment[:size], token, IGNORE)
        return stack(rows, self.length, DeepBatch, later=torch.from_numpy(later))

    def details(self, batch: Batch) -> Details:
        return Details(asks={f"depth {depth}": self.further(batch, depth) for depth in range(1, self.ahead)})

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        deep = {f"depth_{depth}": (self.further(batch, depth) != IGNORE).sum() for depth in range(1, self.ahead)}
        return super().counts(batch) | deep

    def forward(self, model: Transformer, batch: Batch) -> dict[str, Tensor]:
        states = self.states(model, batch)
        hidden, targets = asked(states[0], batch)
        nats, z, _ = self.score(hidden, self.output_weight(model), targets)
        losses = self.terms(nats, z)
        for depth, part in enumerate(self.parts, start=1):
            hidden, targets = asked(states[depth], replace(batch, targets=self.further(batch, depth)))
            weight = part.weight if isinstance(part, Head) else self.output_weight(model)
            losses[f"depth_{depth}"] = self.score(hidden, weight, targets)[0]
        return losses

    def further(self, batch: Batch, depth: int) -> Tensor:
        """[B, L] the tokens depth + 1 places on, or IGNORE"""
        assert isinstance(batch, DeepBatch)
        return torch.where(batch.targets != IGNORE, batch.later[..., depth - 1], IGNORE) if depth else batch.targets

    def states(self, model: Transformer, batch: Batch) -> list[Tensor]:
        """n times [B, L, D], normalised: what each depth is predicted from"""
        seen, rotation = model.view(batch), model.rotation(batch.position)
        below, state = self.trunk(model, batch)
        states = [model.norm(state)]
        for depth, part in enumerate(self.parts, start=1):
            if isinstance(part, Block):
                states.append(model.norm(part(below, rotation, seen)))
            elif isinstance(part, Sequential):
                state = part(model, state, self.further(batch, depth - 1), rotation, seen)
                states.append(part.norm(state))
            else:
                states.append(states[0])
        return states

    def trunk(self, model: Transformer, batch: Batch) -> tuple[Tensor, Tensor]:
        """[B, L, D] below the last block and after it: what every depth starts from"""
        seen, rotation = model.view(batch), model.rotation(batch.position)
        below = model.embed(batch)
        for block in model.blocks[:-1]:
            below = block(below, rotation, seen)
        return below, model.blocks[-1](below, rotation, seen)

    def drafts(self, model: Transformer) -> "Drafts":
        return Drafts(self, model)


class Sequential(nn.Module):
    """One depth of DeepSeek-V3: the state before it and the embedding of the next known token, joined, through a block."""

    def __init__(self, model: Transformer):
        super().__init__()
        self.token_norm, self.state_norm, self.norm = (nn.RMSNorm(model.width, eps=EPSILON) for _ in range(3))
        self.join = nn.Linear(2 * model.width, model.width, bias=False)
        self.block = Block(**model.shape)

    def forward(
        self, model: Transformer, state: Tensor, known: Tensor, rotation: tuple[Tensor, Tensor], seen: View
    ) -> Tensor:
        """state [B, L, D], known [B, L] tokens or IGNORE -> [B, L, D]"""
        return self.block(self.joined(model, state, known), rotation, seen)

    def joined(self, model: Transformer, state: Tensor, known: Tensor) -> Tensor:
        """-> [B, L, D] what the block reads"""
        token = model.embedding(known.clamp(min=0)) * (known != IGNORE)[..., None]
        return self.join(torch.cat([self.token_norm(token), self.state_norm(state)], dim=-1))


class Drafts:
    """Reads on, and drafts what may follow; keys and values of the trunk and of each depth are kept.

    Depth k has read drafts at its last k - 1 positions, and reads these again once their tokens are known.
    """

    def __init__(self, objective: MTP, model: Transformer):
        self.objective, self.model = objective, model
        blocks = cast(list[Block], list(model.blocks))
        self.low, self.high = Cache(blocks[:-1], nn.Identity()), Cache(blocks[-1:], nn.Identity())
        deep = [part.block if isinstance(part, Sequential) else part for part in objective.parts]
        self.deep = [Cache([cast(Block, block)], nn.Identity()) for block in deep]
        self.below = self.state = model.embedding.weight.new_zeros(1, 0, model.width)
        self.final = 0  # positions that no depth has to read again

    def read(self, tokens: Sequence[int]) -> Tensor:
        """[n] further tokens -> [n, D] hidden states, normalised"""
        size = self.state.shape[1]
        place = torch.arange(size, size + len(tokens), device=self.state.device)[None]
        rotation = self.model.rotation(place)
        x = self.model.embedding_norm(self.model.embedding(place.new_tensor([tokens])))
        below = self.low.read(x, rotation, place)
        state = self.high.read(below, rotation, place)
        self.below, self.state = torch.cat([self.below, below], dim=1), torch.cat([self.state, state], dim=1)
        return self.model.norm(state)[0]

    def keep(self, size: int) -> None:
        """Forget what was read after the first `size` tokens."""
        for cache in (self.low, self.high):
            cache.cut(size)
        self.below, self.state = self.below[:, :size], self.state[:, :size]

    def draft(self, tokens: Sequence[int], choose: Choose) -> list[int]:
        """The n - 1 tokens after the next one, which is the last of `tokens` [L + 1]; L of them have been read."""
        model, size = self.model, self.state.shape[1]
        place = torch.arange(self.final, size, device=self.state.device)[None]
        rotation = model.rotation(place)
        below, state, drafts = self.below[:, self.final :], self.state[:, self.final :], []
        for depth, (part, cache) in enumerate(zip(self.objective.parts, self.deep, strict=True), start=1):
            weight = self.objective.output_weight(model)
            cache.cut(self.final)
            if isinstance(part, Head):
                hidden, weight = model.norm(state[:, -1:]), part.weight
            elif isinstance(part, Sequential):
                known = place.new_tensor([[*tokens, *drafts][self.final + depth : size + depth]])
                state = cache.read(part.joined(model, state, known), rotation, place)
                hidden = part.norm(state)
            else:
                hidden = model.norm(cache.read(below, rotation, place))
            drafts += choose(hidden[0, -1:] @ weight.T)
        self.final = max(0, size - (self.objective.ahead - 2))
        return drafts

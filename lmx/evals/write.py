"""Writing: a token at a time after an opening; masks, the surest first; drafts of several tokens that the model checks."""

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmx.batch import Batch
from lmx.nn.cache import Cache
from lmx.nn.transformer import Transformer
from lmx.objectives.objective import Prediction
from lmx.objectives.writing import Gap, Opening


@dataclass(kw_only=True)
class Sampler:
    """Softmax with a temperature (0: the most likely token) over the `top_k` most likely tokens that together have `top_p`.

    (Fan et al. 2018, arXiv:1805.04833; Holtzman et al. 2020, arXiv:1904.09751.) Special tokens are drawn only where they end
    what is written.
    """

    special: Tensor  # [V] bool
    temperature: float
    top_k: int | None
    top_p: float
    generator: torch.Generator

    def __call__(self, logits: Tensor, stops: Collection[int] = ()) -> list[int]:
        """[N, V] -> N tokens"""
        logits = self.allowed(logits, stops)
        if self.temperature == 0:
            return logits.argmax(-1).tolist()
        shares = self.distribution(logits)
        return torch.multinomial(shares, 1, generator=self.generator)[:, 0].tolist()

    def allowed(self, logits: Tensor, stops: Collection[int] = ()) -> Tensor:
        banned = self.special.clone()
        banned[list(stops)] = False
        return logits.float().cpu().masked_fill(banned, -torch.inf)

    def distribution(self, logits: Tensor) -> Tensor:
        """[N, V] -> [N, V] what is drawn from"""
        best, index = (logits / self.temperature).sort(-1, descending=True)
        shares = best.softmax(-1)
        outside = shares.cumsum(-1) - shares >= self.top_p  # the most likely one is always inside
        if self.top_k is not None:
            outside[..., self.top_k :] = True
        shares = best.masked_fill(outside, -torch.inf).softmax(-1)
        return torch.zeros_like(shares).scatter(-1, index, shares)


@dataclass(kw_only=True)
class Written:
    """Tokens of each gap, and how often the model was run."""

    gaps: list[list[int]]
    forwards: int


@torch.no_grad()
def write(
    objective: Prediction, model: Transformer, opening: Opening, sampler: Sampler, most: int, length: int
) -> Written:
    """At most `most` tokens a gap, and positions within `length`."""
    device = model.embedding.weight.device
    batch = opening.batch.to(device)
    reader = Reader(objective, model, objective.writer(model, batch))
    last, place = reader(batch), Place(batch)
    gaps, unread = [], []
    for gap in opening.gaps:
        gaps.append([])
        unread += [] if gap.first is None else [(gap.first, gap, 0)]
        for step in range(1, most + 1):
            while unread:
                last = reader(place.next(*unread.pop(0)))
            (token,) = sampler(last, gap.stops)
            if token in gap.stops:
                break
            gaps[-1].append(token)
            unread.append((token, gap, step))
            if place.used + len(unread) >= length:
                break
    return Written(gaps=gaps, forwards=reader.forwards)


class Reader:
    """Logits [1, V] after the last of some new positions."""

    def __init__(self, objective: Prediction, model: Transformer, cache: Cache):
        self.objective, self.model, self.cache, self.forwards = objective, model, cache, 0

    def __call__(self, batch: Batch) -> Tensor:
        self.forwards += 1
        x = self.objective.embedded(self.model, batch)
        hidden = self.cache.read(x, self.model.rotation(batch.position), batch.order)
        return self.objective.logits(self.model, hidden[:, -1])


class Place:
    """Where the next token stands."""

    def __init__(self, batch: Batch):
        self.batch = batch
        self.position, self.order = int(batch.position[0, -1]), int(batch.order[0, -1])
        self.used = batch.tokens.shape[1]

    def next(self, token: int, gap: Gap, step: int) -> Batch:
        """A batch of one position; a gap with a position of its own has it for all, and counts its tokens in `block`."""
        self.position, self.order, self.used = self.position + 1, self.order + 1, self.used + 1
        values = {"tokens": token, "position": self.position, "order": self.order, "document": 0}
        if gap.position is not None:
            values |= {"position": gap.position, "block": step + 1}
        names = {field.name for field in fields(self.batch)}
        columns: dict[str, Any] = {
            name: torch.full_like(self.batch.tokens[:, :1], value) for name, value in values.items() if name in names
        }
        return replace(self.batch, **columns, targets=torch.full_like(columns["tokens"], -100), source=None)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What may stand at a hidden place, the most likely first."""

    token: int
    share: float


@torch.no_grad()
def fill(
    objective: Prediction, model: Transformer, text: np.ndarray, hidden: np.ndarray, sampler: Sampler, shown: int = 5
) -> tuple[np.ndarray, list[list[Candidate]], int]:
    """The text with its hidden tokens filled, the surest first and each seen by the next; candidates of each; forwards."""
    text, hidden = text.copy(), hidden.copy()
    places = np.flatnonzero(hidden)
    candidates: dict[int, list[Candidate]] = {}
    device = model.embedding.weight.device
    for _ in places:
        batch = objective.hiding([text], [hidden]).to(device)
        asked = batch.targets[0] != -100
        logits = sampler.allowed(objective.logits(model, objective.hidden(model, batch)[0, asked]))
        shares = logits.softmax(-1)
        best = int(shares.amax(-1).argmax())
        place = int(np.flatnonzero(hidden)[best])
        top, index = shares[best].topk(shown)
        candidates[place] = [
            Candidate(token=token, share=share) for token, share in zip(index.tolist(), top.tolist(), strict=True)
        ]
        (text[place],) = sampler(logits[best : best + 1])
        hidden[place] = False
    return text, [candidates[place] for place in places.tolist()], len(places)


@torch.no_grad()
def speculate(
    objective: Any,
    model: Transformer,
    text: np.ndarray,
    stops: Collection[int],
    sampler: Sampler,
    most: int,
    length: int,
) -> tuple[list[int], int]:
    """Greedy continuation by drafts that the model itself checks (Stern et al. 2018, arXiv:1811.03115), token for token what it
    would have written without, and as far; and how often the trunk ran. For objectives that have `drafts`.
    """
    tokens, pending, read, forwards = text.tolist(), [], 0, 0
    begun, end = len(tokens), len(tokens) + max(1, min(most, length - len(tokens)))
    drafts = objective.drafts(model)

    def choose(logits: Tensor) -> list[int]:
        return sampler.allowed(logits, stops).argmax(-1).tolist()

    while len(tokens) < end:
        hidden = drafts.read([*tokens[read:], *pending])[-1 - len(pending) :]
        forwards += 1
        for right, drafted in zip(choose(objective.logits(model, hidden)), [*pending, None], strict=True):
            tokens.append(right)
            if right in stops or right != drafted or len(tokens) == end:
                break
        if tokens[-1] in stops:
            return tokens[begun:-1], forwards
        read = len(tokens) - 1
        drafts.keep(read)
        pending = drafts.draft(tokens, choose)
    return tokens[begun:], forwards

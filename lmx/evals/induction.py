"""Induction heads (Olsson et al. 2022, arXiv:2209.11895): where heads look in repeated random tokens, and what they copy.

A text of random tokens comes several times, framed as in training: a b c d a b c d. From the second copy on, a head's share of
attention is added up over all other copies that it sees, on two diagonals; from the second b,

    prefix_matching   the tokens after the other b: c        what a head needs that predicts the next token
    same_phase        the other b                            what a head needs that restores a hidden one

The floor of a head is what uniform attention to all that it sees would have; of the model, which is its best head, that of the
model before training.

`copying`: of a text of random tokens without repeats, what a head reads off a token raises the logits of the text's tokens by so
much (less the mean over them, where above 0); the token's own share of that, averaged by attention. 0 is -1, a half or more is 1.
Its floor is that of all shares equal. Only of stacks that predict tokens themselves.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
from annotated_types import Interval
from torch import Tensor

from lmx.batch import IGNORE, Batch, visible
from lmx.data.noise import generator
from lmx.evals.attention import Attention, watched
from lmx.evals.texts import longest, symbols
from lmx.evals.yardstick import Report, Row, Subject, Yardstick
from lmx.nn.encoder_decoder import Decoder
from lmx.objectives.objective import Prediction
from lmx.train.learner import Learner

Scores = dict[str, Tensor]  # metric -> [layers, H, texts]
DIAGONALS = {"prefix_matching": 1, "same_phase": 0}  # places after the other copy of a token


class Induction(Yardstick):
    def __init__(
        self,
        *,
        texts: Annotated[int, Interval(ge=2, le=2**16)],
        tokens: Annotated[int, Interval(ge=3, le=2**12)],
        copies: Annotated[int, Interval(ge=2, le=2**8)],
        every_head: bool,
    ):
        self.texts, self.tokens, self.copies, self.every_head = texts, tokens, copies, every_head

    def __call__(self, subject: Subject, report: Report) -> Sequence[Row]:
        rows, untrained = [], subject.untrained()
        for view in views(subject.learner):
            report(view, None)
            found, floors = self.scores(subject, subject.learner, view)
            before, _ = self.scores(subject, untrained, view)
            for metric, scores in found.items():
                best = scores.flatten(0, 1)[scores.mean(-1).argmax()]
                floor = float(before[metric].mean(-1).max())
                rows.append(row(best, metric, view, "", floor, "untrained"))
            for metric, scores in found.items() if self.every_head else ():
                for layer, heads in enumerate(scores):
                    for head, values in enumerate(heads):
                        task = f"layer {layer} head {head}"
                        rows.append(row(values, metric, view, task, floors[metric], "uniform"))
        return rows

    @torch.no_grad()
    def scores(self, subject: Subject, learner: Learner, view: str) -> tuple[Scores, dict[str, float]]:
        """Scores of each head, and of one that attends to all that it sees."""
        most = longest(subject)
        period = min(self.tokens, most // 2)
        copies = max(2, min(self.copies, most // period))
        known = symbols(subject)
        drawn = [generator(0, "induction", number).choice(known, period, False) for number in range(self.texts)]
        found: Scores = {}
        heads, even = looked(subject, learner, view, [np.tile(text, copies) for text in drawn])
        weights = torch.stack([layer.weights for layer in heads])
        floors = {}
        for metric, after in DIAGONALS.items():
            found[metric] = on_diagonal(weights, period, after).transpose(1, 2)
            floors[metric] = float(on_diagonal(even, period, after).mean())
        if predicts(learner):
            heads, _ = looked(subject, learner, view, drawn)
            unembedding = learner.objective.output_weight(learner.model) * learner.model.norm.weight  # type: ignore[operator]
            rows = unembedding[torch.from_numpy(np.stack(drawn)).to(subject.device)]  # [texts, period, D]
            found["copying"] = torch.stack([copied(layer, rows).T for layer in heads])
            floors["copying"] = float(scaled(torch.tensor(1 / period)))
        return found, floors


def views(learner: Learner) -> list[str]:
    """How the stack reads a text: as the objective frames it, and from left to right where it continues what it has read."""
    batch = learner.objective.reading([np.zeros(2, dtype=np.int64)])
    if batch.order[0, -1] > 0:
        return ["causal"]
    continues = learner.objective.follows and learner.objective.follows_exactly and not encodes(learner)
    return ["both_sides", "causal"] if continues else ["both_sides"]


def encodes(learner: Learner) -> bool:
    return any(isinstance(part, Decoder) for part in learner.objective.modules())


def predicts(learner: Learner) -> bool:
    """Whether what the stack's heads write is read by a vocabulary head."""
    objective = learner.objective
    return isinstance(objective, Prediction) and not objective.detects and not encodes(learner)


def looked(
    subject: Subject, learner: Learner, view: str, texts: Sequence[np.ndarray]
) -> tuple[list[Attention], Tensor]:
    """Of each layer what its heads attended to, and the weights [B, 1, n, n] of uniform attention; the frame is left out."""
    batch = learner.objective.reading(texts).to(subject.device)
    if view == "causal":
        batch = left_to_right(batch)
    own = (batch.targets[0] != IGNORE).nonzero()[:, 0]  # the same in all rows, which are equally long
    with watched(learner.model, batch) as layers:
        learner.objective.layers(learner.model, batch)
    seen = visible(batch).float()
    even = (seen / seen.sum(-1, keepdim=True))[:, :, own][..., own]
    return [
        replace(layer, weights=layer.weights[:, :, own][..., own].float(), values=layer.values[:, :, own])
        for layer in layers
    ], even


def left_to_right(batch: Batch) -> Batch:
    return replace(batch, order=torch.arange(batch.tokens.shape[1]).expand_as(batch.tokens), pattern="causal")


def on_diagonal(weights: Tensor, period: int, after: int) -> Tensor:
    """[..., n, n] -> [...] mean share of attention, from the second copy on, to what is `after` places behind other copies."""
    place = torch.arange(weights.shape[-1], device=weights.device)
    gap = place[None, :] - place[:, None] - after
    there = (gap % period == 0) & (gap != 0)
    return (weights * there).sum(-1)[..., period:].mean(-1)


def copied(layer: Attention, rows: Tensor) -> Tensor:
    """[B, H] copying scores of one layer; `rows` [B, n, D] are what predicts each token of the text"""
    logits = torch.einsum("bhld,bnd->bhln", layer.written(), rows.to(layer.values.dtype)).float()
    raised = (logits - logits.mean(-1, keepdim=True)).clamp(min=0)
    shares = raised.diagonal(dim1=-2, dim2=-1) / raised.sum(-1).clamp(min=1e-30)
    attended = layer.weights.sum(-2)  # [B, H, n], by all queries
    return scaled((shares * attended).sum(-1) / attended.sum(-1))


def scaled(shares: Tensor) -> Tensor:
    """[0, 1/2] -> [-1, 1], as in the paper; more is 1"""
    return (4 * shares - 1).clamp(max=1)


def row(values: Tensor, metric: str, scorer: str, task: str, floor: float, floor_name: str) -> Row:
    return Row(
        task=task,
        metric=metric,
        scorer=scorer,
        value=float(values.mean()),
        error=float(values.std() / len(values) ** 0.5),
        items=len(values),
        floor=floor,
        floor_name=floor_name,
        unit="score" if metric == "copying" else "share",
        better="neither",
        comparability="D",
    )

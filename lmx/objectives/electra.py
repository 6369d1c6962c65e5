"""ELECTRA: tell which tokens a small masked LM has replaced (Clark et al. 2020, arXiv:2003.10555).

The trunk is the discriminator; the generator is a smaller stack beside it. With [MASK] 4, positions 1, 3 and 4 masked (the last
one shown as it is), and the generator's samples 11, 77 and 78:

    text          2 11 12 13 14 15 3
    generator     2  4 12  4 14 15 3      asked: 11 13 14
    trunk         2 11 12 77 78 15 3
    replaced      0  0  0  1  1  0 0      a sample that is right counts as real

`task` goes the paper's steps from MLM to there (section 3.4): the trunk restores the masked tokens from the samples
(replace_mlm) or all tokens (all_tokens_mlm, with a copy gate), tells replaced ones among them (detect_asked) or all (detect).
`sharing=gdes` is DeBERTa-v3's (He et al. 2021, arXiv:2111.09543): the trunk's table is the generator's, without its gradient,
plus a difference of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from lmx.batch import IGNORE, PADDING, Batch, Details
from lmx.data.noise import Keys
from lmx.data.packing import Sample
from lmx.data.tokenizer import Vocabulary
from lmx.nn.cross_entropy import CHUNK, Head
from lmx.nn.transformer import Stack, Transformer
from lmx.objectives.mlm import MLM, Select
from lmx.objectives.objective import asked, entropy, places


@dataclass(frozen=True, kw_only=True)
class SampledBatch(Batch):
    luck: Tensor  # [B, L] uniform in [0, 1): which token the generator's distribution gives there


class ELECTRA(MLM):
    fills = False

    def __init__(
        self,
        *,
        length: int,
        model: Transformer,
        vocabulary: Vocabulary,
        select: Select,
        rate: Annotated[float, Interval(gt=0, lt=1)],
        mask: Annotated[float, Interval(ge=0, le=1)],
        max_targets: Annotated[int, Ge(1)] | None,
        wrap: bool,
        task: Literal["detect", "detect_asked", "replace_mlm", "all_tokens_mlm"],
        weight: Annotated[float, Gt(0)],
        generator_width: Annotated[float, Interval(gt=0, le=1)],
        generator_depth: Annotated[float, Interval(gt=0, le=1)],
        temperature: Annotated[float, Gt(0)],
        sharing: Literal["tied", "gdes", "none"],
        score_special: bool,
        z_loss: Annotated[float, Ge(0)],
    ):
        super().__init__(
            length=length, model=model, vocabulary=vocabulary, select=select, rate=rate, last_rate=None, predict=1.0, mask=mask,
            swap=0.0, evaluate_rate=rate, wrap=wrap, shift=False, max_targets=max_targets, z_loss=z_loss,
        )  # fmt: skip
        self.task, self.temperature, self.sharing, self.score_special = task, temperature, sharing, score_special
        self.generator = smaller(model, generator_width, generator_depth)
        self.table = nn.Embedding(vocabulary.size, model.width) if sharing != "tied" else None
        if self.table is not None:
            nn.init.zeros_(self.table.weight) if sharing == "gdes" else nn.init.normal_(
                self.table.weight, std=0.3 * model.width**-0.5
            )
        restores = task in ("replace_mlm", "all_tokens_mlm")
        self.head = Head(model.width, vocabulary.size) if restores and not model.tied else None
        same = self.generator.width == model.width
        self.narrow = nn.Identity() if same else nn.Linear(model.width, self.generator.width, bias=False)
        self.widen = nn.Identity() if same else nn.Linear(self.generator.width, model.width, bias=False)
        self.judge = None if task == "replace_mlm" else Judge(model.width)
        self.weights |= {"trunk": weight, "replaced": 0.0}
        self.counted = frozenset({"replaced"})
        self.hides, self.detects = "", self.judge is not None  # the trunk has never seen a mask

    def collate(self, samples: Sequence[Sample], keys: Keys) -> Batch:
        batch = super().collate(samples, keys)
        luck = [keys.generator(number, "luck").random(batch.tokens.shape[1]) for number in range(len(samples))]
        return SampledBatch(**vars(batch), luck=torch.from_numpy(np.stack(luck)))

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        own = batch.num_targets if self.task in ("detect_asked", "replace_mlm") else self.scored(batch).sum()
        return super().counts(batch) | {"trunk": own, "replaced": batch.num_targets}

    def constants(self, sums: Mapping[str, float], counts: Mapping[str, int]) -> dict[str, float]:
        if self.task not in ("detect", "detect_asked"):
            return {}
        return {"trunk": entropy(sums["replaced"] / max(counts["trunk"], 1))}

    def forward(self, model: Transformer, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(batch, SampledBatch)
        hidden, targets = asked(self.generated(model, batch), batch)
        table = self.generator_table(model)
        nats, z, _ = self.score(hidden, table, targets)
        text, shown = self.replaced(batch, sample(hidden, table, asked(batch.luck, batch)[0], self.temperature))
        wrong = text != shown
        own = self.judged(model, replace(batch, tokens=shown), text, wrong)
        return self.terms(nats, z) | {"trunk": own, "replaced": wrong.sum().float()}

    def details(self, batch: Batch) -> Details:
        """The trunk's side. The generator's answers depend on its weights: the same chance for each ordinary token stands in."""
        assert isinstance(batch, SampledBatch)
        ordinary = torch.from_numpy(self.vocabulary.ordinary)
        guess = ordinary[(asked(batch.luck, batch)[0] * len(ordinary)).long()]
        text, shown = self.replaced(batch, guess)
        where = batch.targets >= 0 if self.task in ("detect_asked", "replace_mlm") else self.scored(batch)
        wrong = (text != shown).long()
        judged = {} if self.task == "replace_mlm" else {"replaced": wrong.masked_fill(~where, IGNORE)}
        restored = {} if self.judge is not None and self.task.startswith("detect") else {"restores": text}
        return Details(
            reads={"trunk": shown},
            asks={name: column.masked_fill(~where, IGNORE) for name, column in restored.items()},
            numbers=judged,
            facts=[
                "the generator is asked; its answers, which the trunk reads, are random tokens here: no weights are loaded."
            ],
        )

    def generated(self, model: Transformer, batch: Batch) -> Tensor:
        """[B, L, D] the generator's hidden states, in the width of the table"""
        own = self.table if self.sharing == "none" else model.embedding
        assert own is not None
        return self.widen(self.generator.encode(self.narrow(model.embedding_norm(own(batch.tokens))), batch))

    def generator_table(self, model: Transformer) -> Tensor:
        """[V, D], also its output layer"""
        return self.table.weight if self.table is not None and self.sharing == "none" else model.embedding.weight

    def replaced(self, batch: Batch, samples: Tensor) -> tuple[Tensor, Tensor]:
        """[B, L] the text, and with the samples [N] at the asked places."""
        index = places(batch)
        text = torch.where(batch.targets >= 0, batch.targets, batch.tokens)
        spare = torch.cat([text.flatten(), text.new_zeros(1)])  # filler rows write to its end
        return text, spare.index_copy(0, index % len(spare), samples)[:-1].view_as(text)

    def judged(self, model: Transformer, batch: Batch, text: Tensor, wrong: Tensor) -> Tensor:
        """[] nats of the trunk's task"""
        hidden = self.read(model, batch)
        if self.task == "replace_mlm":
            rows, targets = asked(hidden, batch)
            return self.score(rows, self.output_weight(model), targets)[0]
        assert self.judge is not None
        verdict = self.judge(hidden)
        if self.task == "all_tokens_mlm":
            log_p = F.log_softmax(self.logits(model, hidden), -1).gather(-1, text[..., None])[..., 0]
            keep, change = F.logsigmoid(-verdict), F.logsigmoid(verdict) + log_p
            nats = -torch.where(wrong, change, torch.logaddexp(keep, change))
        else:
            nats = F.binary_cross_entropy_with_logits(verdict, wrong.float(), reduction="none")
        where = batch.targets >= 0 if self.task == "detect_asked" else self.scored(batch)
        return (nats * where).sum()

    def read(self, model: Transformer, batch: Batch) -> Tensor:
        """[B, L, D] the trunk's hidden states"""
        return self.layers(model, batch)[-1]

    def layers(self, model: Transformer, batch: Batch) -> list[Tensor]:
        x = model.embedding(batch.tokens)
        if self.sharing == "gdes" and self.table is not None:
            x = x.detach() + self.table(batch.tokens)
        return model.layers(model.embedding_norm(x), batch)

    def suspicion(self, model: Transformer, batch: Batch) -> Tensor:
        assert self.judge is not None
        return self.judge(self.read(model, batch))

    def scored(self, batch: Batch) -> Tensor:
        """[B, L] bool, where the trunk is asked about every token."""
        real = batch.document != PADDING
        if self.score_special:
            return real
        special = torch.from_numpy(self.vocabulary.special).to(real.device)
        return real & (~special[batch.tokens] | (batch.targets >= 0))


class Judge(nn.Module):
    """One number for each token, positive for a replaced one."""

    def __init__(self, width: int):
        super().__init__()
        self.dense, self.score = nn.Linear(width, width), nn.Linear(width, 1)
        self.score.is_head = True  # type: ignore[assignment]  # a row, no matrix: optimizers treat it like an embedding

    def forward(self, hidden: Tensor) -> Tensor:
        """[B, L, D] -> [B, L] float32"""
        return self.score(F.gelu(self.dense(hidden)))[..., 0].float()


def smaller(model: Transformer, width: float, depth: float) -> Stack:
    """A stack with shares of the trunk's width (whole heads) and depth."""
    head_width = model.width // model.shape["heads"]
    heads = max(1, round(model.shape["heads"] * width))
    groups = model.shape["heads"] // model.shape["kv_heads"]
    return Stack(
        width=heads * head_width,
        depth=max(1, round(model.depth * depth)),
        heads=heads,
        kv_heads=heads // groups if heads % groups == 0 else heads,
        mlp=max(8, round(model.shape["mlp"] * heads / model.shape["heads"])),
        rope_base=model.rope_base,
        dropout=model.dropout,
        attention=model.backend,
    )


@torch.no_grad()
def sample(hidden: Tensor, table: Tensor, luck: Tensor, temperature: float) -> Tensor:
    """[N] tokens by the inverse of the cumulative distribution of softmax(hidden @ table.T / temperature), in float32."""
    if hidden.device.type == "meta":  # where FLOPs are counted: sampling repeats a product and is none of the model's
        return torch.zeros(len(hidden), dtype=torch.long, device="meta")
    rows = max(64, CHUNK // len(table))
    table = table.to(hidden.dtype)
    found = []
    for part, number in zip(hidden.split(rows), luck.split(rows), strict=True):
        edges = ((part @ table.T).float() / temperature).softmax(-1).cumsum(-1)
        found.append(torch.searchsorted(edges, number[:, None].float() * edges[:, -1:])[:, 0])
    return torch.cat(found).clamp(max=len(table) - 1) if found else luck.long()

"""The training loop, the same for every objective: a generator that yields after each optimizer step.

Losses are sums; what they are divided by is counted over all micro-batches and ranks before the first of them runs. So a step
does not depend on how it is cut up. What follows a step (logging, evaluation, checkpoints) is up to the caller.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from lmx.data.loader import Loader, Micro
from lmx.data.noise import torch_seed
from lmx.errors import LmxError, NonFinite
from lmx.optim.optimizer import Optimizer
from lmx.train import distributed
from lmx.train.budget import Budget, Cost, Ledger
from lmx.train.device import autocast, can_compile
from lmx.train.flops import Flops
from lmx.train.learner import Learner
from lmx.train.sharding import is_sharded
from lmx.train.tree import Tree

COMPILING_REPAYS = 60.0  # seconds of training
TYPICAL_FLOPS = 3e11  # a second, of a small model on a few cores, for the rule above


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step did. Losses are means over the step, in nats; None where the step had no target."""

    number: int
    losses: dict[str, float | None]
    loss: float | None  # what was minimised: the weighted sum
    grad_norm: float
    lr: float
    seconds: float
    applied: bool
    branches: bool = False  # the last one at the full rate: where other budgets can branch off
    last: bool = False  # the budget is spent


class Trainer:
    """Objectives, data and budgets meet here, and it knows none of them by name."""

    RULES = {
        "batch_tokens % length == 0": "trainer.batch_tokens must be a multiple of length",
        "determinism is None or parallel == 'ddp'": "trainer.determinism=strict must go with trainer.parallel=ddp: fsdp adds "
        "gradients up in an order of its own",
        "parallel == 'fsdp' or gather == 'fp32' and not offload": "trainer.gather and trainer.offload must go with "
        "trainer.parallel=fsdp",
        "gather == 'fp32' or precision == 'bf16'": "trainer.gather=bf16 must go with trainer.precision=bf16",
    }

    def __init__(
        self,
        learner: Learner,
        optimizer: Optimizer,
        budget: Budget,
        flops: Flops,
        loader: Loader,
        device: torch.device,
        seed: int,
        *,
        batch_tokens: Annotated[int, Interval(ge=1, le=2**30)],
        micro_batch: Annotated[int, Interval(ge=1, le=2**20)] | None,
        precision: Literal["auto", "fp32", "bf16"],
        compile: bool | Literal["auto"],
        clip: Annotated[float, Gt(0)],
        skip_limit: Annotated[int, Ge(0)],
        log_every: Annotated[int, Ge(1)],
        checkpoint_every: Annotated[int, Ge(1)],
        keep: Annotated[int, Interval(ge=2, le=1000)],
        determinism: Literal["strict"] | None,
        parallel: Literal["ddp", "fsdp"],
        gather: Literal["fp32", "bf16"],
        offload: bool,
        recompute: bool,
    ):
        self.learner, self.optimizer, self.budget, self.flops, self.loader = learner, optimizer, budget, flops, loader
        self.device, self.seed, self.precision, self.clip = device, seed, precision, clip
        self.batch_tokens, self.micro_batch, self.compile = batch_tokens, micro_batch, compile
        self.skip_limit, self.log_every = skip_limit, log_every
        self.checkpoint_every, self.keep = checkpoint_every, keep
        self.determinism, self.recompute = determinism, recompute
        self.sharded = parallel == "fsdp" and distributed.world_size() > 1
        self.ledger, self.skipped_in_a_row = Ledger(), 0
        self.branching_step: int | None = None  # the last step of the stable phase: its checkpoint is kept
        self.compiled = self.repays_compiling() if compile == "auto" else compile

    def repays_compiling(self) -> bool:
        """Whether the training ahead is long enough. A rule of thumb about the config, not a measurement: a resumed run must
        come to the same answer, in strict determinism on any number of ranks."""
        if self.determinism or not can_compile(self.device):
            return False
        micros = self.loader(1, 0.0)
        steps = self.budget.amount / max(self.budget.price(Ledger(step=1, seconds=1.0), self.cost(micros)), 1e-9)
        flops = sum(self.price(micro).flops for micro in micros)
        seconds = self.budget.amount if self.budget.currency == "seconds" else steps * flops / TYPICAL_FLOPS
        return seconds > COMPILING_REPAYS

    def warm_up(self) -> None:
        """Compile what declares that it `compiles`, and let the cost of starting fall before the clock runs.

        Weights stay as they are. Where compiled code makes gradients that are not finite, as that of torch 2.13 does with bf16 on
        some CPUs, `compiled` is false afterwards.
        """
        modules = [one for one in self.learner.modules() if getattr(one, "compiles", False)] if self.compiled else []
        for module in modules:
            module.compile()
        self.learner.train()
        micro = self.loader(self.ledger.step + 1, self.budget.share(self.ledger))[0]
        self.backward(micro, dict.fromkeys(self.learner.objective.weights, 1))
        norm = self.gradient_norm()
        if modules and distributed.total([not math.isfinite(norm)], self.device)[0]:
            self.compiled = False
            for module in modules:
                module._compiled_call_impl = None
        self.optimizer.zero_grad()

    def run(self) -> Iterator[Step]:
        """Train from where the ledger stands until the budget is spent; resumable after any step."""
        self.learner.train()
        micros, cost = self.upcoming()
        if self.ledger.step == 0 and self.budget.exhausted(self.ledger, cost):
            price = self.budget.price(self.ledger, cost)
            raise LmxError(
                f"budget.{self.budget.currency} must pay for at least half a step, which takes {price:.0f}, got "
                f"{self.budget.amount:.0f}. Raise it, or lower trainer.batch_tokens."
            )
        while not self.budget.exhausted(self.ledger, cost):
            progress = self.budget.progress(self.ledger, cost)
            start = time.perf_counter()
            step = self.step(micros, progress, start)
            self.account(cost, step)
            micros, cost = self.upcoming()
            branches = self.stable_phase_ends(cost)
            self.branching_step = self.ledger.step if branches else self.branching_step
            yield replace(step, branches=branches, last=self.budget.exhausted(self.ledger, cost))

    def stable_phase_ends(self, cost: Cost) -> bool:
        """Whether the rate begins to decay with the next step: the place to branch from, for any other budget."""
        after = (self.budget.spent(self.ledger) + self.budget.price(self.ledger, cost)) / self.budget.total
        return self.budget.progress(self.ledger) <= self.optimizer.schedule.stable_until < after

    def upcoming(self) -> tuple[Sequence[Micro], Cost]:
        """The next step's micro-batches and what it will spend."""
        micros = self.loader(self.ledger.step + 1, self.budget.share(self.ledger))
        cost = self.cost(micros)
        self.loader.prepare(self.ledger.step + 2, self.budget.share(self.ledger, cost))
        return micros, cost

    def cost(self, micros: Sequence[Micro]) -> Cost:
        """What the step spends, over all ranks."""
        own = sum((self.price(micro) for micro in micros), Cost())
        return Cost(*distributed.total(own.row(), self.device))

    def price(self, micro: Micro) -> Cost:
        batch = micro.batch
        return Cost(micro.tokens, batch.num_positions, int(batch.num_targets), self.flops(batch))

    def step(self, micros: Sequence[Micro], progress: float, start: float) -> Step:
        """One forward and backward over every micro-batch, one update."""
        objective = self.learner.objective
        terms = list(objective.weights)
        own = [sum(int(objective.counts(micro.batch)[term]) for micro in micros) for term in terms]
        counts = dict(zip(terms, distributed.total(own, self.device), strict=True))
        sums = self.folded(micros, counts) if self.determinism else self.summed(micros, counts)
        losses = {
            term: value / counts[term] if counts[term] else None
            for term, value in zip(terms, sums.tolist(), strict=True)
        }
        norm = self.gradient_norm()
        applied = math.isfinite(norm) and all(value is None or math.isfinite(value) for value in losses.values())
        lr = self.optimizer.step(progress) if applied else 0.0
        self.optimizer.zero_grad()
        self.check(applied, losses, norm, micros)
        loss = sum(objective.weights[term] * value for term, value in losses.items() if value is not None)
        return Step(
            number=self.ledger.step + 1, losses=losses, loss=loss, grad_norm=norm, lr=lr, applied=applied,
            seconds=distributed.slowest(time.perf_counter() - start, self.device),
        )  # fmt: skip

    def summed(self, micros: Sequence[Micro], counts: dict[str, int]) -> Tensor:
        """Gradients of the step's mean loss, over all micro-batches and ranks; -> the sums of its terms [T]."""
        sums = torch.zeros(len(counts), device=self.device)
        for micro in micros:
            sums += self.backward(micro, counts)
        distributed.add([sums])
        slopes = [parameter.grad for parameter in self.learner.parameters() if parameter.grad is not None]
        distributed.add([slope for slope in slopes if not is_sharded(slope)])  # the others are summed already
        return sums

    def folded(self, micros: Sequence[Micro], counts: dict[str, int]) -> Tensor:
        """The same with bits that do not depend on ranks: micro-batches of one size, added up as pairs of pairs."""
        parameters = [parameter for parameter in self.learner.parameters() if parameter.requires_grad]
        tree, asked = Tree(distributed.rank() * len(micros)), [0] * len(parameters)
        for micro in micros:
            sums = self.backward(micro, counts)
            slopes = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
            asked = [number + (one.grad is not None) for number, one in zip(asked, parameters, strict=True)]
            tree.add([sums, *slopes])
            self.learner.zero_grad(set_to_none=True)
        sums, *slopes = tree.total()
        for one, slope, number in zip(parameters, slopes, distributed.total(asked, self.device), strict=True):
            one.grad = slope if number else None
        return sums

    def backward(self, micro: Micro, counts: dict[str, int]) -> Tensor:
        """Gradients of one micro-batch's share of the step's mean loss; -> the sums of its terms [T]."""
        torch.manual_seed(torch_seed(self.seed, "dropout", micro.first))
        batch = micro.batch.to(self.device)
        with autocast(self.device, self.precision):
            losses = self.learner(batch)
        weights = self.learner.objective.weights
        shares = [weights[term] * value / max(counts[term], 1) for term, value in losses.items() if weights[term]]
        torch.stack(shares).sum().backward()
        return torch.stack([losses[term].detach() for term in counts])

    def gradient_norm(self) -> float:
        """Clip gradients to `clip`; -> the norm before."""
        norm = nn.utils.clip_grad_norm_(self.learner.parameters(), self.clip)
        return float(norm.full_tensor() if is_sharded(norm) else norm)  # type: ignore[attr-defined]

    def check(self, applied: bool, losses: dict[str, float | None], norm: float, micros: Sequence[Micro]) -> None:
        """Count steps that were not finite, and stop after too many in a row."""
        self.skipped_in_a_row = 0 if applied else self.skipped_in_a_row + 1
        if self.skipped_in_a_row <= self.skip_limit:
            return
        bad = [term for term, value in losses.items() if value is not None and not math.isfinite(value)]
        term = f"term {', '.join(bad)}" if bad else f"the gradient (norm {norm})"
        last = micros[-1].first + micros[-1].samples - 1
        raise NonFinite(
            f"step {self.ledger.step + 1}: {term} is not finite, {self.skipped_in_a_row} steps in a row "
            f"(samples {micros[0].first}-{last}); weights were left as they were before. "
            "Try a lower optim.lr or trainer.precision=fp32."
        )

    def account(self, cost: Cost, step: Step) -> None:
        ledger = self.ledger
        ledger.step += 1
        ledger.tokens += cost.tokens
        ledger.positions += cost.positions
        ledger.targets += cost.targets
        ledger.flops += cost.flops
        ledger.seconds += step.seconds
        ledger.skipped += not step.applied
        self.budget.freeze(ledger)

    def state(self) -> dict:
        """What resuming needs besides weights and moments."""
        return {
            "ledger": self.ledger.state(),
            "skipped_in_a_row": self.skipped_in_a_row,
            "branching_step": self.branching_step,
            "frozen_steps": self.budget.frozen_steps,
        }

    def load(self, state: dict) -> None:
        self.ledger = Ledger(**state["ledger"])
        self.skipped_in_a_row, self.branching_step = state["skipped_in_a_row"], state["branching_step"]
        self.budget.frozen_steps = state["frozen_steps"]

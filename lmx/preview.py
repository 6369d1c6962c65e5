"""What a run would take: `python -m lmx.preview` reads a config as JSON, makes one real step and prints JSON.

It is a process of its own because the command line does not import torch.
"""

import json
import resource
import sys
from collections.abc import Mapping
from typing import Any

import torch

from lmx.errors import LmxError
from lmx.experiment import assemble
from lmx.train import device
from lmx.train.trainer import Trainer


def cost(config: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters, FLOPs, steps, memory and time, from one real step (and one before it to warm up)."""
    place = device.pick(config["device"])
    parts = assemble(config, place, quiet)
    trainer, model = parts.trainer, parts.learner.model
    trainer.compiled = False  # compiling would take longer than the answer is worth
    trainer.warm_up()
    price = trainer.cost(trainer.loader(1, 0.0))
    step = next(trainer.run())
    steps = estimate_steps(trainer, price.row(), step.seconds)
    parameters = sum(parameter.numel() for parameter in parts.learner.parameters())
    return {
        "objective": config["objective"]["_target_"].rpartition(".")[2],
        "parameters": parameters,
        "parameters_without_embeddings": sum(p.numel() for p in model.parameters()) - model.embedding.weight.numel(),
        "vocabulary": parts.corpus.vocabulary.size,
        "train_tokens": parts.corpus.train.num_tokens,
        "flops_per_token": price.flops / price.tokens,
        "steps": steps,
        "tokens": steps * price.tokens,
        "flops": steps * price.flops,
        "epochs": steps * price.tokens / parts.corpus.train.num_tokens,
        "memory_bytes": memory(place),
        "step_seconds": step.seconds,
        "seconds": steps * step.seconds,
        "loss": step.loss,
        "precision": "bf16" if device.uses_bf16(place, trainer.precision) else "fp32",
        "threads": torch.get_num_threads(),
        "device": str(place),
    }


def estimate_steps(trainer: Trainer, price: list[int], seconds: float) -> int:
    """How many steps the budget allows, if all are like this one."""
    each = dict(zip(("tokens", "positions", "targets", "flops"), price, strict=True)) | {"seconds": seconds, "steps": 1}
    return max(1, round(trainer.budget.amount / max(each[trainer.budget.currency], 1e-9)))


def memory(place: torch.device) -> int:
    """The most this process held, in bytes."""
    if place.type == "cuda":
        return torch.cuda.max_memory_allocated(place)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def quiet(phase: str, share: float | None = None) -> None:
    """Preparation takes seconds at most once; the command line shows that it waits."""


def main() -> int:
    try:
        print(json.dumps(cost(json.load(sys.stdin))))
    except LmxError as error:
        print(f"lmx: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

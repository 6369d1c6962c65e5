"""What a run would take: `python -m lmx.preview` reads a config as JSON, makes a few real steps and prints JSON.

It is a process of its own because the command line does not import torch.
"""

import json
import os
import resource
import sys
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch

from lmx.build import build
from lmx.data.corpus import prepare
from lmx.errors import LmxError
from lmx.experiment import assemble
from lmx.train import device
from lmx.train.budget import Cost
from lmx.train.trainer import Step, Trainer

STEPS, ENOUGH = 8, 5.0  # how many steps are timed, or for how many seconds


def cost(config: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters, FLOPs, steps, memory and time, from a few real steps of one process with its share of the batch."""
    place, processes = device.pick(config["device"]), processes_of(config)
    parts = assemble(shared(config, processes), place, quiet)
    trainer, model = parts.trainer, parts.learner.model
    trainer.compiled = False  # compiling would take longer than the answer is worth
    trainer.warm_up()
    price = trainer.cost(trainer.loader(1, 0.0))
    price = Cost(*(processes * number for number in price.row()))
    made = few(trainer)
    first, seconds = made[0], median(step.seconds for step in made[1:] or made)
    steps = estimate_steps(trainer, price.row(), seconds)
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
        "processes": processes,
        "step_seconds": seconds,
        "seconds": steps * seconds,
        "loss": first.loss,
        "precision": "bf16" if device.uses_bf16(place, trainer.precision) else "fp32",
        "threads": torch.get_num_threads(),
        "device": str(place),
    }


def processes_of(config: Mapping[str, Any]) -> int:
    launcher = config["launcher"]
    return launcher.get("processes", 1) * launcher.get("nodes", 1)


def shared(config: Mapping[str, Any], processes: int) -> dict[str, Any]:
    """The config of one process that has its share of the batch to itself; the others are taken to be as fast."""
    whole, share = config["trainer"], config["length"] * processes
    if whole["batch_tokens"] % share:
        raise LmxError(
            f"trainer.batch_tokens must be a multiple of length x processes, {share}, got {whole['batch_tokens']}."
        )
    return dict(config) | {"trainer": dict(whole) | {"batch_tokens": whole["batch_tokens"] // processes}}


def few(trainer: Trainer) -> list[Step]:
    """The first steps, up to STEPS of them or for about ENOUGH seconds: at least two, if the budget has two."""
    made: list[Step] = []
    for step in trainer.run():
        made.append(step)
        if len(made) >= STEPS or (len(made) > 1 and sum(one.seconds for one in made) > ENOUGH):
            break
    return made


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


def read_corpus(config: Mapping[str, Any]) -> int:
    """Fill the cache in a process of its own, as its memory is not that of training; -> its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(said(lambda: prepare(build(config["data"]), build(config["tokenizer"]), quiet)))


def said(work: Callable[[], Any]) -> int:
    """-> an exit code; what the user can mend is one line"""
    try:
        work()
    except LmxError as error:
        print(f"lmx: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


def main() -> int:
    config = json.load(sys.stdin)
    return read_corpus(config) or said(lambda: print(json.dumps(cost(config))))


if __name__ == "__main__":
    sys.exit(main())

"""One of several ranks: for every objective, what ranks with a few rows each come to, against one process with all rows.

    ddp      gradients of the ranks, summed                       to rounding, in float64
    fsdp     the same with parameters shared out                  to rounding, in float64
    strict   gradients of single rows, as pairs of pairs          every bit, in float32

torchrun --nproc-per-node 2 -m tests.dist.objectives        prints a line for each objective that differs
"""

import copy
import sys
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from lmx import config
from lmx.build import build
from lmx.data.noise import Keys
from lmx.data.tokenizer import Bytes
from lmx.train import distributed
from lmx.train.learner import Learner
from lmx.train.sharding import shard
from lmx.train.tree import Tree
from tests.conftest import corpus_of, texts

ROWS = 4
SMALL = [
    "model=nano",
    "model.width=32",
    "model.heads=2",
    "model.kv_heads=1",
    "model.mlp=48",
    "model.depth=2",
    "length=32",
]


def gradients(learner: Learner, samples, keys: Keys, counts: dict[str, int] | None) -> tuple[dict, dict[str, int]]:
    """The gradient of the step's mean loss by what these rows add to it, and what they count."""
    learner.zero_grad(set_to_none=True)
    batch = learner.objective.collate(samples, keys)
    own = {term: int(count) for term, count in learner.objective.counts(batch).items()}
    if counts is None:
        total = distributed.total(list(own.values()), torch.device("cpu"))
        counts = dict(zip(own, total, strict=True))
    losses = learner(batch)
    weights = learner.objective.weights
    sum(weights[term] * losses[term] / max(counts[term], 1) for term in losses if weights[term]).backward()
    return {name: p.grad for name, p in learner.named_parameters() if p.grad is not None}, own


def built(choice: str, vocabulary) -> Learner:
    node = config.load([f"objective={choice}", *SMALL])
    torch.manual_seed(0)
    model = build(node["model"], vocabulary_size=vocabulary.size)
    corpus = corpus_of(vocabulary)
    objective = build(node["objective"], length=32, model=model, vocabulary=vocabulary, corpus=corpus)
    learner = Learner(model, objective)
    for module in learner.modules():
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0  # its masks are drawn by micro-batch
    return learner


def folded(learner: Learner, samples, keys: Keys, counts: dict[str, int], part: slice) -> dict[str, Tensor]:
    """Gradients of rows one by one, over all ranks, as the trainer adds them up in strict determinism."""
    found = Tree(part.start)
    names = [name for name, parameter in learner.named_parameters() if parameter.requires_grad]
    for row in range(part.start, part.stop):
        own, _ = gradients(learner, samples[row : row + 1], replace(keys, sample=keys.sample[row : row + 1]), counts)
        zeros = {name: torch.zeros_like(parameter) for name, parameter in learner.named_parameters()}
        found.add([own.get(name, zeros[name]) for name in names])
    return dict(zip(names, found.total(), strict=True))


def one_process():
    """Or each rank would take the other's rows for more candidates."""
    return patch.object(dist, "is_initialized", return_value=False)


def differences(choice: str, vocabulary) -> dict[str, float]:
    """The largest difference relative to the largest gradient of its tensor, in each way."""
    single = built(choice, vocabulary)
    learner, objective = copy.deepcopy(single).double(), single.objective
    keys = Keys(seed=0, purpose="train", sample=np.arange(ROWS))
    samples = texts(vocabulary, ROWS, int(objective.raw_lengths(keys).max()) + objective.lookahead)
    share = ROWS // dist.get_world_size()
    part = slice(dist.get_rank() * share, (dist.get_rank() + 1) * share)
    counts = {term: int(count) for term, count in objective.counts(objective.collate(samples, keys)).items()}
    mine = samples[part], replace(keys, sample=keys.sample[part])
    with one_process():
        whole, _ = gradients(learner, samples, keys, counts)
    whole = {name: grad.clone() for name, grad in whole.items()}
    summed, _ = gradients(learner, *mine, None)
    distributed.add(list(summed.values()))
    shard(learner, torch.device("cpu"), gather="fp32", offload=False)
    shared, _ = gradients(learner, *mine, None)
    found = {"ddp": apart(whole, summed), "fsdp": apart(whole, {n: grad.full_tensor() for n, grad in shared.items()})}
    if not objective.indivisible:
        with one_process():
            alone = folded(single, samples, keys, counts, slice(0, ROWS))
        found["strict"] = 1e9 * apart(alone, folded(single, samples, keys, counts, part))
    return found


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    if set(one) != set(other):
        return float("inf")
    return max(float((one[n] - other[n]).abs().max() / one[n].abs().max().clamp(min=1e-9)) for n in one)


def main() -> int:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    dist.init_process_group("gloo")
    vocabulary = Bytes().train([], 0)
    wrong = []
    for choice in sys.argv[1:] or sorted(config.choices("objective")):
        for way, found in differences(choice, vocabulary).items():
            if not found < 1e-4:
                wrong.append(f"{choice} {way} {found:.2g}")
    if dist.get_rank() == 0:
        print("\n".join(["checked", *wrong]))
    dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""One of two ranks: for every objective, the gradients of half of the rows each, summed, against those of all rows at once.

torchrun --nproc-per-node 2 -m tests.dist.objectives        prints a line for each objective that differs
"""

import sys
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import torch
import torch.distributed as dist

from lmx import config
from lmx.build import build
from lmx.data.noise import Keys
from lmx.data.tokenizer import Bytes
from lmx.train import distributed
from lmx.train.learner import Learner
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


def difference(choice: str, vocabulary) -> float:
    """The largest difference relative to the largest gradient of its tensor."""
    node = config.load([f"objective={choice}", *SMALL])
    torch.manual_seed(0)
    model = build(node["model"], vocabulary_size=vocabulary.size)
    corpus = corpus_of(vocabulary)
    objective = build(node["objective"], length=32, model=model, vocabulary=vocabulary, corpus=corpus)
    learner = Learner(model, objective).double()
    for module in learner.modules():
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0  # its masks are drawn by micro-batch
    keys = Keys(seed=0, purpose="train", sample=np.arange(ROWS))
    size = int(objective.raw_lengths(keys).max()) + objective.lookahead
    samples = texts(vocabulary, ROWS, size)
    half = slice(dist.get_rank() * ROWS // 2, (dist.get_rank() + 1) * ROWS // 2)
    parts, _ = gradients(learner, samples[half], replace(keys, sample=keys.sample[half]), None)
    parts = {name: grad.clone() for name, grad in parts.items()}
    distributed.add(list(parts.values()))
    batch_counts = {term: int(count) for term, count in objective.counts(objective.collate(samples, keys)).items()}
    with patch.object(
        dist, "is_initialized", return_value=False
    ):  # or each rank would take the other's rows for more candidates
        whole, _ = gradients(learner, samples, keys, batch_counts)
    if set(whole) != set(parts):
        return float("inf")
    return max(float((whole[n] - parts[n]).abs().max() / whole[n].abs().max().clamp(min=1e-9)) for n in whole)


def main() -> int:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    vocabulary = Bytes().train([], 0)
    wrong = []
    for choice in sorted(config.choices("objective")):
        found = difference(choice, vocabulary)
        if not found < 1e-4:
            wrong.append(f"{choice} {found:.2g}")
    if dist.get_rank() == 0:
        print("\n".join(["checked", *wrong]))
    dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())

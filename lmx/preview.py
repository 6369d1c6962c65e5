"""What a config means before it runs: `python -m lmx.preview example|cost CONFIG.yaml [TEXT_FILE]` prints one JSON object.

`example` poses one question and says what the model sees; `cost` makes one real step and says what the whole run takes.
It is a process of its own because the command line does not import torch.
"""

import json
import resource
import sys
from collections.abc import Mapping
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from lmx.batch import IGNORE, PADDING, Batch, visible
from lmx.build import build
from lmx.data.corpus import prepare
from lmx.data.packing import Sample
from lmx.data.tokenizer import Vocabulary
from lmx.errors import LmxError
from lmx.experiment import assemble, new_learner, stream
from lmx.train import device
from lmx.train.trainer import Trainer


def example(config: Mapping[str, Any], text: str | None) -> dict[str, Any]:
    """One row of a batch: every position's token, what is asked there, and who sees whom."""
    corpus = prepare(build(config["data"]), build(config["tokenizer"]), quiet)
    learner = new_learner(config, corpus)
    samples = stream(config, corpus, learner, "train")
    keys = samples.keys(0, 1)
    most = int(learner.objective.raw_lengths(keys)[0]) + learner.objective.lookahead
    sample = samples.read(0, 1)[0] if text is None else own(text, corpus.vocabulary, most)
    batch = learner.objective.collate([sample], keys)
    return {
        "objective": config["objective"]["_target_"].rpartition(".")[2],
        "length": config["length"],
        "vocabulary": corpus.vocabulary.size,
        "text": corpus.vocabulary.decode(sample.tokens),
        "rows": [row(batch, number, corpus.vocabulary, sample) for number in range(len(batch.tokens))],
        "counts": {term: int(count) for term, count in learner.objective.counts(batch).items()},
    }


def own(text: str, vocabulary: Vocabulary, most: int) -> Sample:
    """The user's text as one document, cut to what a sample holds."""
    tokens = np.append(vocabulary.encode(text), vocabulary.eos)[:most].astype(np.int64)
    return Sample(tokens=tokens, segment=np.zeros_like(tokens), documents=np.zeros(1, dtype=np.int64))


def row(batch: Batch, number: int, vocabulary: Vocabulary, sample: Sample) -> dict[str, Any]:
    real = int((batch.document[number] != PADDING).sum())
    fields = (batch.tokens, batch.targets, batch.document, batch.position, batch.order)
    columns = zip(*(field[number, :real].tolist() for field in fields), strict=True)
    kept = unchanged(sample.tokens.tolist(), batch.tokens[number, :real].tolist())
    tokens = [
        {
            "id": token,
            "piece": vocabulary.piece(token),
            "asked": target != IGNORE,
            "target": vocabulary.piece(target) if target != IGNORE else None,
            "special": bool(vocabulary.special[token]),
            "changed": place not in kept,
            "document": document,
            "position": position,
            "order": order,
        }
        for place, (token, target, document, position, order) in enumerate(columns)
    ]
    return {"tokens": tokens, "visible": visible(batch)[number, 0, :real, :real].int().tolist()}


def unchanged(text: list[int], shown: list[int]) -> set[int]:
    """The places of `shown` that are the text's own tokens, in the text's order."""
    blocks = SequenceMatcher(None, text, shown, autojunk=False).get_matching_blocks()
    return {place for block in blocks for place in range(block.b, block.b + block.size)}


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


def main(arguments: list[str]) -> int:
    what, path, *rest = arguments
    config: Any = OmegaConf.to_container(OmegaConf.load(path))
    try:
        text = Path(rest[0]).read_text(encoding="utf-8") if rest else None
        print(json.dumps(cost(config) if what == "cost" else example(config, text)))
    except LmxError as error:
        print(f"lmx: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What an objective does with a token of text, measured: `python -m lmx.ledger` reads a JSON list of configs and prints one.

Text tokens, positions of the model, predictions and model FLOPs of the same number of samples; a process of its own because the
command line does not import torch.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

from lmx.build import build
from lmx.data.corpus import Corpus, prepare
from lmx.errors import LmxError
from lmx.experiment import new_learner, stream
from lmx.train.flops import Flops

SAMPLES = 1024  # so many that random lengths, such as those of prefixes, come within 2 % of their means


def entry(config: Mapping[str, Any], corpus: Corpus, count: int = SAMPLES) -> dict[str, Any]:
    """Means a sample of `length`, over the first `count`."""
    learner = new_learner(config, corpus)
    samples = stream(config, corpus, learner, "train")
    batch = learner.objective.collate(samples.read(0, count), samples.keys(0, count))
    counts, weights = learner.objective.counts(batch), learner.objective.weights
    tokens = samples.consumed(0, count)
    return {
        "objective": config["choices"]["objective"],
        "tokens": tokens / count,
        "positions": batch.num_positions / count,
        "predictions": {term: int(counts[term]) / count for term, weight in weights.items() if weight and term != "z"},
        "flops_per_token": Flops(learner)(batch) / tokens,
        "parameters": sum(parameter.numel() for parameter in learner.parameters()),
    }


def quiet(phase: str, share: float | None = None) -> None:
    """The command line shows that it waits."""


def main() -> int:
    configs: list[Any] = json.load(sys.stdin)
    known: dict[str, Corpus] = {}
    entries = []
    try:
        for config in configs:
            key = json.dumps([config["data"], config["tokenizer"]], sort_keys=True)
            known[key] = known.get(key) or prepare(build(config["data"]), build(config["tokenizer"]), quiet)
            entries.append(entry(config, known[key]))
    except LmxError as error:
        print(f"lmx: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(entries))
    return 0


if __name__ == "__main__":
    sys.exit(main())

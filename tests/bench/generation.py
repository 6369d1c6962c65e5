"""How fast a run writes greedily: its cache against reading all again for each token, its own drafts, and transformers.

    python -m tests.bench.generation RUN [--tokens 96] [--rounds 5] [--threads 1]

Each round writes the same continuation once in every way, so that a busy machine slows all of them; printed are, as one line of
JSON, the ratios of seconds a token to those of the cache: least, median and most of the rounds. transformers' Llama has the run's
sizes and random weights: what it writes is another text of the same length. One token is too little work for several threads,
which wait for each other where others use the cores.
"""

import argparse
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lmx.evals.write import Sampler, speculate, write
from lmx.evals.yardstick import Subject
from lmx.generate import quiet
from lmx.nn.transformer import Transformer
from lmx.runs import Run
from lmx.trained import load, subject

PROMPT = 16  # tokens of held-out text


def again(model: Transformer, subject: Subject, prompt: np.ndarray, sampler: Sampler, tokens: int) -> list[int]:
    """Without a cache."""
    objective, text = subject.learner.objective, list(prompt)
    for _ in range(tokens):
        batch = objective.opening([np.array(text)]).batch
        with torch.no_grad():
            text += sampler(objective.logits(model, objective.hidden(model, batch)[:, -1]))
    return text[len(prompt) :]


def llama(model: Transformer, vocabulary: int, length: int) -> LlamaForCausalLM:
    block = model.blocks[0]
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary, hidden_size=model.width, num_hidden_layers=len(model.blocks),
            intermediate_size=block.mlp_down.in_features, num_attention_heads=block.heads,
            num_key_value_heads=block.kv_heads, max_position_embeddings=length,
        )
    ).eval()  # fmt: skip


def ways(found: Subject, tokens: int) -> dict[str, Callable[[], int]]:
    """name -> writes, and tells how many tokens; no end is ever allowed, so that all write as much."""
    objective, model, vocabulary = found.learner.objective, found.learner.model, found.corpus.vocabulary
    prompt = np.asarray(found.corpus.validation.tokens[:PROMPT], dtype=np.int64)
    sampler = Sampler(
        special=torch.from_numpy(vocabulary.special), temperature=0, top_k=None, top_p=1, generator=torch.Generator()
    )
    opening = objective.opening([prompt])
    opening.gaps[0] = type(opening.gaps[0])(first=None, stops=frozenset())
    other = llama(model, vocabulary.size, found.length)
    asked = torch.from_numpy(prompt)[None]
    plain = {"min_new_tokens": tokens, "max_new_tokens": tokens, "do_sample": False, "pad_token_id": 0}
    made: dict[str, Callable[[], int]] = {
        "cache": lambda: len(write(objective, model, opening, sampler, tokens, found.length).gaps[0]),
        "recomputation": lambda: len(again(model, found, prompt, sampler, tokens)),
        "transformers": lambda: other.generate(asked, **plain).shape[1] - PROMPT,
    }
    if hasattr(objective, "drafts"):
        read = np.append(vocabulary.eos, prompt)
        made["drafts"] = lambda: len(speculate(objective, model, read, [], sampler, tokens, found.length)[0])
    return made


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    known = parser.parse_args()
    torch.set_num_threads(known.threads)
    run = Run.open(known.run)
    made = ways(subject(run, load(run, None), quiet), known.tokens)
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(known.rounds + 1):  # the first warms up
        for name, way in made.items():
            began = time.perf_counter()
            written = way()
            if turn:
                seconds[name].append((time.perf_counter() - began) / written)
    told: dict[str, Any] = {name: run.config()["choices"][name] for name in ("objective", "model")}
    told |= vars(known) | {"run": run.name, "milliseconds_a_token": round(1e3 * median(seconds["cache"]), 2)}
    for name in list(made)[1:]:
        ratios = sorted(one / cache for one, cache in zip(seconds[name], seconds["cache"], strict=True))
        told[f"{name} / cache"] = [round(ratio, 2) for ratio in (ratios[0], median(ratios), ratios[-1])]
    print(json.dumps(told))


if __name__ == "__main__":
    main()

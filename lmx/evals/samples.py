"""Sample texts, to see what a model has learned: the first words of held-out documents, continued by top-k sampling, seeded."""

from dataclasses import replace

import numpy as np
import torch

from lmx.data.corpus import Corpus
from lmx.data.noise import torch_seed
from lmx.errors import LmxError
from lmx.evals.write import Sampler, write
from lmx.objectives.objective import Prediction
from lmx.train.learner import Learner

TEMPERATURE, TOP_K = 0.8, 40
PROMPT_TOKENS = 8


def continuation(
    learner: Learner, corpus: Corpus, prompt: np.ndarray, tokens: int, length: int, seed: int
) -> tuple[list[int], int]:
    """Up to `tokens` tokens after a prompt [n], through ends of documents, and the number of forwards.

    Raises LmxError for an objective that does not continue texts.
    """
    objective = learner.objective
    if not isinstance(objective, Prediction):
        raise LmxError(f"{type(objective).__name__} does not write text.")
    opening = objective.opening([prompt])
    sampler = Sampler(
        special=torch.from_numpy(corpus.vocabulary.special),
        temperature=TEMPERATURE,
        top_k=TOP_K,
        top_p=1.0,
        generator=torch.Generator().manual_seed(torch_seed(seed, "generate")),
    )
    endless = replace(opening, gaps=[replace(gap, stops=frozenset()) for gap in opening.gaps])
    done = write(objective, learner.model, endless, sampler, tokens, length)
    return done.gaps[0], done.forwards


def samples(
    learner: Learner, corpus: Corpus, *, number: int, tokens: int, length: int, seed: int
) -> list[dict[str, str]]:
    """`number` continuations, each of `tokens` tokens; none where the objective does not continue texts."""
    documents = [corpus.validation[index] for index in range(min(number, len(corpus.validation)))]
    found = []
    learner.eval()
    for index, document in enumerate(documents):
        prompt = np.asarray(document[:PROMPT_TOKENS], dtype=np.int64)
        try:
            written, _ = continuation(learner, corpus, prompt, tokens, length, seed + index)
        except LmxError:
            break
        found.append({"prompt": corpus.vocabulary.decode(prompt), "text": corpus.vocabulary.decode(written)})
    learner.train()
    return found

"""Sample texts, to see what a model has learned: top-k sampling with a temperature (Fan et al. 2018), seeded."""

import numpy as np
import torch
from torch import Tensor

from lmx.batch import IGNORE, Batch
from lmx.data.corpus import Corpus
from lmx.data.noise import torch_seed
from lmx.objectives.objective import stack
from lmx.train.device import autocast
from lmx.train.learner import Learner

TEMPERATURE, TOP_K = 0.8, 40
PROMPT_TOKENS = 8


@torch.no_grad()
def samples(
    learner: Learner,
    corpus: Corpus,
    device: torch.device,
    precision: str,
    *,
    number: int,
    tokens: int,
    length: int,
    seed: int,
) -> list[dict[str, str]]:
    """`number` continuations of the first words of validation documents, each of `tokens` tokens."""
    objective, vocabulary = learner.objective, corpus.vocabulary
    if not objective.generates or number == 0:
        return []
    documents = [corpus.validation[index][:PROMPT_TOKENS] for index in range(min(number, len(corpus.validation)))]
    text = np.stack([document for document in documents if len(document) == PROMPT_TOKENS]).astype(np.int64)
    generator = torch.Generator(device="cpu").manual_seed(torch_seed(seed, "generate"))
    learner.eval()
    for _ in range(tokens):
        with autocast(device, precision):
            logits = objective.next_logits(learner.model, context(text[:, -length:]).to(device))
        following = draw(logits.cpu(), torch.from_numpy(vocabulary.special), generator)
        text = np.concatenate([text, following.numpy()], axis=1)
    learner.train()
    return [
        {"prompt": vocabulary.decode(row[:PROMPT_TOKENS]), "text": vocabulary.decode(row[PROMPT_TOKENS:])}
        for row in text
    ]


def context(text: np.ndarray) -> Batch:
    """The batch that reads `text` [B, n] from left to right and is asked nothing."""
    length = text.shape[1]
    empty = np.full(length, IGNORE)
    return stack([{"tokens": row, "targets": empty, "order": np.arange(length)} for row in text], length)


def draw(logits: Tensor, special: Tensor, generator: torch.Generator) -> Tensor:
    """[B, 1] tokens from logits [B, V]; special tokens are never drawn."""
    logits = logits.masked_fill(special, -torch.inf) / TEMPERATURE
    best, index = logits.topk(min(TOP_K, logits.shape[1]))
    choice = torch.multinomial(best.softmax(-1), 1, generator=generator)
    return index.gather(1, choice)

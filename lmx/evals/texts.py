"""What models are asked about: passages of held-out documents, and tokens for texts that are made up."""

import numpy as np

from lmx.evals.yardstick import Subject

SPECIAL = 8  # positions that an objective may add to a text
RAREST, COMMONEST = 0.3, 0.9  # ranks by frequency, as shares, between which made-up texts take their tokens


def longest(subject: Subject) -> int:
    """Tokens of a text that the model was trained to read at once, whatever its objective adds."""
    return subject.length - SPECIAL


def passages(subject: Subject, number: int, tokens: int) -> list[np.ndarray]:
    """At most `number` stretches [tokens] of the validation split, evenly spread, each within one document."""
    documents, size = subject.corpus.validation, min(tokens, longest(subject))
    starts = [
        (document, start)
        for document in range(len(documents))
        for start in range(0, len(documents[document]) - size, size)
    ]
    chosen = np.linspace(0, len(starts) - 1, min(number, len(starts))).round().astype(int)
    return [
        np.asarray(documents[document][start : start + size], dtype=np.int64)
        for document, start in (starts[place] for place in chosen)
    ]


def symbols(subject: Subject) -> np.ndarray:
    """[n] tokens that are neither very common nor very rare in training, after Olsson et al. 2022: rare ones are not known."""
    vocabulary = subject.corpus.vocabulary
    counts = np.bincount(subject.corpus.train.tokens, minlength=vocabulary.size)[vocabulary.ordinary]
    order = vocabulary.ordinary[np.argsort(counts, kind="stable")]
    return order[int(RAREST * len(order)) : int(COMMONEST * len(order))]

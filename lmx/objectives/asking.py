"""Questions about given texts, in batches of one text a row: what scores a text, fills a gap or continues a prompt.

text          11 12 13 14
left to right, 1 given, after end of text 1         hidden: 12 and 13
tokens        1 11 12 13                            11  4  4 14
targets       . 12 13 14                             . 12 13  .
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from lmx.batch import IGNORE, Batch
from lmx.objectives.objective import stack


def left_to_right(texts: Sequence[np.ndarray], contexts: Sequence[int], begin: int) -> Batch:
    """Every token but the first `contexts` of each text is asked; `begin` stands before them."""
    rows = []
    for text, given in zip(texts, contexts, strict=True):
        place = np.arange(len(text))
        targets = np.where(place >= given, text, IGNORE)
        rows.append({"tokens": np.append(begin, text[:-1]), "targets": targets, "order": place})
    return stack(rows, max(map(len, texts)))


def masked(texts: Sequence[np.ndarray], hidden: Sequence[np.ndarray], mask: int) -> Batch:
    """The hidden tokens [n] bool of each text are asked, from both sides."""
    rows = [
        {"tokens": np.where(hide, mask, text), "targets": np.where(hide, text, IGNORE), "order": np.zeros_like(text)}
        for text, hide in zip(texts, hidden, strict=True)
    ]
    return stack(rows, max(map(len, texts)))


def only(batch: Batch, asked: Sequence[np.ndarray]) -> Batch:
    """Of each row's targets, in their order, those that are `asked` [n] bool."""
    targets = batch.targets.clone()
    for row, keep in zip(targets, asked, strict=True):
        places = (row != IGNORE).nonzero()[:, 0]
        row[places[torch.from_numpy(~keep)]] = IGNORE
    return replace(batch, targets=targets)

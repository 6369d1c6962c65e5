"""How an objective is asked to write: a row to read first, and gaps to write one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass

from lmx.batch import Batch


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Tokens are written from left to right until one of `stops`, which is not part of them."""

    first: int | None  # the token that is read before them; None: the last one of what is read
    stops: frozenset[int]
    position: int | None = None  # of all of its tokens (GLM); None: each one after the one before


@dataclass(frozen=True, kw_only=True)
class Opening:
    """`batch` has one row: in the encoder-decoder layout the source, with what the decoder reads first."""

    batch: Batch
    gaps: Sequence[Gap]
    whole: bool = False  # what is written is the whole text again, with its gaps filled (BART)
    answers: bool = False  # what is written is another one's turn (SFT)

"""Fill in the middle: predict a text's middle after what stands on both sides of it (Bavarian et al. 2022, arXiv:2207.14255).

With the prefix 10 11, the middle 12, the suffix 13 14, and [FIM_PREFIX] 2, [FIM_SUFFIX] 3, [FIM_MIDDLE] 4, end of text 1:

    text      10 11 12 13 14
    tokens     2 10 11  3 13 14  4 12  1        prefix, suffix, middle (PSM)
    targets   10 11  3 13 14  4 12  1  .        loss=all
    targets    .  .  .  .  .  . 12  1  .        loss=middle
    tokens     2  3 13 14  4 10 11 12  1        suffix, prefix, middle (SPM, the paper's variant 2)
    targets    3 13 14  4 10 11 12  1  .        loss=all
    targets    .  .  .  .  .  . 12  1  .        loss=middle

Texts are cut after they were cut to the sample, the paper's context level, so that a middle always has both of its sides; and
between characters, as a cursor may stand inside of a token. A text that is not transformed is asked as in clm.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Interval

from lmx.batch import IGNORE, PADDING, Batch, Details
from lmx.data.noise import Keys
from lmx.data.packing import Sample
from lmx.data.tokenizer import Vocabulary
from lmx.errors import LmxError
from lmx.nn.transformer import Transformer
from lmx.objectives.clm import Causal
from lmx.objectives.objective import continued, each_document, stack
from lmx.objectives.writing import Opening

Share = Annotated[float, Interval(ge=0, le=1)]
Parts = tuple[np.ndarray, np.ndarray, np.ndarray]  # prefix, middle, suffix; each may be empty
Row = tuple[np.ndarray, np.ndarray]  # tokens and targets of one text
ADDED = 4  # three special tokens and EOS
SLACK = {"token": 0, "character": 4}  # tokens by which a text usually grows where it is cut


class FIM(Causal):
    def __init__(
        self,
        *,
        length: int,
        model: Transformer,
        vocabulary: Vocabulary,
        rate: Share,
        spm: Share,
        level: Literal["character", "token"],
        loss: Literal["all", "middle"],
        z_loss: Annotated[float, Ge(0)],
    ):
        super().__init__(model=model, vocabulary=vocabulary, z_loss=z_loss)
        self.length, self.rate, self.spm, self.level, self.loss = length, rate, spm, level, loss
        self.raw_length = max(length - ADDED - SLACK[level], 2)

    def raw_lengths(self, keys: Keys) -> np.ndarray:
        return np.full(len(keys), self.raw_length)

    def collate(self, samples: Sequence[Sample], keys: Keys) -> Batch:
        return stack(
            [side_by_side(self.texts(sample, keys, number)) for number, sample in enumerate(samples)], self.length
        )

    def texts(self, sample: Sample, keys: Keys, number: int) -> list[Row]:
        """One for each document that fits; of the last one as much as does."""
        sample = apart(sample, self.vocabulary.eos)
        whole = np.bincount(sample.segment)
        ended = np.zeros(len(whole), dtype=bool)
        ended[sample.segment[sample.tokens == self.vocabulary.eos]] = True

        def pose(text: np.ndarray, document: int) -> Row:
            end = bool(ended[document]) and len(text) + 1 == whole[document]
            return self.pose(text, end, keys.generator(number, f"document {document}"))

        return each_document(sample, self.vocabulary.eos, pose, self.overflow)

    def overflow(self, rows: Sequence[Row]) -> int:
        """How many positions too many they take."""
        return sum(len(tokens) for tokens, _ in rows) - self.length

    def pose(self, text: np.ndarray, end: bool, rng: np.random.Generator) -> Row:
        """A text [n] transformed, or as it is; whether that one has an `end` depends on where the sample was cut."""
        parts = self.split(text, rng) if rng.random() < self.rate else None
        if parts is None:
            tokens = np.append(text, self.vocabulary.eos) if end else text
            return tokens, np.append(tokens[1:], IGNORE)
        tokens = self.arrange(parts, bool(rng.random() < self.spm))
        targets = np.append(tokens[1:], IGNORE)
        if self.loss == "middle":
            targets[: -len(parts[1]) - 2] = IGNORE
        return tokens, targets

    def details(self, batch: Batch) -> Details:
        """How many texts of each row are cut in three."""
        cut = (batch.tokens == self.vocabulary.fim_middle).sum(1).tolist()
        texts = [len(row[row != PADDING].unique()) for row in batch.document]
        shares = [f"{here} of {all_} here" for here, all_ in zip(cut, texts, strict=True)]
        return Details(
            facts=[f"texts cut in three: {share}, {self.rate:g} of all (objective.rate)" for share in shares]
        )

    def arrange(self, parts: Parts, spm: bool) -> np.ndarray:
        """The parts with their special tokens, the middle last."""
        prefix, middle, suffix = parts
        ids = self.vocabulary
        if spm:
            pieces = [[ids.fim_prefix, ids.fim_suffix], suffix, [ids.fim_middle], prefix, middle, [ids.eos]]
        else:
            pieces = [[ids.fim_prefix], prefix, [ids.fim_suffix], suffix, [ids.fim_middle], middle, [ids.eos]]
        return np.concatenate(pieces).astype(np.int64)

    def split(self, text: np.ndarray, rng: np.random.Generator) -> Parts | None:
        """Two cuts, drawn independently; None for tokens that are no text, such as half of a character."""
        if self.level == "token":
            first, second = cuts(len(text), rng)
            return text[:first], text[first:second], text[second:]
        written = self.vocabulary.decode(text)
        if not np.array_equal(self.vocabulary.encode(written), text):
            return None
        first, second = cuts(len(written), rng)
        prefix, middle, suffix = self.vocabulary.encode_batch(
            [written[:first], written[first:second], written[second:]]
        )
        return prefix, middle, suffix

    def opening(self, parts: Sequence[np.ndarray]) -> Opening:
        """What stands between two parts is the middle, in the order that was trained more."""
        eos = self.vocabulary.eos
        if len(parts) == 1:
            return continued(parts[0], parts, [eos], type(self).__name__)
        if len(parts) > 2:
            raise LmxError(f"--prompt must have at most one gap for FIM, got {len(parts) - 1}.")
        row = self.arrange((parts[0], np.zeros(0, dtype=np.int64), parts[1]), self.spm > 0.5)[:-1]
        return continued(row, parts[:1], [eos], type(self).__name__)


def cuts(length: int, rng: np.random.Generator) -> tuple[int, int]:
    """Two places between 0 and `length`, both included, in order."""
    first, second = sorted(rng.integers(0, length, size=2, endpoint=True).tolist())
    return first, second


def apart(sample: Sample, end: int) -> Sample:
    """The sample with its documents told apart by their `end` tokens, too: with packing=concat nothing else does."""
    begins = (sample.tokens[:-1] == end) | (np.diff(sample.segment) != 0)
    return Sample(sample.tokens, np.concatenate([[0], np.cumsum(begins)]), sample.documents)


def side_by_side(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """One row of documents that do not see each other."""
    none = np.zeros(0, dtype=np.int64)
    tokens = np.concatenate([none, *(tokens for tokens, _ in rows)])
    return {
        "tokens": tokens,
        "targets": np.concatenate([none, *(targets for _, targets in rows)]),
        "document": np.repeat(np.arange(len(rows)), [len(tokens) for tokens, _ in rows]),
        "order": np.arange(len(tokens)),
    }

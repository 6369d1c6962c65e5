"""What an objective is: what to hide from the model, what to ask, how to score the answer."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lmx.batch import IGNORE, PADDING, Batch, Details, Pattern
from lmx.data.noise import Keys
from lmx.data.packing import Sample
from lmx.data.tokenizer import Vocabulary
from lmx.errors import LmxError
from lmx.nn.cache import Cache
from lmx.nn.cross_entropy import Head, VocabularyLoss
from lmx.nn.transformer import Transformer
from lmx.objectives.writing import Gap, Opening

Kind = TypeVar("Kind", bound=Batch)
Piece = TypeVar("Piece")
Summary = Literal["last", "first", "mean"]
EMPTY: Mapping[str, int] = MappingProxyType({})
BUCKET = 64  # asked positions are rounded up to a multiple, so that the head sees few shapes


class Objective(nn.Module, ABC):
    """One file per subclass. A module, so that heads and helper networks train with the model.

    `collate` runs on the CPU and owns all randomness; it is pure: the same samples and keys give the same batch.
    `forward` runs on the device. Losses are sums, and `counts` says over how many predictions, so that the mean over
    a step is exact however the step is cut into micro-batches and ranks.
    """

    lookahead = 0  # tokens that a sample sees beyond those it consumes
    measures_text = False  # True: the nats are -log p(text), token by token, so that bits per byte are defined
    follows = ""  # how `following` asks for a text, see lmx/evals/scoring.py; "" where it cannot
    follows_exactly = True  # False: training never asked for a text in that way
    hides = ""  # how `hiding` asks for tokens of a text; "" where it cannot
    fills = False  # True: it writes by `hiding`, a token in each gap of a text
    bounds = False  # True: the mean over random numbers of hidden tokens bounds -log p(text)
    detects = False  # True: `suspicion` tells what does not belong
    summary: Summary = "mean"  # where classifiers find what a text says: last position, first one, the text's mean
    counted: frozenset[str] = frozenset()  # terms that count something among their predictions: shares, no nats
    indivisible = False  # True: the rows of a step are each other's candidates, and losses of its parts do not add up

    def __init__(self) -> None:
        super().__init__()
        self.weights: dict[str, float] = {"loss": 1.0}  # term -> its weight in what is minimised

    @abstractmethod
    def raw_lengths(self, keys: Keys) -> np.ndarray:
        """[N] int64, corpus tokens that each sample consumes."""

    @abstractmethod
    def collate(self, samples: Sequence[Sample], keys: Keys) -> Batch:
        """Samples -> the batch that poses the question."""

    @abstractmethod
    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """term -> [] int64 predictions it sums over, known before the model runs."""

    @abstractmethod
    def forward(self, model: Transformer, batch: Batch) -> dict[str, Tensor]:
        """term -> [] loss in nats, or number of what is `counted`, summed over its predictions."""

    def key(self, term: str) -> str:
        """What a term is called where a run writes its mean down: loss/TERM in nats, or share/TERM."""
        return f"{'share' if term in self.counted else 'loss'}/{term}"

    def constants(self, sums: Mapping[str, float], counts: Mapping[str, int]) -> dict[str, float]:
        """Further term -> mean nats that the best constant prediction would have reached, given what was seen of all terms."""
        return {}

    def details(self, batch: Batch) -> Details:
        """What `lmx show` draws besides the fields that every batch has."""
        return Details()

    def fix(self, places: Sequence[int]) -> None:
        """Noise these tokens of a text instead of random ones. Raises LmxError where no tokens are chosen at random."""
        raise LmxError(
            f"--noise must go with an objective that hides tokens of one text, such as mlm or span, got {type(self).__name__}."
        )

    def opening(self, parts: Sequence[np.ndarray]) -> Opening:
        """What to read and to write, for a text [n] in parts with a gap between each two; one part is to be continued.

        Raises LmxError where the objective does not write, or not there.
        """
        name = type(self).__name__
        if self.fills:
            raise LmxError(
                f"--prompt must have a gap for {name}, which fills gaps, got none. Type e.g. 'The [MASK] of the union'."
            )
        raise LmxError(
            f"RUN must be of an objective that writes text, got {name}. Type lmx evaluate RUN for what it can do."
        )

    def embedded(self, model: Transformer, batch: Batch) -> Tensor:
        """[B, n, D] of some positions of an opening, or after it"""
        return model.embed(batch)

    def writer(self, model: Transformer, batch: Batch) -> Cache:
        """What reads an opening, and all that is written after it."""
        return Cache(list(model.blocks), model.norm)  # type: ignore[arg-type]

    def following(self, texts: Sequence[np.ndarray], contexts: Sequence[int]) -> Batch:
        """One text [n] a row, asked from left to right for what comes after the first `contexts` tokens, where `follows`."""
        raise TypeError(f"{type(self).__name__} does not ask for texts from left to right")

    def hiding(self, texts: Sequence[np.ndarray], hidden: Sequence[np.ndarray]) -> Batch:
        """One text [n] a row, asked for its hidden tokens [n] bool, where `hides`."""
        raise TypeError(f"{type(self).__name__} does not ask for hidden tokens")

    def nats(self, model: Transformer, batch: Batch) -> Tensor:
        """[B, L] float32, -log p of each target of `following` or `hiding`; 0 where nothing is asked."""
        raise TypeError(f"{type(self).__name__} does not predict tokens")

    def best(self, model: Transformer, batch: Batch) -> Tensor:
        """[B, L] 1 where a target of `following` or `hiding` is the most likely token, else 0"""
        raise TypeError(f"{type(self).__name__} does not predict tokens")

    def reading(self, texts: Sequence[np.ndarray], cuts: Sequence[int] | None = None) -> Batch:
        """One text [n] a row, framed as in training and nothing hidden; its tokens are the targets at their own places.

        `cuts`: where the second text of each pair begins, for those that tell segments apart.
        """
        return plain(texts)

    def layers(self, model: Transformer, batch: Batch) -> list[Tensor]:
        """[B, L, D] embeddings and what each block makes of them, the last one normalised, of a batch of `reading`."""
        return model.layers(model.embed(batch), batch)

    def suspicion(self, model: Transformer, batch: Batch) -> Tensor:
        """[B, L] float32, log-odds that a token has been replaced, of a batch of `hiding`, where `detects`."""
        raise TypeError(f"{type(self).__name__} does not detect replaced tokens")


class Prediction(Objective):
    """Objectives that score `batch.targets` with one vocabulary head. Subclasses only say what to hide."""

    def __init__(self, *, model: Transformer, vocabulary: Vocabulary, z_loss: float):
        super().__init__()
        self.vocabulary = vocabulary
        self.head = None if model.tied else Head(model.width, vocabulary.size)
        self.score = VocabularyLoss(z_loss)
        if z_loss:
            self.weights["z"] = z_loss

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return dict.fromkeys(self.weights, batch.num_targets)

    def forward(self, model: Transformer, batch: Batch) -> dict[str, Tensor]:
        hidden, targets = asked(self.hidden(model, batch), batch)
        nats, z, _ = self.score(hidden, self.output_weight(model), targets)
        return self.terms(nats, z)

    def terms(self, nats: Tensor, z: Tensor) -> dict[str, Tensor]:
        """The loss, and z where it has a weight"""
        return {"loss": nats, "z": z} if "z" in self.weights else {"loss": nats}

    def hidden(self, model: Transformer, batch: Batch) -> Tensor:
        """[B, L, D], from which the targets are predicted"""
        return model(batch)

    def posed(self, model: Transformer, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden states of what is asked [N, D], its targets [N] and flat places [N]; IGNORE and -1 where nothing is."""
        return *asked(self.hidden(model, batch), batch), places(batch)

    def nats(self, model: Transformer, batch: Batch) -> Tensor:
        hidden, targets, index = self.posed(model, batch)
        return spread(self.score(hidden, self.output_weight(model), targets)[2], index, batch)

    def best(self, model: Transformer, batch: Batch) -> Tensor:
        hidden, targets, index = self.posed(model, batch)
        return spread((self.logits(model, hidden).argmax(-1) == targets).float(), index, batch)

    def output_weight(self, model: Transformer) -> Tensor:
        """[V, D], a row for each entry of the vocabulary"""
        return model.embedding.weight if self.head is None else self.head.weight

    def logits(self, model: Transformer, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., V] float32"""
        return (hidden @ self.output_weight(model).to(hidden.dtype).T).float()


def continued(text: np.ndarray, parts: Sequence[np.ndarray], stops: Sequence[int], name: str) -> Opening:
    """Read `text` from left to right and go on. Raises LmxError for gaps between `parts`."""
    if len(parts) > 1:
        raise LmxError(f"--prompt must have no gap for {name}, which continues a text, got {len(parts) - 1}.")
    empty = np.full(len(text), IGNORE)
    batch = stack([{"tokens": text, "targets": empty, "order": np.arange(len(text))}], len(text))
    return Opening(batch=batch, gaps=[Gap(first=None, stops=frozenset(stops))])


def each_document(
    sample: Sample, end: int, pose: Callable[[np.ndarray, int], Piece], overflow: Callable[[list[Piece]], int]
) -> list[Piece]:
    """pose(text, number) of each packed document that fits, of the last one as much as does; a text is at least 2 tokens.

    The documents' `end` tokens are left out: what is made of a text has ends of its own.
    """
    found: list[Piece] = []
    for number in range(int(sample.segment[-1]) + 1):
        text = sample.tokens[sample.segment == number]
        text = text[text != end]
        while len(text) >= 2:
            piece = pose(text, number)
            over = overflow([*found, piece])
            if over <= 0:
                found.append(piece)
                break
            text = text[: len(text) - over]
    return found


def asked(values: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Values [B, L, ...] -> [N, ...] and targets [N] of the asked positions; N is `batch.capacity`, filled up with IGNORE.

    The number is known on the host, so the shape is static and no device waits.
    """
    targets = batch.targets.flatten()
    index = places(batch)
    return values.flatten(0, 1)[index.clamp(min=0)], targets[index.clamp(min=0)].masked_fill(index < 0, IGNORE)


def places(batch: Batch) -> Tensor:
    """[N] the asked positions of the flattened batch, filled up with -1."""
    return (batch.targets.flatten() != IGNORE).nonzero_static(size=batch.capacity, fill_value=-1)[:, 0]


def spread(values: Tensor, index: Tensor, batch: Batch) -> Tensor:
    """Values [N] of flat places [N], -1 for none -> [B, L], 0 elsewhere."""
    flat = values.new_zeros(batch.targets.numel() + 1)
    return flat.index_copy(0, index % len(flat), values * (index >= 0))[:-1].view_as(batch.targets)


def entropy(share: float) -> float:
    """Nats of a yes or no whose yes has that share: what knowing the base rate alone costs."""
    return -sum(part * math.log(part) for part in (share, 1 - share) if part > 0)


def stack(
    rows: Sequence[Mapping[str, np.ndarray]],
    length: int,
    kind: type[Kind] = Batch,
    fills: Mapping[str, int] = EMPTY,
    **whole: Any,
) -> Kind:
    """Rows of fields [n], n <= length -> a batch [B, length].

    A row must have `tokens`, `targets` and `order`. `document` defaults to one document, `position` to the distance from the
    document's start. A `kind` of batch may have more fields: those in `fills`, which say what stands after a row's end, and
    those that are given `whole`.
    """
    fill = {"tokens": 0, "targets": IGNORE, "position": 0, "document": PADDING, "order": 0, **fills}
    columns = {name: np.full((len(rows), length), value, dtype=np.int64) for name, value in fill.items()}
    for number, row in enumerate(rows):
        size = len(row["tokens"])
        document = row.get("document", np.zeros(size, dtype=np.int64))
        full = {"document": document, "position": positions(document), **row}
        for name, column in columns.items():
            column[number, :size] = full[name]
    count = int((columns["targets"] != IGNORE).sum())
    tensors: dict[str, Any] = {name: torch.from_numpy(column) for name, column in columns.items()}
    return kind(**tensors, pattern=pattern(columns), capacity=-(-count // BUCKET) * BUCKET, **whole)


def plain(
    texts: Sequence[np.ndarray], begin: Sequence[int] = (), end: Sequence[int] = (), causal: bool = False
) -> Batch:
    """Texts as they are, each between `begin` and `end`, from left to right or from both sides: see Objective.reading."""
    rows = []
    for text in texts:
        tokens = np.concatenate([begin, text, end]).astype(np.int64)
        targets = np.pad(text, (len(begin), len(end)), constant_values=IGNORE)
        rows.append({"tokens": tokens, "targets": targets, "order": np.arange(len(tokens)) * causal})
    return stack(rows, max(len(row["tokens"]) for row in rows))


def positions(document: np.ndarray) -> np.ndarray:
    """[n] distance from the start of the run of equal document ids: 0 0 0 1 1 -> 0 1 2 0 1."""
    index = np.arange(len(document))
    starts = np.concatenate([[True], document[1:] != document[:-1]])[: len(document)]
    return index - np.maximum.accumulate(np.where(starts, index, 0))


def pattern(columns: Mapping[str, np.ndarray]) -> Pattern:
    """What visible() is, if it is one of the two simple cases in every row: then nobody has to build a mask."""
    document, order = columns["document"], columns["order"]
    if (document != document[:, :1]).any() or (document == PADDING).any():
        return "mixed"
    if (order == order[:, :1]).all():
        return "full"
    return "causal" if (order == np.arange(order.shape[1])).all() else "mixed"

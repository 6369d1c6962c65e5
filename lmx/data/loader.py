"""The micro-batches of any step: a pure function of the step's number, so that there is no loader state to save.

Step n takes samples (n - 1) x S to n x S of the endless stream, S sequences over all ranks; a rank takes its share in order.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from lmx.batch import Batch
from lmx.data.noise import Keys
from lmx.data.packing import Sample, Samples
from lmx.errors import LmxError


@dataclass(frozen=True, kw_only=True)
class Micro:
    """One micro-batch, and where it comes from."""

    batch: Batch
    tokens: int  # of text, consumed
    first: int  # index of its first sample
    samples: int


class Loader:
    def __init__(
        self,
        samples: Samples,
        collate: Callable[[Sequence[Sample], Keys], Batch],
        *,
        sequences: int,
        micro: int | None,
        rank: int = 0,
        world_size: int = 1,
    ):
        """`sequences` a step over all ranks, `micro` a forward pass (None: a rank's whole share).

        Raises LmxError when the numbers do not divide each other.
        """
        share, rest = divmod(sequences, world_size)
        micro = micro or share
        if rest or share == 0 or share % micro:
            raise LmxError(
                f"trainer.batch_tokens must be a multiple of length x processes x trainer.micro_batch, got {sequences} sequences "
                f"a step for {world_size} processes of {micro}. Change trainer.batch_tokens or trainer.micro_batch."
            )
        self.samples, self.collate = samples, collate
        self.sequences, self.share, self.micro, self.rank = sequences, share, micro, rank
        self.ahead: tuple[tuple[int, float], Future] | None = None
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="loader")

    def __call__(self, step: int, progress: float) -> list[Micro]:
        """This rank's micro-batches of `step` (1 is the first), when `progress` of the budget is spent."""
        ready = (
            self.ahead[1].result() if self.ahead and self.ahead[0] == (step, progress) else self.make(step, progress)
        )
        self.ahead = None
        return ready

    def prepare(self, step: int, progress: float) -> None:
        """Make the micro-batches of a step meanwhile."""
        self.ahead = ((step, progress), self.thread.submit(self.make, step, progress))

    def make(self, step: int, progress: float) -> list[Micro]:
        first = (step - 1) * self.sequences + self.rank * self.share
        return [self.read(start, self.micro, progress) for start in range(first, first + self.share, self.micro)]

    def read(self, first: int, count: int, progress: float = 0.0) -> Micro:
        """Samples `first` to `first + count` as one micro-batch."""
        keys = replace(self.samples.keys(first, count), progress=progress)
        batch = self.collate(self.samples.read(first, count), keys)
        return Micro(batch=batch, tokens=self.samples.consumed(first, count), first=first, samples=count)

"""The micro-batches of any step: a pure function of the step's number, so that there is no loader state to save.

Step n takes samples (n - 1) x S to n x S of the endless stream, S sequences over all ranks; a rank takes its share in order.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

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
        self.ahead: tuple[int, Future] | None = None
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="loader")

    def __call__(self, step: int) -> list[Micro]:
        """This rank's micro-batches of `step` (1 is the first); the next step's are made meanwhile."""
        ready = self.ahead[1].result() if self.ahead and self.ahead[0] == step else self.make(step)
        self.ahead = (step + 1, self.thread.submit(self.make, step + 1))
        return ready

    def make(self, step: int) -> list[Micro]:
        first = (step - 1) * self.sequences + self.rank * self.share
        return [self.read(start, self.micro) for start in range(first, first + self.share, self.micro)]

    def read(self, first: int, count: int) -> Micro:
        """Samples `first` to `first + count` as one micro-batch."""
        batch = self.collate(self.samples.read(first, count), self.samples.keys(first, count))
        return Micro(batch=batch, tokens=self.samples.consumed(first, count), first=first, samples=count)

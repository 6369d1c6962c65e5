"""Randomness that is a function of (seed, sample, purpose), never of what ran before.

A sample's index counts through the endless stream of epochs, so it names the epoch too. Workers,
ranks, batch size and resuming therefore cannot change a mask. The generator is Philox, a
counter-based one (Salmon et al. 2011): 18 microseconds to set up.
"""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Keys:
    """What the random numbers of a list of samples are drawn from."""

    seed: int
    purpose: str  # "train", "validation", …: independent streams
    sample: np.ndarray  # [N] int64, index of each sample in the endless stream
    progress: float = 0.0  # share of the budget spent before this step: what schedules read; nothing else may

    def __len__(self) -> int:
        return len(self.sample)

    def generator(self, index: int, use: str = "") -> np.random.Generator:
        """The generator of sample `index` of the list; `use` tells apart several draws for one sample."""
        return generator(self.seed, self.purpose + "/" + use, int(self.sample[index]))


def generator(seed: int, purpose: str, number: int = 0) -> np.random.Generator:
    """An independent generator for each (seed, purpose, number)."""
    digest = blake2b(f"{seed}/{purpose}".encode(), digest_size=16).digest()
    key = np.frombuffer(digest, dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, number]))


def torch_seed(*parts: int | str) -> int:
    """A 63-bit seed for `torch.manual_seed`, from e.g. (seed, step, micro-batch, "dropout")."""
    digest = blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1

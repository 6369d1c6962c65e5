"""Streams of random numbers are apart: by seed, purpose, use and sample; and none runs into the next one."""

import numpy as np

from lmx.data.noise import Keys, generator, torch_seed


def draws(seed=0, purpose="train", sample=0, use="") -> list[float]:
    keys = Keys(seed=seed, purpose=purpose, sample=np.array([7, sample]))
    return keys.generator(1, use).random(4).tolist()


def test_streams_are_apart():
    ways = [
        {},
        {"seed": 1},
        {"seed": 10**6},
        {"purpose": "validation"},
        {"use": "luck"},
        {"sample": 1},
        {"sample": 2**40},
    ]
    found = [draws(**way) for way in ways]
    assert len({tuple(numbers) for numbers in found}) == len(ways)
    assert found == [draws(**way) for way in ways]


def test_streams_do_not_overlap():
    """A sample may draw as much as it likes before it comes to what another sample draws."""
    numbers = np.concatenate([generator(0, "train", sample).random(5000) for sample in range(5)])
    assert len(np.unique(numbers)) == len(numbers)


def test_seeds_for_torch():
    """In [0, 2^63), another for each list of parts."""
    seeds = {torch_seed(0, "dropout", step) for step in range(100)} | {torch_seed(0, 1, 2), torch_seed(0, 12)}
    assert len(seeds) == 102
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**60

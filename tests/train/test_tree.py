"""A sum over ranks has the bits of a sum by one process, for any number of parts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmx.train import distributed, tree
from lmx.train.tree import Tree, stretches


def parts(number: int, seed: int = 0) -> list[torch.Tensor]:
    """Magnitudes apart, so that the order of additions shows."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, generator=generator) * 10.0 ** (index % 5) for index in range(number)]


def grown(values: list[torch.Tensor], start: int = 0) -> Tree:
    found = Tree(start)
    for value in values:
        found.add([value.clone(), -value])
    return found


def by_hand(values: list[torch.Tensor]) -> torch.Tensor:
    while len(values) > 1:
        pairs = [values[index : index + 2] for index in range(0, len(values), 2)]
        values = [pair[0] + pair[1] if len(pair) == 2 else pair[0] for pair in pairs]
    return values[0]


@pytest.mark.parametrize("number", [1, 2, 3, 6, 7, 8, 31])
def test_pairs_of_pairs(number):
    values = parts(number)
    total, negative = grown(values).total()
    assert torch.equal(total, by_hand(values))
    assert torch.equal(negative, -total)


@settings(deadline=None)  # a busy machine is no bug
@given(ranks=st.integers(1, 8), share=st.integers(1, 9), seed=st.integers(0, 99))
def test_ranks_do_not_matter(ranks, share, seed):
    values = parts(ranks * share, seed)
    trees = [grown(values[rank * share : (rank + 1) * share], rank * share) for rank in range(ranks)]
    layout = [stretches(rank * share, share) for rank in range(ranks)]
    assert layout == [[node.size for node in found.nodes] for found in trees]
    most = max(map(len, layout))
    rows = [[node.values[0] for node in found.nodes] for found in trees]
    padded = [torch.stack(own + [torch.zeros(3)] * (most - len(own))) for own in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree.distributed, "gather", lambda own: [one.clone() for one in padded])
        for own in rows:
            assert torch.equal(tree.whole(own, layout, most), by_hand(values))


def test_the_order_shows_in_a_plain_sum():
    values = parts(16)
    assert not torch.equal(sum(values), by_hand(values))


def test_one_process_gathers_itself():
    assert [value.tolist() for value in distributed.gather(torch.ones(2))] == [[1.0, 1.0]]

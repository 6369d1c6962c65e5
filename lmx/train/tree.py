"""Sums whose bits do not depend on how the parts are spread over ranks: pairs, pairs of pairs, and so on.

The tree's shape depends on nothing but the number of parts. Of 7:

    parts      0   1    2   3    4   5    6
    pairs       01       23       45      6
    fours           0123            456
    sum                  0123456

A rank adds up the parts of its own stretch as it makes them. What has no partner there waits for those of other ranks: at most
two sums a level. It is a mode for proofs: every rank is sent the sums of all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lmx.train import distributed


@dataclass(frozen=True)
class Node:
    """The sum of parts `start` to `start + size`; `values` are several tensors, each summed for itself."""

    start: int
    size: int
    values: list[Tensor]

    def joins(self, right: "Node") -> bool:
        return self.size == right.size and self.start % (2 * self.size) == 0

    def plus(self, right: "Node") -> "Node":
        """In place: what is joined is not needed by itself any more."""
        for own, other in zip(self.values, right.values, strict=True):
            own.add_(other)
        return Node(self.start, self.size + right.size, self.values)


class Tree:
    def __init__(self, start: int):
        """`start` is the number of the first part that will be added."""
        self.end = start
        self.nodes: list[Node] = []

    def add(self, values: list[Tensor], size: int = 1) -> None:
        """The next part, or the sum of the next `size` parts; the tensors belong to the tree from then on."""
        node = Node(self.end, size, values)
        self.end += size
        while self.nodes and self.nodes[-1].joins(node):
            node = self.nodes.pop().plus(node)
        self.nodes.append(node)

    def root(self) -> list[Tensor]:
        """The sum of all, once nothing more will be added."""
        *rest, node = self.nodes
        for left in reversed(rest):
            node = left.plus(node)
        return node.values

    def total(self) -> list[Tensor]:
        """The sums over all ranks, each of which has added as many parts as this one, in the order of ranks."""
        ranks = distributed.world_size()
        if ranks == 1:
            return self.root()
        share = self.end // (distributed.rank() + 1)
        layout = [stretches(rank * share, share) for rank in range(ranks)]
        most = max(map(len, layout))
        return [whole(values, layout, most) for values in zip(*(node.values for node in self.nodes), strict=True)]


def stretches(start: int, count: int) -> list[int]:
    """Sizes of the sums that a rank is left with after it has added parts `start` to `start + count`."""
    tree = Tree(start)
    for _ in range(count):
        tree.add([])
    return [node.size for node in tree.nodes]


def whole(values: Sequence[Tensor], layout: Sequence[Sequence[int]], most: int) -> Tensor:
    """One tensor's sum over ranks, from this rank's sums; `layout` has the sizes of every rank's, at most `most` of them."""
    rows = torch.stack([*values, *[torch.zeros_like(values[0])] * (most - len(values))])
    tree = Tree(0)
    for sums, sizes in zip(distributed.gather(rows), layout, strict=True):
        for row, size in zip(sums, sizes, strict=False):  # what is left are the zeros
            tree.add([row], size)
    return tree.root()[0]

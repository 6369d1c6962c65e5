"""Every objective under four ranks, a row each. Not among the tests that every change has to pass: it takes minutes."""

from tests.dist.test_objectives import check


def test_four_ranks_have_the_gradients_of_one():
    check(4)

"""Contrastive pairs over two ranks: the loss and the gradient are those of one process with all rows."""

import os
from datetime import timedelta
from multiprocessing import get_context

import pytest
import torch
import torch.distributed as dist

from lmx.data.tokenizer import Bytes
from lmx.objectives.contrastive import Contrastive
from tests.conftest import trunk
from tests.golden.test_contrastive import KNOBS

ROWS = 4


def loss_and_slope(rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """[] and [4, 2, 3], of what a linear map makes of all rows, when these are the ones that a rank asks."""
    torch.manual_seed(0)
    vectors = torch.randn(ROWS, 2, 3, dtype=torch.float64).requires_grad_()
    objective = Contrastive(
        model=trunk(8), vocabulary=Bytes().train([], 0), **KNOBS | {"temperature": 0.1, "symmetric": True}
    )
    text = torch.tensor([[0, 1], [2, 3], [4, 1], [6, 7]])
    nats, _ = objective.contrast(vectors[rows], text[rows], torch.ones(len(text[rows]), dtype=torch.bool))
    nats.backward()
    return nats.detach(), vectors.grad


def rank(number: int, path: str, answer) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{path}", rank=number, world_size=2, timeout=timedelta(seconds=20)
    )
    answer.send([value.tolist() for value in loss_and_slope(slice(2 * number, 2 * number + 2))])
    os._exit(0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_two_ranks_have_the_loss_and_the_gradient_of_one(tmp_path):
    fork, parts = get_context("fork"), []
    for number in range(2):
        reading, writing = fork.Pipe(duplex=False)
        process = fork.Process(target=rank, args=(number, str(tmp_path / "meeting"), writing))
        process.start()
        parts.append((process, reading))
    found = []
    for process, reading in parts:
        assert reading.poll(30), "no answer"
        found.append([torch.tensor(value, dtype=torch.float64) for value in reading.recv()])
        process.join(10)
    nats, slope = (sum(column) for column in zip(*found, strict=True))
    wanted, one = loss_and_slope(slice(0, ROWS))
    assert float(nats) == pytest.approx(float(wanted), rel=1e-6)
    torch.testing.assert_close(slope, one, rtol=1e-5, atol=1e-6)

"""A signal is never forgotten, whenever it comes."""

import signal

import pytest
import torch

from lmx.errors import INTERRUPTED, PREEMPTED
from lmx.train import distributed
from lmx.train.stop import SIGNALS, Stop

CPU = torch.device("cpu")


@pytest.fixture
def stop():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield Stop()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, INTERRUPTED), (signal.SIGUSR1, PREEMPTED)])
def test_a_signal_amid_the_ranks_agreement_counts_in_the_next(stop, monkeypatch, number, code):
    """The others did not know of it: stopping at once would leave them alone. Written over, it would be lost."""

    def interrupted(value, device):
        signal.raise_signal(number)
        return value

    with monkeypatch.context() as amid:
        amid.setattr(distributed, "largest", interrupted)
        assert not stop.agreed(CPU)
    assert stop.agreed(CPU)
    assert stop.code == code

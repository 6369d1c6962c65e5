"""What torchrun is told, and what a launcher refuses before anything starts."""

import pytest

from lmx.build import build
from lmx.config import plain
from lmx.errors import LmxError
from lmx.runs import RANK_TIMEOUT, Run

NODES = ["launcher=nodes", "launcher.rendezvous=node0:29500"]


def test_machines_meet_at_an_address(tmp_path):
    launcher = build(plain([*NODES, "launcher.nodes=4"])["launcher"])
    assert not launcher.alone()
    told = launcher.meeting(Run(tmp_path / "a-run"))
    assert told == ["--nnodes=4", "--rdzv-backend=c10d", "--rdzv-endpoint=node0:29500", "--rdzv-id=a-run"]


def test_one_machine_needs_no_address(tmp_path):
    assert build(plain([])["launcher"]).alone()
    launcher = build(plain(["launcher.processes=2", "launcher.rank_timeout=30"])["launcher"])
    assert launcher.meeting(Run(tmp_path)) == ["--standalone"]
    assert launcher.environment()[RANK_TIMEOUT] == "30"


@pytest.mark.parametrize("address", ["node0", "node0:", ":29500", "node 0:1", "--nnodes:1 x"])
def test_an_address_is_host_and_port(address):
    with pytest.raises(LmxError, match="launcher.rendezvous must be host:port of the first machine"):
        build(plain([*NODES])["launcher"] | {"rendezvous": address})

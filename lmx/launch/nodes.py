"""One run on several machines that see the same run directories: a torchrun on each, and they meet at one address.

On the first machine `lmx train launcher=nodes …`, on every other `lmx train --join RUN`. The address is open to whoever can reach
it: it belongs into a private network.
"""

import re
from typing import Annotated

from annotated_types import Ge, Gt

from lmx.errors import LmxError
from lmx.launch.local import Local
from lmx.runs import Run

ADDRESS = re.compile(r"[A-Za-z0-9._-]+:[0-9]{1,5}")


class Nodes(Local):
    def __init__(
        self,
        *,
        nodes: Annotated[int, Ge(1)],
        rendezvous: str,
        processes: Annotated[int, Ge(1)],
        threads: Annotated[int, Ge(1)] | None,
        grace: Annotated[int, Ge(1)],
        rank_timeout: Annotated[float, Gt(0)],
        restarts: Annotated[int, Ge(0)],
    ):
        if not ADDRESS.fullmatch(rendezvous):
            raise LmxError(
                f"launcher.rendezvous must be host:port of the first machine, got {rendezvous}. Type e.g. "
                "launcher.rendezvous=node0:29500."
            )
        super().__init__(
            processes=processes, threads=threads, grace=grace, rank_timeout=rank_timeout, restarts=restarts
        )
        self.nodes, self.rendezvous = nodes, rendezvous

    def alone(self) -> bool:
        return False

    def meeting(self, run: Run) -> list[str]:
        address = f"--rdzv-endpoint={self.rendezvous}"
        return [f"--nnodes={self.nodes}", "--rdzv-backend=c10d", address, f"--rdzv-id={run.name}"]

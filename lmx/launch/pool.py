"""Several runs at once on this machine: cores and GPUs are divided, and a free place takes the next run."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Gt

from lmx.launch.local import Local
from lmx.launch.places import Places


class Pool(Local):
    def __init__(
        self,
        *,
        workers: Annotated[int, Ge(1)],
        processes: Annotated[int, Ge(1)],
        threads: Annotated[int, Ge(1)] | None,
        grace: Annotated[int, Ge(1)],
        rank_timeout: Annotated[float, Gt(0)],
        restarts: Annotated[int, Ge(0)],
    ):
        super().__init__(
            processes=processes, threads=threads, grace=grace, rank_timeout=rank_timeout, restarts=restarts
        )
        self.workers = workers

    def fleet(self) -> Places:
        return Places([seen(share) for share in shares(devices(), self.workers)])

    def cores(self) -> int:
        return max(1, super().cores() // self.workers)


def devices() -> list[str]:
    """The GPUs that this process may use, without loading what could ask them."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return [name for name in told.split(",") if name]
    return [str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


def shares(devices: Sequence[str], workers: int) -> list[list[str]]:
    """As many for each worker as there are for all; a GPU for several workers where there are too few."""
    each = len(devices) // workers
    if each:
        return [list(devices[place * each : (place + 1) * each]) for place in range(workers)]
    return [[devices[place % len(devices)]] if devices else [] for place in range(workers)]


def seen(devices: Sequence[str]) -> dict[str, str]:
    return {"CUDA_VISIBLE_DEVICES": ",".join(devices)} if devices else {}

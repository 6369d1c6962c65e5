"""A package and a conf/ of a few lines, so that tests of the configuration do not depend on what lmx trains."""

from pathlib import Path

SOURCE = {
    "lmx/kinds.py": """
from typing import Annotated
from annotated_types import Interval

LEAST, MOST = 2, 2**10
Share = Annotated[float, Interval(ge=0, le=1)]
""",
    "lmx/parts.py": '''
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Interval, Len
from torch import nn

from lmx.kinds import LEAST, MOST, Share

Betas = Annotated[list[Share], Len(2, 2)]


class Schedule:
    def __init__(self, *, warmup: Share):
        raise RuntimeError("a config is checked without running what it names")


class Flat(Schedule):
    """No change."""


class Decay(Schedule):
    RULES = {"warmup + decay <= 1": "optim.schedule.warmup + optim.schedule.decay must be at most 1"}

    def __init__(self, *, warmup: Share, decay: Share):
        super().__init__(warmup=warmup)


class Optimizer:
    def __init__(
        self,
        module: nn.Module,
        loader: Callable[[int], list[torch.Tensor]],
        *,
        lr: Annotated[float, Gt(0)],
        betas: Betas,
        size: Annotated[int, Interval(ge=LEAST, le=MOST)] | None,
        schedule: Schedule,
    ): ...


class Objective:
    """Asks."""

    RULES = {"span <= length": "objective.span must be at most length"}

    def __init__(self, *, length: int, kind: Literal["one", "two"], rate: Share, span: int, fast: bool | Literal["auto"]): ...


class Source: ...


class Files(Source):
    def __init__(self, *, path: str | list[str]): ...


class Mixture(Source):
    def __init__(self, *, sources: dict[str, Source], weights: Mapping[str, Annotated[float, Gt(0)]]): ...


@dataclass(kw_only=True)
class Budget:
    steps: Annotated[int, Ge(1)] | None
    seconds: Annotated[float, Gt(0)] | None
    frozen: int | None = field(default=None, init=False)
''',
}
CONF = {
    "config.yaml": """
defaults:
  - data: inside
  - optim: plain
  - objective: ask
  - _self_
seed: 0
length: 16
packing: concat
device: auto
name: null
group: null
init_from: null
branch: false
runs: null
budget: {_target_: lmx.parts.Budget, steps: null, seconds: 150}
""",
    "data/inside.yaml": "# Inside.\n_target_: lmx.parts.Files\npath: here\n",
    "data/files.yaml": "_target_: lmx.parts.Files\npath: ???\n",
    "data/mixture.yaml": "_target_: lmx.parts.Mixture\nsources: {}\nweights: {}\n",
    "optim/plain.yaml": """# Plain.
defaults: [schedule: flat, _self_]
_target_: lmx.parts.Optimizer
lr: 1e-2
betas: [0.9, 0.95]
size: null
""",
    "optim/schedule/flat.yaml": "_target_: lmx.parts.Flat\nwarmup: 0.02\n",
    "optim/schedule/decay.yaml": "_target_: lmx.parts.Decay\nwarmup: 0.02\ndecay: 0.5\n",
    "objective/ask.yaml": "# Ask.\n_target_: lmx.parts.Objective\nkind: one\nrate: 0.3\nspan: 8\nfast: auto\n",
    "objective/files.yaml": """# Asks about files: it brings its data.
defaults: [ask, override /data@_global_.data: files, _self_]
rate: 0.4
""",
}


def write(folder: Path) -> dict[str, Path]:
    """The arguments that make lmx.config.load read the toy."""
    for name, text in {**SOURCE, **{f"conf/{name}": text for name, text in CONF.items()}}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return {"conf": folder / "conf", "source": folder}

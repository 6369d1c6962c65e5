"""`lmx config`: the config of a run, before there is one."""

import json
from typing import Annotated

import typer

from lmx.cli.completion import Overrides, Plugins


def config(
    overrides: Overrides = None,
    plugin: Plugins = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of YAML.")] = False,
) -> None:
    """Print the complete config of a run.

    \b
    lmx config objective=mlm optim.lr=0.003
    """
    from omegaconf import OmegaConf

    from lmx.config import load

    composed = load(overrides or [])
    print(json.dumps(OmegaConf.to_container(composed), indent=2) if as_json else OmegaConf.to_yaml(composed).rstrip())

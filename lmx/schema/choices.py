"""What can be chosen: the groups and files of conf/. The listing of a folder is the registry."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lmx.schema.constructors import Constructors, NoSuchTarget

PACKAGED = Path(__file__).parents[1] / "conf"
CONF = PACKAGED if PACKAGED.is_dir() else Path(__file__).parents[2] / "conf"  # in a wheel; in a checkout


def groups(conf: Path = CONF) -> list[str]:
    """`data`, ..., `optim`, `optim/schedule`, ...: the folders that hold YAML files."""
    folders = sorted({path.parent for path in conf.rglob("*.yaml")} - {conf})
    return [folder.relative_to(conf).as_posix() for folder in folders]


def choices(group: str, conf: Path = CONF) -> dict[str, str]:
    """name -> one line: the file's first comment, else what the docstring of its class says."""
    return {path.stem: summary(path) for path in sorted((conf / group).glob("*.yaml"))}


def summary(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    if first.startswith("#"):
        return first.lstrip("# ")
    try:
        return Constructors().target(str(read(path).get("_target_"))).summary
    except NoSuchTarget:
        return ""


def defaults(conf: Path = CONF) -> dict[str, str]:
    """group -> the choice of conf/config.yaml"""
    chosen = [entry for entry in read(conf / "config.yaml")["defaults"] if isinstance(entry, dict)]
    return {group: name for entry in chosen for group, name in entry.items()}


def holders(group: str, key: str, conf: Path = CONF) -> list[str]:
    """The choices of a group whose file has this key."""
    return [name for name in choices(group, conf) if key in read(conf / group / f"{name}.yaml")]


@cache
def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}

"""What can be chosen: the groups and files of conf/, and of the conf/ of plug-ins. The listing of a folder is the registry."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lmx.errors import LmxError
from lmx.schema import plugins
from lmx.schema.constructors import Constructors, NoSuchTarget

PACKAGED = Path(__file__).parents[1] / "conf"
CONF = PACKAGED if PACKAGED.is_dir() else Path(__file__).parents[2] / "conf"  # in a wheel; in a checkout


def files(conf: Path = CONF) -> dict[str, Path]:
    """`objective/mlm.yaml` -> its path, of lmx and of plug-ins. Raises LmxError for a plug-in's file that another one has."""
    found = {path.relative_to(conf).as_posix(): path for path in conf.rglob("*.yaml")}
    for package, folder in plugins.folders().items():
        for path in sorted((folder / "conf").rglob("*.yaml")):
            name = path.relative_to(folder / "conf").as_posix()
            if name in found:
                raise LmxError(f"{package}/conf/{name} must have a name of its own, got that of {found[name]}.")
            found[name] = path
    return dict(sorted(found.items()))


def groups(conf: Path = CONF) -> list[str]:
    """`data`, ..., `optim`, `optim/schedule`, ...: the folders that hold YAML files."""
    return sorted({name.rpartition("/")[0] for name in files(conf)} - {""})


def choices(group: str, conf: Path = CONF) -> dict[str, str]:
    """name -> one line: the file's first comment, else what the docstring of its class says."""
    inside = {name: path for name, path in files(conf).items() if name.rpartition("/")[0] == group}
    return {path.stem: summary(path) for path in inside.values()}


def summary(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    first = next((line for line in lines if not line.startswith("# @")), "")  # `# @package` is for Hydra
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
    inside = [path for name, path in files(conf).items() if name.rpartition("/")[0] == group]
    return [path.stem for path in inside if key in read(path)]


@cache
def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}

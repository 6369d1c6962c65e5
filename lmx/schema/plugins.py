"""Packages of the user's own: `--plugin PKG` brings the classes of PKG, and the choices in the folder PKG/conf.

Only an invocation names them, on its command line or in LMX_PLUGINS, which the processes it starts inherit. A run directory
may come from anybody: what its config says is never a reason to look for a package, let alone to import it.
"""

import os
import re
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from lmx.errors import LmxError

VARIABLE = "LMX_PLUGINS"  # names, with commas between them
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def name(packages: Iterable[str]) -> None:
    """Let this process and those it starts use these packages, too. Raises LmxError for what is none."""
    os.environ[VARIABLE] = ",".join(dict.fromkeys([*named(), *packages]))
    folders()


def named() -> list[str]:
    return [package for part in os.environ.get(VARIABLE, "").split(",") if (package := part.strip())]


def folders() -> dict[str, Path]:
    """package -> where it is. Raises LmxError for what is no package with a folder conf."""
    return {package: folder(package) for package in named()}


@cache
def folder(package: str) -> Path:
    """Found without importing it."""
    if not NAME.fullmatch(package) or package == "lmx":
        raise LmxError(f"--plugin must be the name of a package, such as my_objectives, got {package!r:.60}.")
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        spec = None
    places = [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
    if not places:
        raise LmxError(
            f"--plugin must be a package that Python finds, got {package}. Install it (pip install -e FOLDER), "
            "or name the folder it is in: PYTHONPATH=FOLDER lmx …"
        )
    found = next((place for place in places if (place / "conf").is_dir()), None)
    if found is None:
        raise LmxError(f"--plugin must be a package with a folder conf, got {package}: {places[0]} has none.")
    return found.resolve()


def require(packages: Iterable[str]) -> None:
    """Raises LmxError for a package that a run needs and this invocation does not name."""
    missing = [package for package in packages if package not in named()]
    if missing:
        advice = f"It is code: if you trust it, add --plugin {missing[0]}."
        raise LmxError(f"--plugin must name {missing[0]}, which this run was made with. {advice}")


def fingerprint(package: str) -> str:
    """12 hex digits of its Python files: with other code it is another objective under the same name."""
    files = sorted(folder(package).rglob("*.py"))
    parts = (file.relative_to(folder(package)).as_posix().encode() + b"\0" + file.read_bytes() for file in files)
    return sha256(b"\0".join(parts)).hexdigest()[:12]


def homes() -> str:
    """What may define a class of a config, in words."""
    return " or ".join(["lmx", *named()])

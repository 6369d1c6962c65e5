"""Recipes: what it takes to ask a question of the field, under a name. One YAML file each; listing recipes/ is the registry.

sweep    settings and axes, as `lmx sweep` takes them
tune     KEY=A,B,C, as its --tune takes it; optional
"""

from collections.abc import Sequence

from lmx.errors import LmxError, nearest
from lmx.schema.choices import CONF, read, summary

FOLDER = CONF.parent / "recipes"
KEYS = ("recipe=", "+recipe=")


def recipes() -> dict[str, str]:
    """name -> one line"""
    return {path.stem: summary(path) for path in sorted(FOLDER.glob("*.yaml"))}


def opened(settings: Sequence[str]) -> tuple[list[str], str | None]:
    """`+recipe=NAME` gives way to its settings, which others that are typed replace; -> all settings, and what it tunes
    unless that is typed."""
    names = [setting.partition("=")[2] for setting in settings if setting.startswith(KEYS)]
    if not names:
        return [*settings], None
    known = recipes()
    if len(names) > 1 or names[0] not in known:
        got = " and ".join(map(repr, names))
        raise LmxError(f"recipe must be one of {', '.join(known)}, got {got}.{nearest(names[0], known)}")
    found = read(FOLDER / f"{names[0]}.yaml")
    typed = [setting for setting in settings if not setting.startswith(KEYS)]
    keys = set(map(key, typed))
    tune = found.get("tune")
    return [*(one for one in found["sweep"] if key(one) not in keys), *typed], None if tune and key(
        tune
    ) in keys else tune


def key(setting: str) -> str:
    """A run has one budget, in whatever it is counted."""
    return "budget" if setting.startswith("budget.") else setting.partition("=")[0]

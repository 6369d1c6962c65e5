"""What is typed on the command line: `key=value` and `group=choice` in Hydra's grammar, never a change of the keys."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from lmx.errors import LmxError
from lmx.schema.choices import choices
from lmx.schema.values import clean, show

KEY = re.compile(r"[A-Za-z_]\w*(?:[./]\w+)*")
SECRET = re.compile(
    r"(^|[._/])(api_?key|access_?key|private_?key|secret|secrets|password|passwd|credentials?|token|auth)$",
    re.I,
)
LONGEST, LONGEST_KEY = 4096, 100  # characters
DEEPEST = 20  # brackets within each other


@dataclass(frozen=True)
class Setting:
    """`key=value`; `text` is the value as typed, `several` is true for a list of alternatives, as a sweep wants it."""

    key: str
    value: Any
    text: str
    several: bool


def read(typed: str) -> Setting:
    """Raises LmxError for what is not `key=value`. A value that Hydra's grammar cannot read is plain text."""
    if len(typed) > LONGEST or max(typed.count(bracket) for bracket in "[{(") > DEEPEST:
        raise LmxError(f"{show(typed)} is too long or too deep for one setting.")
    if not typed.isprintable():
        raise LmxError(f"{show(typed)} must be one line of printable characters.")
    key, equals, text = typed.partition("=")
    refuse(typed, key, equals, text)
    override = parse(typed)
    several = override is not None and override.is_sweep_override()
    value = override.value() if override and not several else text
    return Setting(key=key, value=value, text=text, several=several)


def refuse(typed: str, key: str, equals: str, text: str) -> None:
    """Raises LmxError for every form that is not `key=value`."""
    bare = clean(key.strip().lstrip("+~"))
    if bare.partition(".")[0].partition("/")[0] == "hydra":
        raise LmxError(f"{bare} must not be set: lmx composes with Hydra, whose own settings are fixed.")
    if SECRET.search(bare):
        raise LmxError(
            f"{bare} must not be a setting: a config is stored and shared, a secret is not. Use `wandb login`."
        )
    if bare == "recipe":
        raise LmxError(f"recipe must go with lmx sweep. Type lmx sweep +recipe={clean(text)}.")
    if key.startswith("+"):
        raise LmxError(
            f"{show(typed)} must not add a key: a config has a fixed set of them. Type {clean(f'{bare}={text}')} for one it has."
        )
    if key.startswith("~"):
        raise LmxError(f"{show(typed)} must not remove a key: each is needed. Type {bare}=... to change its value.")
    if not equals:
        raise LmxError(f"{show(typed)} must be written key=value, as in seed=1 or objective=mlm.")
    if len(key) > LONGEST_KEY or not KEY.fullmatch(key):
        raise LmxError(f"{show(key)} must be a key such as optim.lr or a group such as objective.")
    if not text.strip():
        raise LmxError(f"{key} must have a value. Type {key}=null for none, where a key allows it.")
    if any(part.startswith("_") for part in re.split("[./]", key)):
        raise LmxError(f"{key} must not be set: what is built is chosen by group, as in objective=mlm (`lmx list`).")
    if "${" in text:
        raise LmxError(f"{key} must be a plain value, got {show(text)}.")


@cache
def parser() -> OverridesParser:
    return OverridesParser.create()


def parse(typed: str) -> Override | None:
    """None for what the grammar cannot read, such as `data.path=~/ü (1).txt`."""
    try:
        return parser().parse_override(typed)
    except HydraException:
        return None


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A key and what it may be: one of `values`, as typed, or a number between two `ends`, on a logarithmic scale if `log`."""

    key: str
    values: tuple[str, ...] = ()
    ends: tuple[float, float] | None = None
    log: bool = False


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """`a=1,2 b=3` -> [[a=1, b=3], [a=2, b=3]]: the axes of a sweep, with Hydra's ranges, choices and globs."""
    return [list(point) for point in product(*map(settings, overrides))]


def settings(typed: str) -> list[str]:
    """One override for each alternative."""
    found = axis(typed)
    if found is None:
        return [typed]
    if found.ends:
        raise LmxError(f"{found.key} must be a list of values or a range, got {show(typed.partition('=')[2])}.")
    return [f"{found.key}={value}" for value in found.values]


def axis(typed: str) -> Axis | None:
    """What is typed for several runs, None for one value. Where it is `interval(a,b)`, `tag(log, …)` makes it logarithmic."""
    setting = read(typed)
    if not setting.several:
        return None
    override = parse(typed)
    assert override is not None
    value = override.value()
    if isinstance(value, IntervalSweep):
        return interval(setting, value)
    if isinstance(value, Glob):
        names = value.filter(list(choices(setting.key)))
    else:
        names = [tidy(value) for value in override.sweep_string_iterator()]
    if isinstance(value, RangeSweep) and value.stop is not None:  # a sum of steps may fall a hair short of it
        names = [name for name in names if float(name) != value.stop]
    if not names:
        raise LmxError(f"{setting.key} must have at least one value, got {show(setting.text)}.")
    return Axis(key=setting.key, values=tuple(dict.fromkeys(names)))


def interval(setting: Setting, value: IntervalSweep) -> Axis:
    low, high, log = value.start, value.end, "log" in (value.tags or ())
    if low is None or high is None or not low < high or (log and low <= 0):
        raise LmxError(f"{setting.key} must go from a number to a larger one, got {show(setting.text)}.")
    return Axis(key=setting.key, ends=(low, high), log=log)


def tidy(value: str) -> str:
    """range(0.1,0.5,0.1) gives 0.30000000000000004: a sum of steps, rounded to what was meant."""
    try:
        return value if len(value) < 16 else f"{float(value):.12g}"
    except ValueError:
        return value

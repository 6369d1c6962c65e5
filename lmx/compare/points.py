"""The points of a sweep: every combination of its axes, or some that are drawn, each as an arm of a comparison.

A setting belongs to the points that have its key: with objective=clm,mlm and objective.rate=0.15,0.3 there are three, since clm
has no rate.
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from math import exp, log
from typing import Any

from lmx.compare.arms import ALIKE, Arm, arm, flatten
from lmx.config import Axis, axis, groups, places, plain
from lmx.errors import LmxError


@dataclass(frozen=True)
class Space:
    """`axes` without that of seeds, and what is `typed` for all points."""

    axes: Sequence[Axis]
    typed: Sequence[str]
    seeds: Sequence[int]

    @property
    def keys(self) -> list[str]:
        return [axis.key for axis in self.axes]


def space(settings: Sequence[str]) -> Space:
    """Raises LmxError for no axes, an axis along which nothing can be compared, and a key that no point has."""
    for setting in settings:
        group, _, option = setting.partition(".")
        if group == "sweep":
            name, _, value = option.partition("=")
            raise LmxError(f"sweep.{name} must be an option, not part of a run's config. Type --{name} {value}.")
    axes = {found.key: found for setting in settings if (found := axis(setting))}
    typed = [setting for setting in settings if key_of(setting) not in axes]
    seeds = axes.pop("seed", None)
    single = [setting for setting in typed if setting.startswith("seed=")]
    typed = [setting for setting in typed if setting not in single]
    if not axes:
        raise LmxError(
            "lmx sweep must have a key with several values, got none. Type e.g. lmx sweep objective=mlm objective.rate=0.15,0.3."
        )
    for key in axes:
        if key.partition(".")[0] in ALIKE:
            raise LmxError(
                f"{key} must not be an axis: runs that differ in it are not to be ranked. Sweep once for each."
            )
    numbers = [int(value) for value in whole(seeds)] if seeds else [int(one.partition("=")[2]) for one in single] or [0]
    found = Space(list(axes.values()), typed, numbers)
    refuse_unknown(found)
    return found


def whole(seeds: Axis) -> Sequence[str]:
    if seeds.ends or not all(value.isdigit() for value in seeds.values):
        raise LmxError(f"seed must be whole numbers, got {','.join(seeds.values)}. Type e.g. 'seed=range(0,3)'.")
    return seeds.values


def refuse_unknown(space: Space) -> None:
    """Raises LmxError, as one run would, for a key that is in no composition."""
    known = set(groups())
    sides = [axis for axis in space.axes if axis.key in known]
    shared = [setting for setting in space.typed if key_of(setting) in known]
    compositions = [(*shared, *chosen) for chosen in product(*map(alternatives, sides))]
    values = [axis.key for axis in space.axes] + [key_of(setting) for setting in space.typed]
    for key in [key for key in values if key not in known]:
        if not any(has(key, composition) for composition in compositions):
            plain([*compositions[0], f"{key}=0"])


def alternatives(axis: Axis) -> list[str]:
    return [f"{axis.key}={value}" for value in axis.values]


@cache
def slots_of(composition: tuple[str, ...]) -> dict[str, Any]:
    return {slot.name: slot for slot in places(composition)}


def has(key: str, composition: tuple[str, ...]) -> bool:
    """Whether a choice of groups has a key, or a place for one of the user's own."""
    slots = slots_of(composition)
    parts = key.split(".")
    above = [slots.get(".".join(parts[:size])) for size in range(1, len(parts))]
    return key in slots or any(one and isinstance(one.value, dict) and "_target_" not in one.value for one in above)


def grid(space: Space) -> list[list[str]]:
    """Every combination, the first axis slowest. Raises LmxError for an interval, which has no end of values."""
    for one in space.axes:
        if one.ends:
            raise LmxError(
                f"{one.key} must have a list of values in a grid, got an interval. Type --sampler random or tpe."
            )
    return [list(point) for point in product(*map(alternatives, space.axes))]


def drawn(space: Space, number: int) -> list[list[str]]:
    """The same points whenever they are drawn."""
    numbers = random.Random(0)
    return [[f"{axis.key}={draw(axis, numbers)}" for axis in space.axes] for _ in range(number)]


def draw(axis: Axis, numbers: random.Random) -> str:
    if axis.ends is None:
        return numbers.choice(axis.values)
    low, high = axis.ends
    if isinstance(low, int) and isinstance(high, int) and not axis.log:
        return str(numbers.randint(low, high))
    value = exp(numbers.uniform(log(low), log(high))) if axis.log else numbers.uniform(low, high)
    return str(round(value)) if isinstance(low, int) else f"{value:.4g}"


@dataclass(frozen=True)
class Point:
    """An arm as `lmx compare` would be told of it: a word, and what all share."""

    word: str
    shared: Sequence[str]
    seeds: Sequence[int]

    def arm(self, *further: str) -> Arm:
        """Raises LmxError for a config that cannot be."""
        return arm(" ".join([self.word, *further]), self.shared, self.seeds)


def point(settings: Sequence[str], space: Space) -> Point:
    """Named after what of the settings belongs to it."""
    known = set(groups())
    every = [*space.typed, *settings]
    composition = tuple(setting for setting in every if key_of(setting) in known)
    belongs = [setting for setting in every if key_of(setting) in known or has(key_of(setting), composition)]
    if spaced := [setting for setting in settings if " " in setting]:
        raise LmxError(f"an axis must have values without blanks, got {spaced[0]}.")
    objective = next((one for one in reversed(every) if key_of(one) == "objective"), "objective=clm")
    rest = [setting for setting in belongs if key_of(setting) != "objective"]
    word = [objective.partition("=")[2], *(setting for setting in rest if setting in settings)]
    return Point(" ".join(word), [setting for setting in rest if setting not in settings], space.seeds)


def key_of(setting: str) -> str:
    return setting.partition("=")[0]


def arms_of(chosen: Iterable[Sequence[str]], space: Space) -> tuple[list[tuple[Point, Arm]], dict[str, str]]:
    """Points that differ, and by name why others cannot be. Raises LmxError where none can."""
    found: dict[str, tuple[Point, Arm]] = {}
    broken: dict[str, LmxError] = {}
    for settings in chosen:
        one = point(settings, space)
        try:
            made = one.arm()
        except LmxError as error:
            broken[one.word.replace(" objective.", " ")] = error
        else:
            found.setdefault(made.identities[0], (one, made))
    if broken and not found:
        raise next(iter(broken.values()))
    return list(found.values()), {name: str(error) for name, error in broken.items()}


def values(config: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """What a config has of swept keys; None of a key that it has not."""
    flat = flatten({key: value for key, value in config.items() if key != "choices"})
    return {key: config["choices"].get(key, flat.get(key)) for key in keys}


def numeric(points: Iterable[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in points)


def seen(points: Mapping[str, Mapping[str, Any]], key: str) -> Iterator[Any]:
    yield from dict.fromkeys(point[key] for point in points.values() if point[key] is not None)

"""Every place of a composed config that holds a value, with the type it must have."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Interval

from lmx.errors import LmxError
from lmx.schema import plugins
from lmx.schema.constructors import Constructors, NoSuchTarget, Target
from lmx.schema.values import Matches, Part

NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
Name: Any = Annotated[
    str, Matches(NAME, "be at most 100 letters, digits, '.', '_' and '-', beginning with a letter or digit")
]
ROOT: dict[str, Any] = {  # what a run has besides its groups
    "seed": Annotated[int, Interval(ge=0, lt=2**32)],
    "length": Annotated[int, Interval(ge=8, le=2**20)],
    "packing": Literal["concat", "docmask", "bestfit"],
    "device": Literal["auto", "cpu", "cuda", "mps"],
    "name": Name | None,
    "group": Name | None,
    "init_from": str | None,
    "branch": bool,
    "runs": str | None,
}
NODE = Annotated[dict, Part("")]


@dataclass(frozen=True)
class Slot:
    """`node[key]`, called `name` on the command line."""

    node: dict[str, Any]
    key: str
    name: str
    form: Any  # see lmx.schema.values

    @property
    def value(self) -> Any:
        return self.node[self.key]

    @property
    def part(self) -> Part | None:
        """Set where the value is an object with keys of its own."""
        return part_of(self.form)

    @property
    def holds_parts(self) -> bool:
        """Whether the value is a mapping of such objects by names of the user."""
        return get_origin(self.form) is dict and part_of(get_args(self.form)[1]) is not None


def part_of(form: Any) -> Part | None:
    forms = get_args(form) if get_origin(form) in (Union, UnionType) else [form]
    marks = [mark for one in forms if get_origin(one) is Annotated for mark in get_args(one)[1:]]
    return next((mark for mark in marks if isinstance(mark, Part)), None)


def nodes(value: Any, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, node) of the outermost mappings with a `_target_` within a value."""
    if isinstance(value, dict) and "_target_" in value:
        yield name, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from nodes(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from nodes(inner, f"{name}[{number}]")


def slots(config: dict[str, Any], constructors: Constructors) -> Iterator[Slot]:
    """All of them, outer before inner; a value may be replaced before the next slot is asked for.

    Raises LmxError for a key that has no type.
    """
    yield from within("", config, {key: ROOT.get(key, NODE) for key in config}, constructors)


def within(name: str, node: dict[str, Any], forms: Mapping[str, Any], constructors: Constructors) -> Iterator[Slot]:
    for key in [key for key in node if not str(key).startswith("_")]:
        full = f"{name}.{key}" if name else key
        if key not in forms:
            raise LmxError(f"{full} must not be set: {node['_target_']} takes no '{key}'.")
        yield Slot(node=node, key=key, name=full, form=forms[key])
        for inner, child in nodes(node[key], full):
            knobs = target(inner, child, constructors).knobs
            yield from within(
                inner, child, {key: knob.form for key, knob in knobs.items() if knob.keyword}, constructors
            )


def target(name: str, node: Mapping[str, Any], constructors: Constructors) -> Target:
    try:
        return constructors.target(str(node["_target_"]))
    except NoSuchTarget:
        raise LmxError(
            f"{name}._target_ must be a class defined in {plugins.homes()}, got '{node['_target_']}'."
        ) from None

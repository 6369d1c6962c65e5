"""From config nodes to objects: the one place that instantiates, and only classes that lmx or a plug-in defines."""

import importlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from lmx.errors import LmxError
from lmx.schema import plugins, rules

ALLOWED: tuple[str, ...] = ()  # classes of other packages, by exact full name
INJECTED = frozenset(  # keyword-only parameters that the code hands over, so that no YAML has them
    {"corpus", "length", "model", "packing", "vocabulary", "vocabulary_size"}
)
CLASS = re.compile(r"([A-Za-z][A-Za-z0-9_]*)(\.[a-z_][a-z0-9_]*)+\.[A-Z][A-Za-z0-9]*")
DEEPEST = 30  # nodes within each other


def build(node: Mapping[str, Any], **injected: Any) -> Any:
    """The object that `node` describes, children first. `injected` goes to every constructor, at any depth, that has a
    parameter of that name and no value for it in the config.

    Raises LmxError before anything is built when the tree names a class that is not allowed or holds a special key, and
    when a value is unknown, missing or breaks the class's RULES.
    """
    plain = contained(node)
    targets = {name: resolve(name) for name in vet(plain, depth=0)}
    return construct(plain, targets, injected)


def contained(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """omegaconf's nodes as dicts and lists. Whoever has one has imported it; `lmx show` has none, and must not wait for it."""
    omegaconf = sys.modules.get("omegaconf")
    if omegaconf and omegaconf.OmegaConf.is_config(node):
        return omegaconf.OmegaConf.to_container(node, resolve=False)
    return node


def vet(value: Any, depth: int) -> Iterator[str]:
    """Every `_target_` of the tree. Raises LmxError for what a resolved config cannot contain."""
    if depth > DEEPEST:
        raise LmxError(f"a config must not be deeper than {DEEPEST} levels.")
    if isinstance(value, str) and "${" in value:
        raise LmxError(f"a config must be resolved before it is built, got {value!r:.60}.")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str) or (key.startswith("_") and key != "_target_"):
                raise LmxError(f"a config must not contain the key {key!r:.60}.")
            yield from [inner] if key == "_target_" else vet(inner, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from vet(inner, depth + 1)


def resolve(name: Any) -> type:
    """The class of that full name. Nothing is imported but modules of lmx and of the plug-ins that this invocation names, and
    what is in ALLOWED."""
    shape = CLASS.fullmatch(name) if isinstance(name, str) else None
    if not (shape and shape[1] in ("lmx", *plugins.named())) and name not in ALLOWED:
        advice = f" If you trust the package {shape[1]}, add --plugin {shape[1]}." if shape else ""
        raise LmxError(f"_target_ must be a class defined in {plugins.homes()}, got {name!r:.60}.{advice}")
    module, _, short = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), short, None)
    except ModuleNotFoundError as error:
        if not error.name or not f"{module}.".startswith(f"{error.name}."):
            raise LmxError(f"{short} needs the package {error.name}. Type pip install {error.name}.") from error
        found = None
    if not isinstance(found, type) or f"{found.__module__}.{found.__qualname__}" != name:
        raise LmxError(f"_target_ must be a class defined in {plugins.homes()}, got {name!r:.60}.")
    return found


def construct(value: Any, targets: Mapping[str, type], injected: Mapping[str, Any]) -> Any:
    if isinstance(value, list | tuple):
        return [construct(inner, targets, injected) for inner in value]
    if not isinstance(value, Mapping):
        return value
    values = {key: construct(inner, targets, injected) for key, inner in value.items() if key != "_target_"}
    if "_target_" not in value:
        return values
    cls = targets[value["_target_"]]
    parameters = inspect.signature(cls).parameters
    values = {name: injected[name] for name in parameters if name in injected} | values
    check(cls, parameters, values, injected)
    return cls(**values)


def check(
    cls: type,
    parameters: Mapping[str, inspect.Parameter],
    values: Mapping[str, Any],
    injected: Mapping[str, Any],
) -> None:
    """Raises LmxError for a config that another version of lmx wrote, and for a broken rule."""
    unknown = [name for name in values if name not in parameters]
    if unknown:
        raise LmxError(f"{cls.__name__} must not be given '{unknown[0]}': it takes {', '.join(parameters)}.")
    needed = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    lacking = [name for name in needed if name not in values]
    if lacking:
        raise LmxError(f"{cls.__name__} must be given '{lacking[0]}', which the config lacks.")
    known = dict(injected) | dict(values)
    if "vocabulary" in injected:  # in a rule, it is a number of rows
        known["vocabulary"] = injected["vocabulary"].size
    rules.check(getattr(cls, "RULES", {}), known)

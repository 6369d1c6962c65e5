"""From conf/ and the command line to the config of one run: composed once, checked, without importing what it configures."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf

from lmx.errors import LmxError, nearest
from lmx.overrides import SECRET, Axis, Setting, axis, expand, read
from lmx.schema import plugins, rules
from lmx.schema.choices import CONF, choices, files, groups, holders
from lmx.schema.constructors import SOURCE, Constructors
from lmx.schema.slots import ROOT, Slot, nodes, slots, target
from lmx.schema.values import Mismatch, clean, conform, show

__all__ = ["CONF", "Axis", "axis", "choices", "expand", "groups", "load", "places", "plain"]

MISSING = "???"
REFERENCE = re.compile(r"\$\{([a-z_]+(?:\.[a-z_]+)+)\}")


def load(overrides: Sequence[str] = (), *, conf: Path = CONF, source: Path = SOURCE) -> DictConfig:
    """The config of a run, complete and checked. Raises LmxError, one line, for every mistake in `overrides`."""
    config, constructors, chosen = composed(overrides, conf, source)
    for slot in slots(config, constructors):
        follow(slot, config)
        slot.node[slot.key] = checked(slot, constructors)
    check_rules(config, constructors)
    used = sorted({node["_target_"].partition(".")[0] for _, node in all_nodes(config)} - {"lmx"})
    told = {"choices": chosen, "plugins": {package: plugins.fingerprint(package) for package in used}}
    return OmegaConf.create(config | told, flags={"struct": True})


def plain(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The config of `load` as plain containers."""
    return OmegaConf.to_container(load(overrides), resolve=True)  # type: ignore[return-value]


def places(overrides: Sequence[str] = (), *, conf: Path = CONF, source: Path = SOURCE) -> list[Slot]:
    """The keys of a composition, complete or not."""
    config, constructors, _ = composed(overrides, conf, source)
    return list(slots(config, constructors))


def composed(overrides: Sequence[str], conf: Path, source: Path) -> tuple[dict[str, Any], Constructors, dict[str, str]]:
    """conf/config.yaml with the chosen files and the typed values. What is typed is checked here, so that errors name it."""
    settings = {setting.key: setting for setting in map(read, overrides)}  # the last one counts
    for setting in settings.values():
        if setting.several:
            raise LmxError(f"{setting.key} must have one value, got {show(setting.text)}. Use `lmx sweep` for several.")
    known = groups(conf)
    config, chosen = compose_files([setting for key, setting in settings.items() if key in known], conf)
    values = [setting for key, setting in settings.items() if key not in known]
    constructors = Constructors(source)
    replace_budget(config, values)
    for setting in sorted(values, key=depth):
        assign(setting, {slot.name: slot for slot in slots(config, constructors)}, conf)
    return config, constructors, chosen


def depth(setting: Setting) -> int:
    """By it, what is around comes before what is in it: data.sources.a=text, then data.sources.a.path=x."""
    return setting.key.count(".")


def compose_files(picks: Iterable[Setting], conf: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The merged files, and group -> the choice that was made, also where a file made it."""
    for pick in picks:
        known = choices(pick.key, conf)
        if pick.value not in list(known):
            raise LmxError(
                f"{pick.key} must be one of {', '.join(known)}, got {show(pick.value)}.{nearest(pick.text.lower(), known)}"
            )
    plain, chosen = merged(tuple(f"{pick.key}={pick.value}" for pick in picks), tuple(search_path()), conf)
    known = groups(conf)
    return deepcopy(plain), {group: name for group, name in chosen.items() if group in known}


@cache
def merged(typed: tuple[str, ...], search: tuple[str, ...], conf: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """By Hydra, which takes a third of a second: points of a sweep mostly make the same choices."""
    try:
        with initialize_config_dir(str(conf.resolve()), job_name="lmx", version_base="1.3"):
            config = compose("config", overrides=[*typed, *search], return_hydra_config=True)
    except ConfigCompositionException as error:
        told = str(error).splitlines()[0]
        raise LmxError(f"{' '.join(typed)} must be choices that go together: {told}.") from None
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=False)  # type: ignore[assignment]
    return plain, plain.pop("hydra")["runtime"]["choices"]


def search_path() -> list[str]:
    """Where else Hydra looks for choices; by file, because it would import a package. Empty without plug-ins."""
    places = [
        f"file://{folder}/conf".replace("\\", "\\\\").replace("'", "\\'") for folder in plugins.folders().values()
    ]
    quoted = ",".join(f"'{place}'" for place in places)
    return [f"hydra.searchpath=[{quoted}]"] if places else []


def replace_budget(config: dict[str, Any], values: Iterable[Setting]) -> None:
    """A budget has one key: typing one takes the place of the default."""
    typed = [setting for setting in values if setting.key.startswith("budget.")]
    given = [setting.key for setting in typed if setting.value is not None]
    if len(given) > 1:
        raise LmxError(f"budget must have exactly one key, got {' and '.join(given)}. Type one of them.")
    if typed and not given:
        raise LmxError("budget must have exactly one key, got none. Type e.g. budget.steps=1000.")
    if typed:
        config["budget"] |= {key: None for key in config["budget"] if key != "_target_"}


def assign(setting: Setting, known: Mapping[str, Slot], conf: Path) -> None:
    """Put a typed value into its place. Raises LmxError if there is none or it does not fit."""
    slot = known.get(setting.key)
    parent, _, last = setting.key.rpartition(".")
    above = known.get(parent)
    hostile = [key for key in keys_within(setting.value) if key.startswith("_") or SECRET.search(key)]
    if hostile:
        raise LmxError(f"{setting.key} must not contain the key {show(hostile[0])}.")
    if slot is None and above and isinstance(above.value, dict) and "_target_" not in above.value:
        above.value[last] = entry(setting, above, conf)
    elif slot is None:
        raise LmxError(unknown(setting, known, conf))
    elif slot.part:
        raise LmxError(whole(setting, slot, conf))
    else:
        slot.node[slot.key] = fitted(slot, setting)


def entry(setting: Setting, above: Slot, conf: Path) -> Any:
    """A value in a mapping whose keys the user chooses. Where objects are wanted, a choice of the group makes one."""
    if not above.holds_parts:
        return setting.value
    own = above.name.replace(".", "/").removesuffix("s")
    if own in groups(conf):  # eval.yardsticks takes what is in eval/yardstick
        return with_entry(setting, own, conf)
    group = setting.key.partition(".")[0]
    pick = Setting(key=group, value=setting.value, text=setting.text, several=False)
    return compose_files([pick], conf)[0][group]


def with_entry(setting: Setting, group: str, conf: Path) -> Any:
    """The file of a choice of a group that no other file has by default."""
    known = choices(group, conf)
    if setting.value not in list(known):
        raise LmxError(
            f"{setting.key} must be one of {', '.join(known)}, got {show(setting.value)}.{nearest(setting.text.lower(), known)}"
        )
    return OmegaConf.to_container(OmegaConf.load(files(conf)[f"{group}/{setting.value}.yaml"]))


def keys_within(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from map(str, value)
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from keys_within(inner)


def fitted(slot: Slot, setting: Setting) -> Any:
    """The typed value; `name=2024` is text where text is wanted."""
    try:
        return conform(setting.value, slot.form)
    except Mismatch as miss:
        if isinstance(setting.value, int | float):
            try:
                return conform(setting.text, slot.form)
            except Mismatch:
                pass
        raise LmxError(message(slot, miss)) from None


def message(slot: Slot, miss: Mismatch) -> str:
    return f"{clean(slot.name + miss.where)} must {miss.rule}, got {show(miss.value)}.{miss.hint}"


def follow(slot: Slot, config: dict[str, Any]) -> None:
    """In a file, `${objective.layout}` stands for the value of that key; nobody can type it."""
    if isinstance(slot.value, str) and (reference := REFERENCE.fullmatch(slot.value)):
        value: Any = config
        for name in reference[1].split("."):
            value = value[name]
        slot.node[slot.key] = value


def checked(slot: Slot, constructors: Constructors) -> Any:
    """The value of a slot as its type wants it, complete, plain, and of the right class."""
    if slot.value == MISSING:
        raise LmxError(f"{slot.name} must have a value. Type {slot.name}=...")
    if isinstance(slot.value, str) and "${" in slot.value:
        raise LmxError(f"{slot.name} must be a plain value, got {show(slot.value)}.")
    try:
        value = conform(slot.value, slot.form)
    except Mismatch as miss:
        raise LmxError(message(slot, miss)) from None
    if slot.part and slot.part.name and not constructors.descends(value["_target_"], slot.part.name):
        raise LmxError(f"{slot.name}._target_ must be a {slot.part.name}, got '{value['_target_']}'.")
    return value


def check_rules(config: dict[str, Any], constructors: Constructors) -> None:
    """Rules over several values. Those of the run as a whole may be named too, and the vocabulary where it is known."""
    shared = {key: value for key, value in config.items() if key in ROOT}
    if isinstance(size := config.get("tokenizer", {}).get("size"), int):
        shared["vocabulary"] = size
    for name, node in list(all_nodes(config)):
        rules.check(target(name, node, constructors).rules, shared | node)


def all_nodes(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, node in nodes(config, prefix):
        yield name, node
        yield from all_nodes({key: value for key, value in node.items() if key != "_target_"}, name)


def unknown(setting: Setting, known: Mapping[str, Slot], conf: Path) -> str:
    """A key that does not exist: the same key elsewhere, or in another choice, or the nearest one."""
    key, last = setting.key, setting.key.rpartition(".")[2]
    names = [name for name, slot in known.items() if not slot.part] + groups(conf)
    same = [name for name in names if re.split("[./]", name)[-1] == last]
    for group in groups(conf):
        prefix = group.replace("/", ".") + "."
        having = holders(group, key.removeprefix(prefix), conf)
        if having and (key.startswith(prefix) or not same):
            return f"{prefix}{last} must be set with {group}={either(having)}, which {'has' if len(having) == 1 else 'have'} it."
    if same:
        return f"{key} must be a key of this config. Did you mean {either(same)}?"
    close = get_close_matches(key.lower(), names, n=1) or close_ends(last.lower(), names)
    advice = f"Did you mean {close[0]}?" if close else "`lmx config` prints all keys, `lmx list` the groups."
    return f"{key} must be a key of this config or a group. {advice}"


def either(names: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def close_ends(last: str, names: Sequence[str]) -> list[str]:
    """`rat` -> objective.rate"""
    ends = {name.rpartition(".")[2]: name for name in names}
    return [ends[end] for end in get_close_matches(last, ends, n=1)]


def whole(setting: Setting, slot: Slot, conf: Path) -> str:
    """A value where a group of keys is: the group is chosen with a slash, its keys are set one by one."""
    group = slot.name.replace(".", "/")
    if group in groups(conf):
        return f"{slot.name} must be chosen as a group: type {group}={clean(setting.text)}."
    inner = ", ".join(f"{slot.name}.{key}" for key in slot.value if not key.startswith("_"))
    return f"{slot.name} must be set key by key: {inner}."

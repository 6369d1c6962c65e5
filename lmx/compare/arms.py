"""The arms of a comparison, and which run is which: a hash of all that changes a run's numbers, and of nothing else."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from lmx.config import plain
from lmx.errors import LmxError
from lmx.runs import Run, find

NUMERICS = 1  # raised when the same config comes to give other numbers, so that no old run is taken for a new one
ELSEWHERE = ("eval", "launcher", "track", "device", "name", "group", "runs", "choices")  # who watches, where it runs
BEFORE = {
    "parallel": "ddp",
    "gather": "fp32",
}  # keys of the trainer that have not always been there, at what all runs had
ALIKE = ("budget", "length", "data", "tokenizer")  # in which runs may not differ that are to be ranked
BOOKKEEPING = ("log_every", "checkpoint_every", "keep", "recompute", "offload")  # of the trainer: the same bits


@dataclass(frozen=True, kw_only=True)
class Arm:
    """`name` is what was typed, without `objective.`; `configs` has one config for each seed."""

    name: str
    configs: Sequence[Mapping[str, Any]]
    overrides: Sequence[Sequence[str]]

    @property
    def identities(self) -> list[str]:
        return [identity(config) for config in self.configs]


def arms(words: Sequence[str], shared: Sequence[str], seeds: Sequence[int]) -> list[Arm]:
    """`mlm` and `mlm objective.rate=0.4` -> arms. Raises LmxError for fewer than two, and for two that are the same or unlike."""
    if len(words) < 2:
        raise LmxError(f"lmx compare must have at least two arms, got {len(words)}. Type e.g. lmx compare clm mlm.")
    found = [arm(word, shared, seeds) for word in words]
    known: dict[str, str] = {}
    for one in found:
        twin = known.setdefault(one.identities[0], one.name)
        if twin != one.name or sum(other.name == one.name for other in found) > 1:
            raise LmxError(f"arms must differ, got {twin} and {one.name}, which are the same. Name each once.")
        refuse_unlike(found[0], one)
    return found


def refuse_unlike(one: Arm, other: Arm) -> None:
    """Raises LmxError for arms whose runs could not be compared, before they are made."""
    ours, theirs = (
        {key: config["choices"].get(key) for key in ALIKE} | flatten({key: config[key] for key in ALIKE})
        for config in (one.configs[0], other.configs[0])
    )
    for key, (value, other_value) in differences([ours, theirs]).items():
        raise LmxError(
            f"arms to compare must have the same {key}, got {json.dumps(value)} of {one.name} and {json.dumps(other_value)} of "
            f"{other.name}: their numbers would mean different things. Type it once, for all arms."
        )


def arm(word: str, shared: Sequence[str], seeds: Sequence[int]) -> Arm:
    """An objective, and settings of its own after it."""
    objective, *own = word.split()
    if "=" in objective:
        raise LmxError(f"an arm must begin with an objective, got '{word}'. Type e.g. 'mlm {word}'.")
    typed = [f"objective={objective}", *shared, *own]
    if any(setting.startswith("seed=") for setting in typed):
        raise LmxError("seeds must be typed as --seeds N, got seed=: arms are paired by them.")
    config = plain(typed)
    return Arm(
        name=called(objective, own),
        configs=[config | {"seed": seed} for seed in seeds],
        overrides=[[*typed, f"seed={seed}"] for seed in seeds],
    )


def named(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs that differ in their seeds alone are one arm: what it is called -> its runs. Raises LmxError for a run given twice."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        config = run.config()
        group = found.setdefault(identity(config | {"seed": 0}), [])
        if twin := next((other for other in group if other.config()["seed"] == config["seed"]), None):
            raise LmxError(
                f"--runs must differ in what changes their numbers, got {twin.name} and {run.name}, which do not."
            )
        group.append(run)
    configs = [group[0].config() for group in found.values()]
    names = [str(config["name"] or config["choices"]["objective"]) for config in configs]
    return dict(zip(told_apart(names, configs), found.values(), strict=True))


def told_apart(names: Sequence[str], configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each name, with the settings that tell it from others of the same name."""
    told = []
    for name, config in zip(names, configs, strict=True):
        same = [numeric(other) for twin, other in zip(names, configs, strict=True) if twin == name]
        flat = flatten(numeric(config))
        own = [f"{key}={json.dumps(flat[key])}" for key in differences(same) if key in flat and key != "seed"]
        told.append(called(name, own))
    return told


def called(objective: str, own: Sequence[str]) -> str:
    """`mlm rate=0.4`"""
    return " ".join([objective, *(setting.removeprefix("objective.") for setting in own)])


def identity(config: Mapping[str, Any]) -> str:
    """12 hex digits. Who launches or watches a run, and how often it is evaluated or saved, does not matter."""
    return sha256(json.dumps([NUMERICS, numeric(config)], sort_keys=True).encode()).hexdigest()[:12]


def numeric(config: Mapping[str, Any]) -> dict[str, Any]:
    """What changes numbers: all that is not known to leave them alone, so that a new key counts. Not where it is null, as an
    option that is off is what there was before there was the option."""
    found = {key: value for key, value in config.items() if key not in ELSEWHERE}
    trainer = {key: value for key, value in config["trainer"].items() if key not in BOOKKEEPING}
    found["trainer"] = {key: value for key, value in trainer.items() if BEFORE.get(key) != value}
    if not found.get("plugins"):  # with the code that they had
        found.pop("plugins", None)
    return without_null(found)


def without_null(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {key: without_null(child) for key, child in value.items() if child is not None}


def existing(folder: Path) -> dict[str, Run]:
    """identity -> the run that got furthest, of all in a folder."""
    found: dict[str, Run] = {}
    for run in find(folder):
        try:
            key, state = identity(run.config()), run.status().get("state")
        except (LmxError, KeyError):  # damaged, or of another version
            continue
        if key not in found or state == "done" or found[key].status().get("state") != "done":
            found[key] = run
    return found


def differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """key -> its value in each config, of the keys in which they differ; None where one has no such key."""
    flat = [flatten(config) for config in configs]
    keys = dict.fromkeys(key for one in flat for key in one)
    values = {key: [one.get(key) for one in flat] for key in keys}
    return {key: row for key, row in values.items() if any(value != row[0] for value in row)}


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value:
        return {prefix: value}
    return {
        name: inner
        for key, child in value.items()
        for name, inner in flatten(child, f"{prefix}.{key}" if prefix else str(key)).items()
    }

"""Each value lives in exactly one YAML file: keys equal constructor signatures, and constructors have no defaults."""

import importlib
import inspect
import re
from pathlib import Path
from typing import get_args

import pytest
import yaml
from omegaconf import OmegaConf

from lmx.build import INJECTED
from lmx.schema.choices import CONF, choices, defaults, groups
from lmx.schema.constructors import Constructors
from lmx.schema.slots import ROOT
from lmx.schema.values import words

FILES = sorted(path.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml"))
CHOSEN = ("packing",)  # keys of the run itself that are chosen as a group, so that an objective may choose them, too
PARTS = [path for path in FILES if path.partition("/")[0] not in (*CHOSEN, "config.yaml")]


def chain(path: str) -> dict:
    """A file merged over those of its own group that it builds on, without other groups."""
    content = yaml.safe_load((CONF / path).read_text(encoding="utf-8"))
    merged: dict = {}
    for entry in content.pop("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            merged |= chain(f"{Path(path).parent.as_posix()}/{entry}.yaml")
        elif isinstance(entry, dict):
            packages = [key.rpartition("@")[2] for key in entry if not key.startswith("override ")]
            merged |= {package.partition(".")[0]: None for package in packages}  # a file of another group
    return merged | content


@pytest.mark.parametrize("path", PARTS)
def test_keys_equal_the_constructor(path):
    content = chain(path)
    knobs = Constructors().target(content.pop("_target_")).knobs
    keyword = {name for name, knob in knobs.items() if knob.keyword}
    assert set(content) <= keyword, "a key that the constructor does not take"
    assert keyword - set(content) <= INJECTED, "a knob without a value in YAML"
    assert not [name for name in content if knobs[name].default], "a default in Python and a value in YAML"


def test_budget_keys_equal_the_constructor():
    budget = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))["budget"]
    knobs = Constructors().target(budget.pop("_target_")).knobs
    assert set(knobs) == set(budget)
    assert not any(knob.default for knob in knobs.values())
    assert sum(value is not None for value in budget.values()) == 1


def test_run_keys_have_types():
    config = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))
    assert {*config, *CHOSEN} - {"defaults", "budget"} == set(ROOT)
    assert list(defaults())[-1] == "objective", "so that an objective may choose its data"


@pytest.mark.parametrize("key", CHOSEN)
def test_a_choice_sets_its_key(key):
    """packing=bestfit is typed as any key; what can be typed is what the key accepts."""
    assert set(choices(key)) == set(get_args(ROOT[key]))
    for name in choices(key):
        text = (CONF / key / f"{name}.yaml").read_text(encoding="utf-8")
        assert text.startswith("# @package _global_\n")
        assert yaml.safe_load(text) == {key: name}


def targets() -> list[str]:
    return sorted({chain(path)["_target_"] for path in PARTS})


@pytest.mark.parametrize("name", targets())
def test_source_says_what_python_says(name):
    """What `config` reads by ast is what `build` finds by importing."""
    module, _, short = name.rpartition(".")
    parameters = inspect.signature(getattr(importlib.import_module(module), short)).parameters
    knobs = Constructors().target(name).knobs
    assert list(knobs) == list(parameters)
    for parameter in parameters.values():
        assert parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD), "no *args, no **kwargs"
        assert knobs[parameter.name].keyword == (parameter.kind is parameter.KEYWORD_ONLY)


def comments(path: str) -> dict[str, str]:
    """Key at the top of a file -> what is said of it there: on its line and up to the next key."""
    found: dict[str, str] = {}
    key = ""
    for line in (CONF / path).read_text(encoding="utf-8").splitlines():
        begins = re.match(r"(\w+):", line)
        key = begins[1] if begins else key
        found[key] = found.get(key, "") + line.partition("#")[2] + " "
    return found


def demands(form) -> list[str]:
    """The words of a knob's choices, or its range."""
    told = words(form).removesuffix(" or null")
    number = re.fullmatch(r"a (?:whole )?number (.+)", told)
    if number:
        return [number[1]]
    return [] if told.startswith(("true", "a mapping")) else re.split(r", | or ", told)


@pytest.mark.parametrize("path", [path for path in FILES if path.startswith("objective/")])
def test_every_knob_of_an_objective_is_explained(path):
    """The paper in the first line; what each knob means, and all that it may be. Choices may be explained in another file."""
    assert re.search(r"\b(19|20)\d\d[),]", (CONF / path).read_text(encoding="utf-8").partition("\n")[0])
    content = yaml.safe_load((CONF / path).read_text(encoding="utf-8"))
    knobs = Constructors().target(content["_target_"]).knobs if "_target_" in content else {}
    for name in knobs.keys() & content.keys():
        said, wanted = comments(path)[name], demands(knobs[name].form)
        other = re.search(r"as in (\w+)", said)
        if other and "number" not in words(knobs[name].form):  # a range stands beside its knob
            said += comments(f"objective/{other[1]}.yaml")[name]
        assert said.strip(), name
        assert [word for word in wanted if word not in said] == [], name


@pytest.mark.parametrize("path", FILES)
def test_first_line_says_what_it_is(path):
    first = (CONF / path).read_text(encoding="utf-8").partition("\n")[0]
    assert first.startswith("# ")
    assert OmegaConf.load(CONF / path), "no duplicate keys"


def test_groups_and_choices():
    assert set(groups()) >= {
        "objective",
        "model",
        "tokenizer",
        "data",
        "optim",
        "optim/schedule",
        "trainer",
        "eval",
        "launcher",
        "track",
    }
    assert all(about for group in groups() for about in choices(group).values())
    assert all(name in choices(group) for group, name in defaults().items())

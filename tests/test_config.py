"""A config is complete and typed, or the mistake is one line that names the key, the value and what to type instead."""

import os
from functools import partial
from itertools import product
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lmx import config
from lmx.errors import LmxError
from tests import toy


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    return partial(config.load, **toy.write(tmp_path_factory.mktemp("toy")))


def test_defaults(load):
    composed = load()
    assert list(composed)[:3] == ["data", "optim", "objective"]
    assert composed.optim.lr == 0.01
    assert composed.budget == {"_target_": "lmx.parts.Budget", "steps": None, "seconds": 150.0}
    assert composed.choices == {
        "data": "inside",
        "optim": "plain",
        "optim/schedule": "flat",
        "objective": "ask",
    }
    assert OmegaConf.to_container(composed, throw_on_missing=True)


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("optim.lr=1", "optim.lr", 1.0),  # an integer is a number
        ("length=1e3", "length", 1000),
        ("optim.size=null", "optim.size", None),
        ("optim.size=1024", "optim.size", 1024),  # the end of a range given by a constant of another module
        ("optim.betas=[0,1]", "optim.betas", [0.0, 1.0]),
        ("objective.fast=true", "objective.fast", True),
        ("objective.fast=auto", "objective.fast", "auto"),
        ("data.path=a/b.txt", "data.path", "a/b.txt"),
        ("data.path=[a,b]", "data.path", ["a", "b"]),
        ("data.path=~/ü (1)=x.txt", "data.path", "~/ü (1)=x.txt"),  # beyond Hydra's grammar, so as it is
        ("data.path='a,b'", "data.path", "a,b"),
        ("data.path=2024", "data.path", "2024"),
        ("name=1e3", "name", "1e3"),
        ("optim/schedule=decay", "optim.schedule.decay", 0.5),
    ],
)
def test_value(load, override, key, value):
    got = OmegaConf.select(load([override]), key)
    assert got == value
    assert type(got) is type(value) or isinstance(value, list)


MISTAKES = {
    # a key that is not there
    "optim.lrr=1": "optim.lrr must be a key of this config or a group. Did you mean optim.lr?",
    "rate=0.3": "rate must be a key of this config. Did you mean objective.rate?",
    "rat=0.3": "rat must be a key of this config or a group. Did you mean objective.rate?",
    "decay=1": "optim.schedule.decay must be set with optim/schedule=decay, which has it.",
    "optim.schedule.decay=1": "optim.schedule.decay must be set with optim/schedule=decay, which has it.",
    "objectve=ask": "objectve must be a key of this config or a group. Did you mean objective?",
    "qqq=1": "qqq must be a key of this config or a group. `lmx config` prints all keys, `lmx list` the groups.",
    "seed.x=1": "seed.x must be a key",
    "choices.data=files": "choices.data must be a key of this config. Did you mean data?",
    "optim.betas.0=1": "optim.betas.0 must be a key",
    "+new=1": "'+new=1' must not add a key: a config has a fixed set of them. Type new=1 for one it has.",
    "++seed=1": "'++seed=1' must not add a key",
    "+data@x=inside": "must not add a key",
    "~seed": "'~seed' must not remove a key: each is needed. Type seed=... to change its value.",
    # a choice that is not there
    "objective=asks": "objective must be one of ask, files, got 'asks'. Did you mean 'ask'?",
    "objective=ASK": "Did you mean 'ask'?",
    "objective=null": "objective must be one of ask, files, got null.",
    "objective=[ask,files]": "objective must be one of ask, files, got ['ask', 'files'].",
    "objective=../optim/plain": "objective must be one of ask, files, got '../optim/plain'.",
    "optim/schedule=flt": "optim/schedule must be one of decay, flat, got 'flt'. Did you mean 'flat'?",
    "optim.schedule=flat": "optim.schedule must be chosen as a group: type optim/schedule=flat.",
    "budget=5": "budget must be set key by key: budget.steps, budget.seconds.",
    # a value of the wrong type or out of range
    "optim.lr=abc": "optim.lr must be a number above 0, got 'abc'.",
    "optim.lr=0": "optim.lr must be above 0, got 0.0.",
    "optim.lr=nan": "optim.lr must be a number above 0, got nan.",
    "optim.lr=inf": "optim.lr must be a number above 0, got inf.",
    "optim.lr=true": "optim.lr must be a number above 0, got true.",
    "optim.lr=null": "optim.lr must be a number above 0, got null.",
    "optim.lr=(x": "optim.lr must be a number above 0, got '(x'.",
    "optim.size=1025": "optim.size must lie in [2, 1024], got 1025.",
    "optim.size=2.5": "optim.size must be a whole number in [2, 1024] or null, got 2.5.",
    "optim.betas=[0.9]": "optim.betas must have 2 elements, got [0.9].",
    "optim.betas=[0.9,1.5]": "optim.betas[1] must lie in [0, 1], got 1.5.",
    "optim.betas=[0.9,x]": "optim.betas[1] must be a number in [0, 1], got 'x'.",
    "optim.betas=0.9": "optim.betas must be a list in [ ] of 2 elements, each a number in [0, 1], got 0.9.",
    "objective.kind=tow": "objective.kind must be one or two, got 'tow'. Did you mean 'two'?",
    "objective.rate=1.5": "objective.rate must lie in [0, 1], got 1.5.",
    "objective.fast=yes": "objective.fast must be true, false or auto, got 'yes'.",
    "data.path={a: 1}": "data.path must be text or a list in [ ], each text, got {'a': 1}.",
    "seed=-1": "seed must lie in [0, 4294967296), got -1.",
    "seed=x": "seed must be a whole number in [0, 4294967296), got 'x'.",
    f"seed={'9' * 4000}": "seed must lie in [0, 4294967296), got 9999",
    "length=1e12": "length must lie in [8, 1048576], got 1000000000000.",
    "device=cdua": "device must be auto, cpu, cuda or mps, got 'cdua'. Did you mean 'cuda'?",
    "name=../../etc": "name must be at most 100 letters, digits",
    f"name={'a' * 101}": "name must be at most 100 letters",
    "group=-x": "group must be at most 100 letters",
    # combinations
    "objective.span=17": "objective.span must be at most length, got span=17, length=16.",
    "optim/schedule=decay optim.schedule.warmup=0.6": "must be at most 1, got warmup=0.6, decay=0.5.",
    "budget.steps=3 budget.seconds=4": "budget must have exactly one key, got budget.steps and budget.seconds. Type one of them.",
    "budget.seconds=null": "budget must have exactly one key, got none. Type e.g. budget.steps=1000.",
    "data=files": "data.path must have a value. Type data.path=...",
    "data.path=???": "data.path must have a value. Type data.path=...",
    # not a setting at all
    "seed": "'seed' must be written key=value, as in seed=1 or objective=mlm.",
    "=1": "'' must be a key such as optim.lr or a group such as objective.",
    "seed =1": "'seed ' must be a key such as",
    "optim.lr=": "optim.lr must have a value. Type optim.lr=null for none, where a key allows it.",
    "seed=1,2": "seed must have one value, got '1,2'. Use `lmx sweep` for several.",
    "seed=range(0,3)": "seed must have one value, got 'range(0,3)'. Use `lmx sweep` for several.",
    "objective=ask,files": "objective must have one value, got 'ask,files'. Use `lmx sweep` for several.",
    "objective=glob(*)": "Use `lmx sweep` for several.",
    "+recipe=mask_rate": "recipe must go with lmx sweep. Type lmx sweep +recipe=mask_rate.",
    "hydra.run.dir=/x": "hydra.run.dir must not be set: lmx composes with Hydra, whose own settings are fixed.",
    "hydra/launcher=x": "hydra/launcher must not be set",
    "+hydra.callbacks.a._target_=os.system": "hydra.callbacks.a._target_ must not be set",
    # what a config must never hold
    "optim._target_=os.system": "optim._target_ must not be set: what is built is chosen by group",
    "data.path={_target_: os.system}": "data.path must not contain the key '_target_'.",
    "data.path=[{a: {_partial_: true}}]": "data.path must not contain the key '_partial_'.",
    "optim.api_key=123": "optim.api_key must not be a setting: a config is stored and shared, a secret is not.",
    "data.path={password: hunter2}": "data.path must not contain the key 'password'.",
    "data=mixture data.weights.a._args_=1": "data.weights.a._args_ must not be set",
    "data=mixture data.weights.a=-1": "data.weights.a must be above 0, got -1.0.",
    "data=mixture data.sources.a=insid": "data must be one of files, inside, mixture, got 'insid'. Did you mean 'inside'?",
    "data=mixture data.sources.a=3": "data must be one of files, inside, mixture, got 3.",
    "data=mixture data.sources.a.path=3": "data.sources.a.path must be a key",
    f"data.path={'[' * 50}": "is too long or too deep for one setting.",
    f"data.path={'a' * 5000}": "is too long or too deep for one setting.",
}


@pytest.mark.parametrize("typed", MISTAKES)
def test_mistake(load, typed):
    overrides = (
        [typed] if typed.startswith("seed ") else typed.split(" ") if " " in typed and "{" not in typed else [typed]
    )
    with pytest.raises(LmxError) as caught:
        load(overrides)
    assert MISTAKES[typed] in str(caught.value)
    assert caught.value.exit_code == 2
    assert_one_line(str(caught.value))
    assert "hunter2" not in str(caught.value)


def assert_one_line(text: str) -> None:
    assert text.isprintable()
    assert len(text) < 300


def test_typed_budget_replaces_default(load):
    assert load(["budget.steps=30"]).budget == {"_target_": "lmx.parts.Budget", "steps": 30, "seconds": None}
    assert load(["budget.steps=30", "budget.seconds=null"]).budget.steps == 30


def test_objective_brings_its_data(load):
    composed = load(["objective=files", "data.path=x"])
    assert composed.data.path == "x"
    assert composed.objective.rate == 0.4
    assert composed.choices.data == "files"
    assert load(["objective=files", "data=inside"]).data.path == "here", "what is typed counts more"


def test_last_setting_counts(load):
    assert load(["seed=1", "seed=2"]).seed == 2


def test_free_mapping(load):
    assert load(["data=mixture", "data.weights.a=1", "data.weights.b=2.5"]).data.weights == {
        "a": 1.0,
        "b": 2.5,
    }


def test_mapping_of_objects(load):
    typed = ["data.sources.b.path=x", "data=mixture", "data.sources.a=inside", "data.sources.b=files"]
    assert load(typed).data.sources == {
        "a": {"_target_": "lmx.parts.Files", "path": "here"},
        "b": {"_target_": "lmx.parts.Files", "path": "x"},
    }
    with pytest.raises(LmxError, match=r"^data\.sources\.b\.path must have a value"):
        load(typed[1:])


@pytest.mark.parametrize(
    "value",
    [
        "${oc.env:LMX_CANARY}",
        "${oc.env:LMX_CANARY,x}",
        "a-${oc.env:LMX_CANARY}",
        "'${oc.env:LMX_CANARY}'",
        "${oc.decode:${oc.env:LMX_CANARY}}",
        "[${oc.env:LMX_CANARY}]",
        "{a: ${oc.env:LMX_CANARY}}",
        "${oc.create:{a: '${oc.env:LMX_CANARY}'}}",
    ],
)
@pytest.mark.parametrize("key", ["name", "data.path", "objective", "data=mixture data.weights.a"])
def test_environment_stays_outside(load, monkeypatch, key, value):
    monkeypatch.setenv("LMX_CANARY", "canary-value")
    *first, last = f"{key}={value}".split(" ", 1) if key.startswith("data=") else [f"{key}={value}"]
    with pytest.raises(LmxError) as caught:
        load([*first, last])
    assert "canary-value" not in str(caught.value)


def test_environment_stays_outside_of_conf(tmp_path, monkeypatch):
    monkeypatch.setenv("LMX_CANARY", "canary-value")
    where = toy.write(tmp_path)
    (tmp_path / "conf/data/inside.yaml").write_text("_target_: lmx.parts.Files\npath: ${oc.env:LMX_CANARY}\n")
    with pytest.raises(LmxError, match=r"data\.path must be a plain value") as caught:
        config.load([], **where)
    assert "canary-value" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("os.system", "data._target_ must be a class defined in lmx, got 'os.system'."),
        ("lmx.parts.nn", "must be a class defined in lmx"),
        ("lmx.parts.torch.load", "must be a class defined in lmx"),
        ("lmx..parts.Files", "must be a class defined in lmx"),
        ("lmx./etc/passwd.x", "must be a class defined in lmx"),
    ],
)
def test_target_is_ours(tmp_path, target, message):
    where = toy.write(tmp_path)
    (tmp_path / "conf/data/inside.yaml").write_text(f"_target_: {target}\npath: x\n")
    with pytest.raises(LmxError, match=message):
        config.load([], **where)


def test_nested_target_has_the_right_class(tmp_path):
    where = toy.write(tmp_path)
    (tmp_path / "conf/optim/schedule/flat.yaml").write_text("_target_: lmx.parts.Files\npath: x\n")
    with pytest.raises(
        LmxError, match=r"optim\.schedule\._target_ must be a lmx\.parts\.Schedule, got 'lmx\.parts\.Files'"
    ):
        config.load([], **where)


def test_yaml_key_without_parameter(tmp_path):
    where = toy.write(tmp_path)
    (tmp_path / "conf/data/inside.yaml").write_text("_target_: lmx.parts.Files\npath: x\nmodule: y\n")
    with pytest.raises(LmxError, match=r"data\.module must not be set: lmx\.parts\.Files takes no 'module'"):
        config.load([], **where)


@settings(max_examples=50, deadline=None)
@example(text="optim.lr=1e999")
@example(text="data.path=\x00")
@example(text="seed=0x10")
@given(
    text=st.text(max_size=30) | st.from_regex(r"(objective|optim|data)[./=][a-z_]{0,6}=[-\[\]{}(),'\"a-z0-9.:]{0,12}")
)
def test_whatever_is_typed_is_a_setting_or_one_line(load, text):
    try:
        said = OmegaConf.to_yaml(load([text]))
    except LmxError as error:
        said = str(error)
        assert_one_line(said)
    assert said


def test_expand():
    assert config.expand(["seed=1,2", "length=16"]) == [["seed=1", "length=16"], ["seed=2", "length=16"]]
    points = config.expand(["a=range(0.1,0.5,0.1)", "objective=glob(m*)"])
    rates, objectives = (
        ["0.1", "0.2", "0.3", "0.4"],
        [name for name in config.choices("objective") if name[0] == "m"],
    )
    assert points == [[f"a={rate}", f"objective={name}"] for rate, name in product(rates, objectives)]
    with pytest.raises(LmxError, match="must have at least one value"):
        config.expand(["objective=glob(qq*)"])
    with pytest.raises(LmxError, match="must be a list of values or a range"):
        config.expand(["seed=interval(0,1)"])


def test_real_conf_composes_with_every_choice():
    """What a file leaves open, such as data.path, is typed."""
    required = {
        "text": ["path=x"],
        "csv": ["path=x"],
        "jsonl": ["path=x"],
        "parquet": ["path=x"],
        "books": ["path=x"],
    }
    required |= {"hub": ["name=x"], "pretrained": ["path=x"], "lm_eval": ["tasks=x"], "nodes": ["rendezvous=x:1"]}
    for group in config.groups():
        for name in config.choices(group):
            if group == "eval/yardstick":  # a part of a mapping, under a name of its own
                extra = [f"eval.yardsticks.{name}.{setting}" for setting in required.get(name, [])]
                assert config.load([f"eval.yardsticks.{name}={name}", *extra])["eval"]["yardsticks"][name]
            elif name != "mixture":
                extra = [f"{group}.{setting}" for setting in required.get(name, [])]
                assert config.load([f"{group}={name}", *extra]), os.fspath(Path(group, name))


@pytest.mark.parametrize(
    "typed",
    [
        "data.path={'\x1b[2J': {_x: 1}}",
        "name=\x1b]0;x\x07",
        "\x1b[31m=1",
        "+\x1b[31m=1",
        "optim.lr=\x1b",
        f"{'k' * 900}=1",
    ],
)
def test_a_message_cannot_write_to_the_terminal(load, typed):
    with pytest.raises(LmxError) as caught:
        load([typed])
    assert_one_line(str(caught.value))

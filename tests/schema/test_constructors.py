"""What is read from source is what Python itself would say of the imported class."""

import inspect
from typing import Annotated, Literal, get_args, get_origin

import pytest
from annotated_types import Interval

from lmx.nn.transformer import Transformer
from lmx.schema.constructors import Constructors, NoSuchTarget
from lmx.schema.slots import Slot
from lmx.train.budget import Budget
from tests import toy


@pytest.fixture
def constructors(tmp_path):
    toy.write(tmp_path)
    return Constructors(tmp_path)


def test_knobs(constructors):
    knobs = constructors.target("lmx.parts.Optimizer").knobs
    assert list(knobs) == ["module", "loader", "lr", "betas", "size", "schedule"]
    assert [knob.keyword for knob in knobs.values()] == [False, False, True, True, True, True]
    assert not any(knob.default for knob in knobs.values())
    assert get_origin(knobs["betas"].form) is Annotated
    assert get_args(get_args(knobs["size"].form)[0])[1] == Interval(ge=2, le=1024)
    assert Slot(node={}, key="schedule", name="", form=knobs["schedule"].form).part.name == "lmx.parts.Schedule"


def test_inheritance(constructors):
    flat, decay = constructors.target("lmx.parts.Flat"), constructors.target("lmx.parts.Decay")
    assert list(flat.knobs) == ["warmup"]
    assert list(decay.knobs) == ["warmup", "decay"]
    assert (flat.summary, flat.rules) == ("No change.", {})
    assert list(decay.rules) == ["warmup + decay <= 1"]
    assert constructors.descends("lmx.parts.Flat", "lmx.parts.Schedule")
    assert constructors.descends("lmx.parts.Schedule", "lmx.parts.Schedule")
    assert not constructors.descends("lmx.parts.Files", "lmx.parts.Schedule")


def test_dataclass(constructors):
    knobs = constructors.target("lmx.parts.Budget").knobs
    assert list(knobs) == ["steps", "seconds"]


@pytest.mark.parametrize(
    "name", ["lmx.parts.nn", "lmx.parts.Share", "lmx.nothing.X", "os.path", "lmx.parts", "lmx", "", "..x"]
)
def test_what_is_no_target(constructors, name):
    with pytest.raises(NoSuchTarget):
        constructors.target(name)


@pytest.mark.parametrize("cls", [Transformer, Budget])
def test_agrees_with_inspect(cls):
    knobs = Constructors().target(f"{cls.__module__}.{cls.__qualname__}").knobs
    parameters = inspect.signature(cls).parameters
    assert list(knobs) == list(parameters)
    for name, parameter in parameters.items():
        assert knobs[name].keyword == (parameter.kind is parameter.KEYWORD_ONLY)
        if knobs[name].keyword:
            assert knobs[name].form == parameter.annotation or get_origin(parameter.annotation) is Literal

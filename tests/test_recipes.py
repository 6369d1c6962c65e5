"""Recipes: each can be planned as it stands, and what is typed replaces what a recipe has."""

import pytest

from lmx.compare.points import arms_of, grid, space
from lmx.compare.tuning import grid as values
from lmx.errors import LmxError
from lmx.recipes import opened, recipes


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_makes_arms(name):
    settings, tune = opened([f"+recipe={name}"])
    points, broken = arms_of(grid(space(settings)), space(settings))
    assert len(points) > 1
    assert not broken
    assert tune is None or len(values(tune)[1]) > 1
    assert recipes()[name].endswith("?"), "its first line asks"


def test_what_is_typed_counts():
    own, _ = opened(["recipe=mask_rate"])
    settings, tune = opened(
        ["model=tiny", "+recipe=mask_rate", "objective.rate=0.2,0.5", "budget.tokens=1e6", "device=cpu"]
    )
    assert tune == "optim.lr=0.005,0.01,0.02,0.04"
    assert settings == [
        "objective=mlm", "seed=range(0,3)", "model=tiny", "objective.rate=0.2,0.5", "budget.tokens=1e6", "device=cpu",
    ]  # fmt: skip
    assert {"model=nano", "budget.flops=4e12"} < set(own)
    assert opened(["+recipe=mask_rate", "optim.lr=0.01"])[1] is None, "what is typed is not tuned over"
    assert opened(["objective=clm"]) == (["objective=clm"], None)


@pytest.mark.parametrize("names", [["mask_rates"], ["mask_rate", "mask_rate"], [""]])
def test_mistakes(names):
    with pytest.raises(LmxError, match=r"^recipe must be one of .*mask_rate.*, got '"):
        opened([f"+recipe={name}" for name in names])

"""Axes in Hydra's grammar: which points there are, what belongs to each, and what they are called."""

import pytest

from lmx.compare.points import arms_of, drawn, grid, numeric, space, values
from lmx.errors import LmxError
from tests.compare.directories import BUDGET


def names(*settings: str) -> list[str]:
    axes = space([BUDGET, *settings])
    return [arm.name for _, arm in arms_of(grid(axes), axes)[0]]


def test_a_key_counts_where_it_exists():
    """clm has no rate: its two points are one."""
    assert names("objective=clm,mlm", "objective.rate=0.1,0.2") == ["clm", "mlm rate=0.1", "mlm rate=0.2"]
    assert names("objective=clm,mlm", "objective.rate=0.2", "optim.lr=0.01,0.02") == [
        "clm optim.lr=0.01", "clm optim.lr=0.02", "mlm optim.lr=0.01", "mlm optim.lr=0.02",
    ]  # fmt: skip


def test_what_is_typed_for_all_is_in_all():
    axes = space([BUDGET, "objective=clm,mlm", "objective.rate=0.2", "seed=range(1,3)", "model=nano"])
    (clm, mlm) = (arm for _, arm in arms_of(grid(axes), axes)[0])
    assert [config["seed"] for config in mlm.configs] == [1, 2]
    assert mlm.configs[0]["objective"]["rate"] == 0.2
    assert clm.configs[0]["choices"]["model"] == mlm.configs[0]["choices"]["model"] == "nano"
    assert values(mlm.configs[0], ["objective", "objective.rate"]) == {"objective": "mlm", "objective.rate": 0.2}
    assert values(clm.configs[0], ["objective", "objective.rate"]) == {"objective": "clm", "objective.rate": None}


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("model.depth=range(1,4)", ["clm model.depth=1", "clm model.depth=2", "clm model.depth=3"]),
        ("model=glob(*,exclude=[base,large,small])", ["clm model=nano", "clm model=tiny"]),
        ("optim.lr=choice(0.1,0.2,0.1)", ["clm optim.lr=0.1", "clm optim.lr=0.2"]),
        ("optim.lr=range(0.1,0.4,0.1)", ["clm optim.lr=0.1", "clm optim.lr=0.2", "clm optim.lr=0.3"]),
    ],
)
def test_grammar(typed, expected):
    assert names(typed) == expected


def test_shuffled_points_are_the_same():
    assert sorted(names("model.depth=shuffle(range(1,4))")) == names("model.depth=range(1,4)")


def test_a_point_that_cannot_be_stops_no_other():
    axes = space([BUDGET, "objective=mlm", "objective.rate=0.1,0.2,1.5"])
    found, broken = arms_of(grid(axes), axes)
    assert [arm.name for _, arm in found] == ["mlm rate=0.1", "mlm rate=0.2"]
    assert broken == {"mlm rate=1.5": "objective.rate must lie in (0, 1), got 1.5."}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["objective=mlm"], "must have a key with several values"),
        (["objective=mlm", "objective.rat=0.1,0.2"], "Did you mean objective.rate"),
        (["objective=clm,span", "objective.rate=0.1,0.2", "objective.nothing=3"], "objective.nothing must be a key"),
        (["objective=clmm,mlm"], "objective must be one of"),
        (["budget.flops=1e12,2e12"], "budget.flops must not be an axis"),
        (["tokenizer=bytes,bpe"], "tokenizer must not be an axis"),
        (["optim.lr=0.1,0.2", "seed=a,b"], "seed must be whole numbers"),
        (["optim.lr=interval(0.1,0.2)"], "Type --sampler random or tpe"),
        (["optim.lr=interval(0.2,0.1)"], "optim.lr must go from a number to a larger one"),
        (["optim.lr=tag(log,interval(0,0.1))"], "optim.lr must go from a number to a larger one"),
        (["sweep.sampler=tpe", "optim.lr=0.1,0.2"], "sweep.sampler must be an option, .* Type --sampler tpe."),
    ],
)
def test_mistakes(settings, message):
    with pytest.raises(LmxError, match=message):
        names(*settings)


def test_drawn_points_are_the_same_whenever_they_are_drawn():
    axes = space(
        ["optim.lr=tag(log,interval(1e-4,1e-1))", "model.depth=int(interval(1,9))", "model.mlp=32,64",
         "model.dropout=interval(0,0.5)"]
    )  # fmt: skip
    points = drawn(axes, 200)
    assert points == drawn(axes, 200)
    assert points[:20] == drawn(axes, 20)
    rates, depths, sizes, drops = (
        [float(setting.partition("=")[2]) for setting in column] for column in zip(*points, strict=True)
    )
    assert min(rates) >= 1e-4 and max(rates) <= 1e-1  # noqa: PT018
    assert 60 < sum(rate < 3.2e-3 for rate in rates) < 140, "half of them below the middle of a logarithmic scale"
    assert set(depths) == set(range(1, 10))
    assert set(sizes) == {32, 64}
    assert 60 < sum(drop < 0.25 for drop in drops) < 140


def test_numbers():
    assert numeric([1, 0.5])
    assert not numeric([True, 1])
    assert not numeric(["a", 1])

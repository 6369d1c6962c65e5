"""An arm against itself: which runs it takes, what is said, and how often the control cries wolf."""

import numpy as np
import pytest
from scipy import stats

from lmx.compare.arms import arms
from lmx.compare.claims import ALPHA
from lmx.compare.comparison import build_table
from lmx.compare.gates import unequal_twins
from lmx.compare.power import detectable
from lmx.compare.results import Results
from lmx.compare.statistics import effect
from lmx.compare.tuning import SEED
from lmx.compare.twins import OTHER, flags, twin
from lmx.config import plain
from lmx.errors import LmxError
from tests.compare.directories import BUDGET, arm, results, row, run

GOOD, BAD = [0.80, 0.81, 0.82, 0.80, 0.81], [0.70, 0.71, 0.73, 0.69, 0.71]


def test_a_twin_differs_in_its_seeds_alone():
    first = arms(["clm", "mlm"], [BUDGET], range(3))[0]
    again = twin(first)
    assert again.name == "clm again"
    assert [config["seed"] for config in again.configs] == [OTHER, OTHER + 1, OTHER + 2]
    for ours, theirs, typed in zip(first.configs, again.configs, again.overrides, strict=True):
        assert dict(theirs) == dict(ours) | {"seed": theirs["seed"]}
        assert plain(typed) == theirs, "what is written down makes the same run"
    assert OTHER > SEED > 1000, "more than there can be seeds of arms, and not those of tuning"


def again(folder, values, name: str = "clm") -> Results:
    return results(
        f"{name} again", [run(folder, name, OTHER + place, rows=[row(value)]) for place, value in enumerate(values)]
    )


def compared(tmp_path, values):
    both = [arm(tmp_path, "clm", GOOD), arm(tmp_path, "mlm", BAD)]
    return build_table("compare-test", both, {}, "lmx compare", twin=("clm", again(tmp_path, values)))


def test_equal_twins_leave_the_verdicts(tmp_path):
    found = compared(tmp_path, [0.81, 0.80, 0.82, 0.81, 0.80])
    assert [one["verdict"] for one in found["rows"][0]["contrasts"]] == ["worse"], "clm's mirror: mlm is worse"
    assert [cell["arm"] for cell in found["rows"][0]["cells"]] == ["clm", "mlm"], "the twin is no arm"
    ((one,), seeds) = found["control"]["rows"], found["control"]["seeds"]
    assert (one["row"], one["n"], seeds) == ("minimal_pairs accuracy", 5, [OTHER + place for place in range(5)])
    assert one["mean"] == pytest.approx(0.0)
    (sentence,) = [
        sentence for sentence in found["words"] if sentence.startswith("A/A: clm under other seeds (5 pairs)")
    ]
    assert sentence not in found["cautions"]


def test_unequal_twins_take_every_verdict(tmp_path):
    found = compared(tmp_path, BAD)
    assert [one["verdict"] for one in found["rows"][0]["contrasts"]] == ["flagged"]
    assert found["cautions"][0].startswith(
        "clm differs from itself in minimal_pairs accuracy by +0.1 under other seeds"
    )
    assert "No verdict on clm, mlm: see above." in found["cautions"]
    assert not [sentence for sentence in found["words"] if "is better in" in sentence or sentence.startswith("A/A")]


def test_twins_must_be_comparable_too(tmp_path):
    both = [arm(tmp_path, "clm", GOOD[:2]), arm(tmp_path, "mlm", BAD[:2])]
    other = results("clm again", [run(tmp_path, "clm", OTHER, data="words/train/other")])
    with pytest.raises(LmxError, match="must have the same held-out data"):
        build_table("compare-test", both, {}, "lmx compare", twin=("clm", other))


def test_a_seed_without_its_pair_is_left_out(tmp_path):
    assert compared(tmp_path, GOOD[:3])["control"]["rows"][0]["n"] == 3
    assert compared(tmp_path, GOOD[:1])["control"]["rows"] == []


@pytest.mark.parametrize(("pairs", "rows"), [(2, 1), (3, 5), (5, 1), (5, 8), (12, 4)])
def test_false_alarms_are_as_rare_as_the_rule_says(pairs, rows):
    """Of comparisons in which nothing is wrong: one row's rate is known in closed form, and that of all rows is below 5 %."""
    level, often = ALPHA / rows, 20_000
    limit = detectable(pairs, 1.0, level) * np.sqrt(pairs)
    nominal = 2 * stats.t.sf(limit, pairs - 1)
    d = np.random.default_rng(pairs).normal(size=(often, rows, pairs))
    t = d.mean(axis=-1) / d.std(axis=-1, ddof=1) * np.sqrt(pairs)
    beyond = np.abs(t) > limit
    assert beyond.mean() == pytest.approx(nominal, abs=4 * np.sqrt(nominal / (often * rows)))
    assert beyond.any(axis=-1).mean() <= ALPHA
    for some in d[:200]:
        found = {str(place): effect(one) for place, one in enumerate(some)}
        assert (
            len(flags("clm", found))
            == (np.abs([one.mean / one.sd for one in found.values()]) > limit / np.sqrt(pairs)).sum()
        )


def test_a_difference_that_two_pairs_share_is_no_alarm():
    """Scores of few items do that; of many pairs it is one."""
    assert unequal_twins("clm", "row", effect([0.05, 0.05]), ALPHA) == []
    assert len(unequal_twins("clm", "row", effect([0.05] * 8), ALPHA)) == 1

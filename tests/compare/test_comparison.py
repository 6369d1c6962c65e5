"""What a comparison refuses, what it ranks, and what it says: on run directories that no training made."""

import json
import re
from itertools import permutations

import pytest

from lmx.compare.alignment import above_floor
from lmx.compare.comparison import refuse_unequal
from lmx.compare.results import Result
from lmx.compare.verdicts import contrasted, floors
from lmx.errors import FAILED_ARM, LmxError
from tests.compare.directories import FLOPS, KNOBS, STEPS, STUCK, arm, measured, results, row, run, table

GOOD, BAD = [0.80, 0.81, 0.82, 0.80, 0.81], [0.70, 0.71, 0.73, 0.69, 0.71]  # five seeds that nobody would confuse
CLOSE = [0.80, 0.72, 0.85, 0.79, 0.81]
FIVE = range(5)


def said(found, *words: str) -> list[str]:
    """The sentences that have all of the words."""
    return [sentence for sentence in found["words"] if all(word in sentence for word in words)]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"data": "other/train/held"},
            "must have the same tokenizer, got .*-clm-.* and .*-mlm-.*, whose vocabularies differ",
        ),
        ({"data": "words/other/held"}, "must have the same training data, got .*, whose texts differ"),
        ({"data": "words/train/other"}, "must have the same held-out data, got .*, whose held-out texts differ"),
        ({"data": "words/train"}, "must have the same held-out data"),
        ({"data": ""}, "must have a checkpoint"),
        ({"overrides": ["length=64"]}, "must have the same length, got 128 of .* and 64 of "),
        ({"overrides": ["budget.tokens=1000"]}, "budgets of one kind, got flops of .* and tokens of "),
        ({"flops": STEPS * FLOPS * 1.01}, "must have spent the same flops within 1%, got 1.01e\\+11 of .*-mlm-"),
    ],
)
def test_refused_with_the_reason(tmp_path, changes, why):
    overrides = changes.pop("overrides", [])
    runs = [run(tmp_path), run(tmp_path, "mlm", 0, *overrides, **changes)]
    with pytest.raises(LmxError, match=why) as error:
        table(*(results(name, [one]) for name, one in zip(("clm", "mlm"), runs, strict=True)))
    assert "\n" not in str(error.value)


def test_a_mismatch_below_one_percent_is_said(tmp_path):
    runs = [run(tmp_path), run(tmp_path, "mlm", flops=STEPS * FLOPS * 1.009)]
    refuse_unequal([Result(one) for one in runs])
    found = table(results("clm", runs[:1]), results("mlm", runs[1:]))
    assert found["matched"] == {"by": "flops", "mismatch": pytest.approx(0.009)}


@pytest.mark.parametrize(
    ("ours", "theirs", "unit", "ranked"),
    [
        ("A", "A", "bits/byte", True),
        ("D", "D", "share", True),
        ("B", "A", "bits/byte", False),
        ("B", "B", "bits/byte", False),  # the tighter bound need not be the better model
        ("C", "A", "nats", False),
        ("C", "C", "nats", False),
        ("X", "X", "nats", False),
        ("X", "X", "share", False),
        ("D", "A", "nats", False),
        ("E", "E", "seconds", False),
    ],
)
def test_only_scores_and_exact_likelihoods_are_ranked(tmp_path, ours, theirs, unit, ranked):
    found = table(
        arm(tmp_path, "clm", GOOD, comparability=theirs, unit=unit),
        arm(tmp_path, "mlm", BAD, comparability=ours, unit=unit),
    )
    (one,) = found["rows"]
    assert (one["ranked"], one["primary"], bool(one["contrasts"])) == (ranked, ranked, ranked)
    assert (one["reason"] is None) == ranked
    assert bool(said(found, "is better in")) == ranked
    assert bool(said(found, "Nothing was tested")) != ranked


def test_a_description_is_not_ranked(tmp_path):
    found = table(*(arm(tmp_path, name, values, better="neither") for name, values in (("clm", GOOD), ("mlm", BAD))))
    assert not found["rows"][0]["ranked"]
    assert not said(found, "is better in")


def test_native_losses_stand_apart(tmp_path):
    runs = [[run(tmp_path, name, seed, loss=loss) for seed in FIVE] for name, loss in (("clm", 2.0), ("mlm", 4.0))]
    found = table(results("clm", runs[0]), results("mlm", runs[1]))
    assert [one["terms"]["loss"] for one in found["native"]] == [
        {"value": 2.0, "unit": "nats", "constant": 6.5},
        {"value": 4.0, "unit": "nats", "constant": 6.5},
    ]
    assert {one["yardstick"] for one in found["rows"]} == {"minimal_pairs"}
    assert not said(found, "nats")


def test_a_difference_is_found_and_said_from_the_better_side(tmp_path):
    found = table(arm(tmp_path, "clm", BAD), arm(tmp_path, "mlm", GOOD))
    (contrast,) = found["rows"][0]["contrasts"]
    assert (contrast["arm"], contrast["against"], contrast["verdict"], contrast["n"]) == ("mlm", "clm", "better", 5)
    assert contrast["mean"] == pytest.approx(0.1)
    (sentence,) = said(found, "is better in")
    assert sentence.startswith("mlm is better in minimal_pairs accuracy than clm by 0.100 share [+0.0")
    assert "5 pairs" in sentence


def test_lower_may_be_better(tmp_path):
    arms = [arm(tmp_path, name, values, better="lower", floor=2.0) for name, values in (("clm", BAD), ("mlm", GOOD))]
    assert said(table(*arms), "clm is better in minimal_pairs accuracy than mlm")


def test_order_changes_nothing_but_the_order(tmp_path):
    """Whatever is said of two arms is said of them in any order, and so are all numbers."""
    arms = [
        arm(tmp_path, name, values)
        for name, values in (("clm", GOOD), ("mlm", BAD), ("span", CLOSE), ("electra", [0.4] * 5))
    ]
    found = [canonical(table(*order)) for order in permutations(arms)]
    assert all(one == found[0] for one in found)


def canonical(found) -> str:
    """A table without its order: contrasts from the alphabet's side, sentences as sets of words."""
    contrasts = []
    for one in found["rows"][0]["contrasts"]:
        swap = one["arm"] > one["against"]
        verdict = {"better": "worse", "worse": "better"}.get(one["verdict"], one["verdict"]) if swap else one["verdict"]
        numbers = [one["mean"], one["low"], one["high"]]
        numbers = [-one["mean"], -one["high"], -one["low"]] if swap else numbers
        rest = [one["n"], one["p"], one["p_holm"], one["detectable"], one["needed"]]
        contrasts.append([sorted([one["arm"], one["against"]]), verdict, *rounded([*numbers, *rest])])
    cells = sorted((cell["arm"], cell["mean"], cell["above_floor"]) for cell in found["rows"][0]["cells"])
    spoken = sorted(sorted(re.findall(r"[\w.+-]+\w", sentence)) for sentence in found["words"])
    return json.dumps([sorted(contrasts), cells, sorted(found["flags"].items()), found["matched"], spoken])


def rounded(values) -> list:
    return [round(value, 9) if isinstance(value, float) else value for value in values]


def test_one_seed_has_no_verdict(tmp_path):
    found = table(arm(tmp_path, "clm", GOOD[:1]), arm(tmp_path, "mlm", BAD[:1]))
    (contrast,) = found["rows"][0]["contrasts"]
    assert contrast["verdict"] == "one seed"
    assert contrast["p"] is contrast["low"] is contrast["detectable"] is None
    assert said(found, "One seed: no verdict", "--seeds 5")
    assert not said(found, "is better in")
    assert not said(found, "Tested")


def test_two_seeds_that_agree_are_not_enough_for_anybody(tmp_path):
    found = table(arm(tmp_path, "clm", GOOD[:2]), arm(tmp_path, "mlm", BAD[:2]))
    assert found["rows"][0]["contrasts"][0]["verdict"] in ("inconclusive", "better", "worse")
    assert not said(found, "One seed")


def test_inconclusive_says_what_would_do(tmp_path):
    found = table(arm(tmp_path, "clm", CLOSE), arm(tmp_path, "mlm", GOOD))
    (contrast,) = found["rows"][0]["contrasts"]
    assert contrast["verdict"] == "inconclusive"
    assert contrast["detectable"] > abs(contrast["mean"])
    (sentence,) = said(found, "Inconclusive, which is no evidence of equality")
    assert f"with {contrast['needed']} seeds" in sentence
    assert " to " not in sentence, "one number is no range"
    assert contrast["needed"] > 5


def test_what_is_needed_counts_the_correction(tmp_path):
    """With more contrasts each needs more seeds: the sentence would be false without."""
    two = table(arm(tmp_path / "a", "clm", CLOSE), arm(tmp_path / "a", "mlm", GOOD))
    three = table(
        *(arm(tmp_path / "b", name, values) for name, values in (("clm", CLOSE), ("mlm", GOOD), ("span", BAD)))
    )
    few, many = (one["rows"][0]["contrasts"][0] for one in (two, three))
    assert (few["arm"], few["against"]) == (many["arm"], many["against"])
    assert many["needed"] > few["needed"]
    assert many["detectable"] > few["detectable"]


def test_equal_arms_are_not_called_equal(tmp_path):
    found = table(arm(tmp_path, "clm", GOOD), arm(tmp_path, "mlm", GOOD))
    assert found["rows"][0]["contrasts"][0]["verdict"] == "inconclusive"
    assert said(found, "no evidence of equality", "more than 10000 seeds")


def test_two_arms_at_their_floor_are_not_ranked(tmp_path):
    """Both are chance: that one is further below it says nothing. One at its floor is worse than one that is not."""
    chance = [0.45, 0.44, 0.46, 0.45, 0.44], [0.35, 0.36, 0.34, 0.36, 0.36]
    found = table(arm(tmp_path, "clm", chance[0]), arm(tmp_path, "mlm", chance[1]), arm(tmp_path, "span", GOOD))
    verdicts = {(one["arm"], one["against"]): one["verdict"] for one in found["rows"][0]["contrasts"]}
    assert verdicts == {("mlm", "clm"): "at floor", ("span", "clm"): "better", ("span", "mlm"): "better"}
    assert said(found, "Not clearly better than their floor", "clm, mlm in minimal_pairs accuracy.")
    assert said(found, "No verdict on arms that are both at their floor: minimal_pairs accuracy (clm and mlm)")


@pytest.mark.parametrize(
    ("mean", "floor", "error", "better", "above"),
    [
        (0.55, 0.5, 0.02, "higher", True),
        (0.53, 0.5, 0.02, "higher", False),
        (0.45, 0.5, 0.02, "higher", False),
        (0.51, 0.5, None, "higher", True),
        (1.7, 2.4, 0.05, "lower", True),
        (2.4, 2.4, 0.05, "lower", False),
        (0.5, None, 0.02, "higher", None),
        (3.0, 2.0, 0.02, "neither", None),
    ],
)
def test_above_floor(mean, floor, error, better, above):
    assert above_floor({"mean": mean, "floor": floor, "error": error, "better": better}) is above


def test_an_arm_on_its_plateau_gets_no_verdict(tmp_path):
    stuck = [run(tmp_path, "mlm", seed, rows=[row(value)], loss=STUCK) for seed, value in enumerate(BAD)]
    found = table(arm(tmp_path, "clm", GOOD), results("mlm", stuck))
    assert found["rows"][0]["contrasts"][0]["verdict"] == "flagged"
    assert said(found, "mlm has not left its plateau (all 5 seeds)")
    assert said(found, "No verdict on mlm: see above.")
    assert not said(found, "is better in")
    assert found["words"].index(said(found, "plateau")[0]) == 0, "cautions come first"


def test_a_diverged_seed_is_not_dropped_in_silence(tmp_path):
    """What is not finite is null in the file."""
    runs = [
        run(tmp_path, "mlm", seed, rows=[row(value)], loss=float("nan") if seed == 2 else 4.0)
        for seed, value in enumerate(GOOD)
    ]
    found = table(arm(tmp_path, "clm", BAD), results("mlm", runs))
    assert said(found, "mlm diverged (seed 2): its other seeds alone would flatter it.")
    assert found["rows"][0]["contrasts"][0]["verdict"] == "flagged"
    json.dumps(found, allow_nan=False)


def test_a_failed_seed_takes_the_verdict(tmp_path):
    """Those that are left may be the lucky ones."""
    found = table(arm(tmp_path, "clm", BAD), arm(tmp_path, "mlm", GOOD[:4]), failed={"mlm": {4: "loss not finite."}})
    (contrast,) = found["rows"][0]["contrasts"]
    assert (contrast["verdict"], contrast["n"]) == ("flagged", 4)
    assert said(found, "mlm failed (seed 4): loss not finite.")
    assert said(found, "Seeds differ (clm 0, 1, 2, 3, 4; mlm 0, 1, 2, 3)")
    assert found["failed"] == {"mlm seed 4": "loss not finite."}


def test_a_failed_arm_does_not_stop_the_others(tmp_path):
    found = table(arm(tmp_path, "clm", BAD), arm(tmp_path, "mlm", GOOD), failed={"span": {0: "killed", 1: "killed"}})
    assert found["rows"][0]["contrasts"][0]["verdict"] == "better"
    assert said(found, "span failed (seed 0): killed.")
    assert not said(found, "No verdict on span"), "it is in no row"
    assert list(found["failed"]) == ["span seed 0", "span seed 1"]


def test_one_arm_left_is_no_comparison(tmp_path):
    with pytest.raises(
        LmxError, match=r"at least two arms that are done, got 1. mlm failed \(seed 0\): disk full."
    ) as error:
        table(arm(tmp_path, "clm", GOOD), failed={"mlm": {0: "disk full"}})
    assert error.value.exit_code == FAILED_ARM


def test_other_machines_are_told(tmp_path):
    arms = [arm(tmp_path, "clm", GOOD), arm(tmp_path, "mlm", BAD)]
    assert not said(table(*arms), "different")
    arms[1].runs[0].run.write_json("environment.json", {"device": "a GPU", "bf16": False})
    found = table(*arms)
    assert said(found, "different devices (clm a processor; mlm a GPU, a processor)")
    assert said(found, "different precisions", "mlm False, True")


def test_only_this_comparisons_knobs_at_the_last_step_count(tmp_path):
    one = run(tmp_path, rows=[row(0.8)])
    measured(one, [row(0.1)], step=STEPS // 2)
    measured(one, [row(0.2)], knobs={"pairs": 9})
    assert Result(one, KNOBS).rows("minimal_pairs") == [row(0.8)]
    measured(one, [row(0.9)])
    assert Result(one, KNOBS).rows("minimal_pairs") == [row(0.9)], "the newest"
    assert Result(one, {"minimal_pairs": {"pairs": 7}}).rows("minimal_pairs") == ()
    assert Result(one, {"cloze": {}}).rows("cloze") == ()
    assert Result(one).measured == {}, "nothing that nobody asked for"


def test_a_row_that_one_seed_lacks_is_left_out(tmp_path):
    runs = [
        run(tmp_path, "mlm", seed, rows=[row(None if seed == 1 else 0.8), row(0.7, metric="margin")]) for seed in FIVE
    ]
    whole = [run(tmp_path, "clm", seed, rows=[row(0.8), row(0.7, metric="margin")]) for seed in FIVE]
    found = table(results("clm", whole), results("mlm", runs))
    assert [one["metric"] for one in found["rows"]] == ["margin"], "of two arms, one alone compares nothing"


def test_the_exact_scorer_comes_first(tmp_path):
    rows = [row(0.1, scorer="pll", comparability="C"), row(0.9, scorer="causal", comparability="A")]
    runs = [results(name, [run(tmp_path, name, rows=rows)]) for name in ("clm", "mlm")]
    assert [cell["scorer"] for cell in table(*runs)["rows"][0]["cells"]] == ["causal", "causal"]


def test_what_is_tested(tmp_path):
    """Whole yardsticks; tasks where there is no whole; so few that they can be found different."""

    def tested(*rows):
        arms = [
            results(name, [run(tmp_path / str(len(rows)), name, seed, rows=rows) for seed in range(2)])
            for name in ("clm", "mlm")
        ]
        found = table(*arms)
        (sentence,) = said(found, "Tested: ")
        return [one["task"] for one in found["rows"] if one["primary"]], "no test stands behind" in sentence

    assert tested(row(0.8), row(0.7, task="a"), row(0.6, task="b")) == ([""], True)
    assert tested(row(0.7, task="a"), row(0.6, task="b")) == (["a", "b"], False)


def tasks(tmp_path, name: str, base: float, seeds: int, number: int = 5, **changes):
    rows = [
        [row(base + 0.01 * task + 0.001 * seed, task=f"t{task}", **changes) for task in range(number)]
        for seed in range(seeds)
    ]
    return results(name, [run(tmp_path, name, seed, rows=one) for seed, one in enumerate(rows)])


def test_tasks_in_one_number(tmp_path):
    (one,) = table(tasks(tmp_path, "clm", 0.6, 5), tasks(tmp_path, "mlm", 0.75, 5))["overall"]
    assert (one["yardstick"], one["metric"], one["tasks"]) == ("minimal_pairs", "accuracy", 5)
    first = one["arms"][0]
    assert (first["name"], first["seeds"]) == ("IQM", 5)
    assert first["value"] == pytest.approx((0.6 + 0.02 + 0.002 - 0.5) / 0.5)
    assert first["low"] <= first["value"] <= first["high"]
    assert one["pairs"] == [{"arm": "mlm", "against": "clm", "probability": 1.0, "low": 1.0, "high": 1.0}]


def test_few_seeds_have_no_interval_and_one_no_order(tmp_path):
    for seeds, probability in ((1, None), (4, 1.0)):
        folder = tmp_path / str(seeds)
        (one,) = table(tasks(folder, "clm", 0.6, seeds), tasks(folder, "mlm", 0.75, seeds))["overall"]
        assert {arm["name"] for arm in one["arms"]} == {"mean"}
        assert {arm["low"] for arm in one["arms"]} == {None}
        assert (one["pairs"][0]["probability"], one["pairs"][0]["low"]) == (probability, None)


@pytest.mark.parametrize("changes", [{"number": 4}, {"floor": None}, {"unit": "nats"}, {"comparability": "X"}])
def test_tasks_that_cannot_be_averaged(tmp_path, changes):
    assert table(tasks(tmp_path, "clm", 0.6, 2, **changes), tasks(tmp_path, "mlm", 0.7, 2, **changes))["overall"] == []


def test_an_encoder_decoder_says_its_size(tmp_path):
    names = ["clm", "span", "span objective.decoder=half"]
    found = [one["convention"] for one in table(*(arm(tmp_path, name, GOOD) for name in names))["arms"]]
    assert found[0] is None
    assert "2P" in found[1]
    assert "half of its FLOPs" in found[2]


def test_sentences_count_what_a_table_has_in_full():
    def low(task: str, *arms: str) -> dict:
        cells = [{"arm": arm, "above_floor": arm not in arms} for arm in "abcd"]
        return {"yardstick": "few_shot", "task": task, "metric": "accuracy", "ranked": True, "cells": cells}

    rows = [low(task, *"abcd") for task in ("one", "two", "three", "four")] + [low("five", "a", "b")]
    told = "Not clearly better than their floor (°): all arms in 4 rows of few_shot; a, b in few_shot five accuracy."
    assert floors(rows) == [told]
    made = [(rows[0], {"arm": arm, "against": "a"}) for arm in "bcde"]
    assert contrasted(made) == "few_shot one accuracy (4 pairs of arms)"
    assert contrasted(made[:2]) == "few_shot one accuracy (a and b, a and c)"

"""The verdict rule, case by case and by its error rates in simulated studies."""

import numpy as np
import pytest
from scipy import stats

from lmx.compare.claims import Claim, ratio_p, ratio_verdict, supporting_p, verdict
from lmx.compare.power import detectable
from lmx.compare.statistics import holm

BETTER = Claim(kind="better", margin=0.5)
NULL = Claim(kind="no better", margin=0.5)
SAME = Claim(kind="equivalent", margin=0.5)


def around(mean: float, sd: float, n: int = 10) -> np.ndarray:
    """n differences of exactly this mean and standard deviation."""
    d = np.linspace(-1, 1, n)
    return mean + sd * d / d.std(ddof=1)


@pytest.mark.parametrize(
    ("claim", "mean", "sd", "word", "said"),
    [
        (BETTER, 1.0, 0.5, "supported", "at least the margin of 0.5 even at the lower end"),
        (BETTER, 0.6, 0.5, "supported", "at least the margin of 0.5."),
        (BETTER, 0.4, 0.4, "inconclusive", "may be below the margin"),
        (BETTER, 0.2, 0.1, "not supported", "equivalent"),
        (BETTER, 0.0, 0.3, "not supported", "equivalent"),
        (BETTER, -1.0, 0.5, "not supported", "the other way round"),
        (BETTER, 0.6, 2.0, "inconclusive", "could have seen 1.99 or more; 128 pairs would see 0.5"),
        (Claim(kind="better", margin=0.0), 0.1, 0.05, "supported", "at least the margin of 0."),
        (NULL, -3.0, 1.0, "supported", "any benefit is below the margin of 0.5"),
        (NULL, 0.1, 0.3, "supported", "any benefit"),
        (NULL, 0.1, 1.0, "inconclusive", "could have seen"),
        (NULL, 1.0, 0.5, "not supported", "a difference of the margin of 0.5 or more"),
        (NULL, 0.6, 2.0, "inconclusive", "could have seen"),
        (SAME, 0.1, 0.3, "supported", "any difference is below the margin"),
        (SAME, 0.0, 3.0, "inconclusive", "could have seen"),
        (SAME, -1.0, 0.5, "not supported", "a difference"),
        (SAME, 1.0, 0.5, "not supported", "a difference"),
    ],
)
def test_rule(claim, mean, sd, word, said):
    found = verdict(around(mean, sd), claim)
    assert found.word == word
    assert said in found.reason
    assert str(found).startswith(f"{word}: ")


def test_reason_in_full():
    assert str(verdict(around(0.6, 0.5), BETTER)) == (
        "supported: +0.6 [+0.242, +0.958] over 10 pairs; p 0.0043, and at least the margin of 0.5."
    )


@pytest.mark.parametrize("claim", [BETTER, NULL, SAME])
@pytest.mark.parametrize("difference", [-1e9, 0.0, 1e9])
def test_one_seed_is_no_verdict(claim, difference):
    found = verdict([difference], claim)
    assert str(found) == "one seed: no verdict"
    assert found.effect is None
    assert found.p is None
    assert supporting_p([difference], claim) == 1.0
    assert str(verdict([], claim)) == "no pairs: no verdict"


def test_gates_come_first():
    found = verdict(around(5.0, 0.1), BETTER, flags=["mlm has not left its plateau."])
    assert str(found) == "invalid: mlm has not left its plateau."
    assert found.effect is None
    assert str(ratio_verdict([0.1, 0.1], 0.25, flags=["clm diverged."])) == "invalid: clm diverged."


def test_corrected_p_decides():
    d = around(0.6, 0.5)
    alone, of_twenty = supporting_p(d, BETTER), holm([supporting_p(d, BETTER)] + [0.9] * 19)[0]
    assert verdict(d, BETTER, p=alone).word == "supported"
    assert verdict(d, BETTER, p=of_twenty).word == "inconclusive"
    assert verdict(around(-0.6, 0.5), BETTER, p=of_twenty).word == "inconclusive"
    d = around(0.1, 0.45)
    assert verdict(d, NULL).word == "supported"
    assert verdict(d, NULL, p=20 * supporting_p(d, NULL)).word == "inconclusive"


def test_underpowered_names_what_it_could_have_seen():
    claim = Claim(kind="better", margin=0.1, published=0.5)
    found = verdict(around(0.2, 1.0, n=5), claim)
    assert found.word == "inconclusive"
    assert f"underpowered: could not have seen the published effect of 0.5, only {detectable(5):.3g}" in found.reason
    assert "34 pairs would see 0.5" in found.reason
    assert "underpowered" not in verdict(around(0.2, 1.0, n=40), claim).reason


def test_absence_of_evidence_is_no_evidence():
    """Two noisy pairs of equal arms show no difference, and support no claim of equality."""
    d = np.random.default_rng(0).normal(size=(200, 2))
    assert np.mean([verdict(row, NULL).word == "supported" for row in d]) < 0.2
    assert all(verdict(row, SAME).word != "supported" for row in d if abs(row).max() > 0.5)


@pytest.mark.parametrize(
    ("claim", "truth"), [(Claim(kind="better", margin=0.0), 0.0), (BETTER, 0.0), (NULL, 0.5), (SAME, 0.5), (SAME, -0.5)]
)
def test_wrong_claims_are_rarely_supported(claim, truth):
    """At the truth that is hardest to tell from the claim: 5 % at most, of either side together."""
    d = np.random.default_rng(1).normal(truth, 0.3, size=(600, 6))
    share = np.mean([verdict(row, claim).word == "supported" for row in d])
    assert share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 600)


@pytest.mark.parametrize(("claim", "truth"), [(BETTER, 1.0), (NULL, 0.0), (SAME, 0.0)])
def test_true_claims_are_supported_with_enough_pairs(claim, truth):
    d = np.random.default_rng(2).normal(truth, 0.4, size=(300, 12))
    assert np.mean([verdict(row, claim).word == "supported" for row in d]) > 0.9


@pytest.mark.parametrize("kind", ["no better", "equivalent"])
def test_null_claims_need_a_margin(kind):
    with pytest.raises(ValueError, match="needs a margin above 0"):
        Claim(kind=kind, margin=0.0)
    with pytest.raises(ValueError, match="needs a margin"):
        Claim(kind="better", margin=-1.0)


@pytest.mark.parametrize(
    ("mean", "spread", "word"), [(0.25, 0.1, "supported"), (0.30, 0.5, "inconclusive"), (0.8, 0.2, "not supported")]
)
def test_ratio_of_compute(mean, spread, word):
    ratios = mean * np.exp(around(0.0, spread, n=8))
    found = ratio_verdict(ratios, claimed=0.25)
    assert found.word == word
    assert f"{mean:.2f}x [" in found.reason
    assert (ratio_p(ratios, 0.25) <= 0.05) == (word == "supported")
    assert str(ratio_verdict([0.2], 0.25)) == "one seed: no verdict"


def test_ratio_is_tested_on_logarithms():
    ratios = np.array([0.2, 0.35, 0.3, 0.22])
    assert ratio_p(ratios, 0.25) == pytest.approx(stats.ttest_1samp(np.log(ratios), np.log(0.375)).pvalue)


def test_ratio_is_as_good_upside_down():
    """A needs q of B's compute: B needs 1 / q of A's."""
    q = np.array([0.2, 0.35, 0.3, 0.22])
    here, there = (ratio_verdict(one, claimed=1.0, slack=1.0) for one in (q, 1 / q))
    assert (here.word, there.word) == ("supported", "not supported")

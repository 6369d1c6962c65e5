"""Whether a claim holds: a rule that is fixed before the runs are seen, and says no more than they show.

Each kind of claim has a p-value that supports it; Holm's correction goes over those of all primary outcomes, and `verdict` takes
what comes out:

    p = [supporting_p(d, claim) for d, claim in primaries]
    verdicts = [verdict(d, claim, p=one) for (d, claim), one in zip(primaries, holm(p))]

Differences are oriented so that above 0 is what the claim speaks of, and `margin` is the smallest that would interest anybody:

    claim        supported                          not supported
    better       p, mean >= margin                  significantly worse, or equivalent: 90 % within -+ margin
    no better    95 % sure of a mean < margin       interval above 0, mean >= margin
    equivalent   90 % within -+ margin              interval leaves 0 out, mean beyond -+ margin

Everything else is inconclusive, which is no evidence of equality: it says what could have been seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lmx.compare.power import detectable, pairs_needed
from lmx.compare.statistics import Effect, Interval, effect, equivalent, p_below, p_equivalent

ALPHA = 0.05
SLACK = 1.5  # a ratio of compute within this factor of the claimed one is as claimed
Word = Literal["supported", "not supported", "inconclusive", "one seed", "no pairs", "invalid"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    kind: Literal["better", "no better", "equivalent"]
    margin: float  # in the outcome's unit; 0 only for `better`: any difference will do
    published: float | None = None  # what a study at its own scale found

    def __post_init__(self) -> None:
        if not self.margin > 0 and (self.kind != "better" or self.margin != 0):
            raise ValueError(f"a claim of '{self.kind}' needs a margin above 0, got {self.margin}")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    word: Word
    reason: str  # one line
    effect: Effect | None = None  # none where there is no verdict
    p: float | None = None  # that supports the claim, as corrected

    def __str__(self) -> str:
        return f"{self.word}: {self.reason}"


def supporting_p(differences: Sequence[float] | np.ndarray, claim: Claim) -> float:
    """Two-sided of no difference; or one-sided of a benefit of `margin`; or of two one-sided tests. 1 for a single pair."""
    d = np.asarray(differences, dtype=float)
    if len(d) < 2:
        return 1.0
    if claim.kind == "better":
        return effect(d).p
    return float(p_below(d, claim.margin) if claim.kind == "no better" else p_equivalent(d, claim.margin))


def verdict(
    differences: Sequence[float] | np.ndarray, claim: Claim, *, p: float | None = None, flags: Sequence[str] = ()
) -> Verdict:
    """By the table above. `p`: the corrected `supporting_p`; `flags`: sentences of gates that forbid any verdict."""
    d = np.asarray(differences, dtype=float)
    if none := no_verdict(len(d), flags):
        return none
    known, p = effect(d), supporting_p(d, claim) if p is None else p
    word, why = (rule_better if claim.kind == "better" else rule_null)(d, known, claim, p)
    return Verdict(word=word, reason=f"{numbers(known)}; {why}.", effect=known, p=p)


def no_verdict(n: int, flags: Sequence[str]) -> Verdict | None:
    """A single run of each arm may always be luck; gates come first."""
    if flags:
        return Verdict(word="invalid", reason=" ".join(flags))
    if n < 2:
        return Verdict(word="one seed" if n else "no pairs", reason="no verdict")
    return None


def rule_better(d: np.ndarray, known: Effect, claim: Claim, p: float) -> tuple[Word, str]:
    if p <= ALPHA and known.mean > 0 and known.mean >= claim.margin:
        sure = " even at the lower end" if known.interval.low >= claim.margin > 0 else ""
        return "supported", f"p {p:.2g}, and at least the margin of {claim.margin:.3g}{sure}"
    if p <= ALPHA and known.mean < 0:
        return "not supported", f"p {p:.2g}, the other way round"
    if claim.margin > 0 and equivalent(d, claim.margin, ALPHA):
        return "not supported", f"equivalent: any difference is below the margin of {claim.margin:.3g}"
    if p <= ALPHA:
        return "inconclusive", f"a difference, p {p:.2g}, that may be below the margin of {claim.margin:.3g}"
    return "inconclusive", blind(known, claim)


def rule_null(d: np.ndarray, known: Effect, claim: Claim, p: float) -> tuple[Word, str]:
    both = claim.kind == "equivalent"
    if p <= ALPHA:
        what = "any difference" if both else "any benefit"
        return "supported", f"p {p:.2g}: {what} is below the margin of {claim.margin:.3g}"
    benefit, harm = known.interval.low > 0, known.interval.high < 0
    if (benefit and known.mean >= claim.margin) or (both and harm and known.mean <= -claim.margin):
        return "not supported", f"a difference of the margin of {claim.margin:.3g} or more"
    return "inconclusive", blind(known, claim)


def blind(known: Effect, claim: Claim) -> str:
    """What n pairs with this spread could have found, and how many would find what the claim is about."""
    least = detectable(known.n, known.sd)
    sought = claim.published or claim.margin or known.mean
    needed = pairs_needed(sought, known.sd)
    more = f"; {needed} pairs would see {abs(sought):.3g}" if needed and needed > known.n else ""
    if claim.published and least > abs(claim.published):
        return f"underpowered: could not have seen the published effect of {claim.published:.3g}, only {least:.3g} or more{more}"
    return f"could have seen {least:.3g} or more{more}"


def numbers(known: Effect) -> str:
    ends = f"[{known.interval.low:+.3g}, {known.interval.high:+.3g}]"
    return f"{known.mean:+.3g} {ends} over {known.n} pairs"


def ratio_verdict(
    ratios: Sequence[float] | np.ndarray,
    claimed: float,
    *,
    slack: float = SLACK,
    p: float | None = None,
    flags: Sequence[str] = (),
) -> Verdict:
    """`A needs 0.25 of B's compute`: one ratio a seed, its geometric mean and interval against claimed x slack."""
    if none := no_verdict(len(ratios), flags):
        return none
    known = effect(np.log(ratios))
    p = ratio_p(ratios, claimed, slack=slack) if p is None else p
    mean, ends = ratio_of(known)
    limit = claimed * slack
    shown = f"{mean:.2f}x [{ends.low:.2f}, {ends.high:.2f}] over {known.n} pairs"
    word: Word = "supported" if p <= ALPHA else "not supported" if ends.low > limit else "inconclusive"
    return Verdict(
        word=word, reason=f"{shown}; claimed {claimed:.2f}x, within a factor of {slack:g}.", effect=known, p=p
    )


def ratio_p(ratios: Sequence[float] | np.ndarray, claimed: float, *, slack: float = SLACK) -> float:
    """At most alpha where the 1 - alpha interval of the mean logarithm lies below claimed x slack. 1 for a single pair."""
    return min(1.0, 2 * float(p_below(np.log(ratios), np.log(claimed * slack)))) if len(ratios) > 1 else 1.0


def ratio_of(logarithms: Effect) -> tuple[float, Interval]:
    """The geometric mean and its interval, of an effect on logarithms."""
    ends = logarithms.interval
    return float(np.exp(logarithms.mean)), Interval(low=float(np.exp(ends.low)), high=float(np.exp(ends.high)))

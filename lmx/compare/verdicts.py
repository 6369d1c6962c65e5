"""What may be concluded: contrasts of each arm with the first, corrected for their number, and sentences that claim no more."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from typing import Any

from lmx.compare.power import detectable, pairs_needed
from lmx.compare.results import Results
from lmx.compare.statistics import effect, holm

ALPHA = 0.05
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Primary:
    """A row that is tested."""

    key: Key
    better: str
    cells: Sequence[Mapping[str, Any] | None]


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """`arm` - `against`, positive where `arm` is better, over paired seeds."""

    arm: str
    against: str
    n: int
    mean: float
    low: float | None  # 95 %, of this contrast alone
    high: float | None
    p: float | None
    p_holm: float | None  # over all contrasts of all primary rows
    detectable: float | None  # the smallest difference that n pairs find four times in five
    needed: int | None  # pairs that would find a difference like this one four times in five
    verdict: str  # better, worse, inconclusive, one seed, or flagged: a gate forbids one


def contrasts(primaries: Sequence[Primary], flagged: Set[str]) -> dict[Key, list[dict[str, Any]]]:
    """Of each primary row, every other arm against the first that has it; no verdict on arms that are `flagged`."""
    drafts = [(primary.key, *draft) for primary in primaries for draft in pairs(primary)]
    tested = [place for place, (_, _, _, differences) in enumerate(drafts) if len(differences) > 1]
    effects = {place: effect(drafts[place][3]) for place in tested}
    adjusted = dict(zip(tested, holm([effects[place].p for place in tested]), strict=True))
    found: dict[Key, list[dict[str, Any]]] = {}
    for place, (key, arm, against, differences) in enumerate(drafts):
        made = one_pair(arm, against, differences)
        if place in effects:
            known, p = effects[place], adjusted[place]
            made = Contrast(
                arm=arm,
                against=against,
                n=known.n,
                mean=known.mean,
                low=known.interval.low,
                high=known.interval.high,
                p=known.p,
                p_holm=p,
                detectable=detectable(known.n, known.sd) if known.sd else 0.0,
                needed=pairs_needed(known.mean, known.sd),
                verdict="inconclusive" if p >= ALPHA else "better" if known.mean > 0 else "worse",
            )
        if flagged & {arm, against} and place in effects:
            made = replace(made, verdict="flagged")
        found.setdefault(key, []).append(asdict(made))
    return found


def pairs(primary: Primary) -> list[tuple[str, str, list[float]]]:
    """(arm, against, differences by seed) of a row."""
    there = [cell for cell in primary.cells if cell is not None]
    sign = 1 if primary.better == "higher" else -1
    first = dict(zip(there[0]["seeds"], there[0]["values"], strict=True))
    found = []
    for cell in there[1:]:
        both = [
            (value, first[seed]) for seed, value in zip(cell["seeds"], cell["values"], strict=True) if seed in first
        ]
        if both:
            found.append((cell["arm"], there[0]["arm"], [sign * (ours - theirs) for ours, theirs in both]))
    return found


def one_pair(arm: str, against: str, differences: Sequence[float]) -> Contrast:
    return Contrast(
        arm=arm, against=against, n=1, mean=differences[0], low=None, high=None, p=None, p_holm=None, detectable=None,
        needed=None, verdict="one seed",
    )  # fmt: skip


def words(
    rows: Sequence[Mapping[str, Any]],
    arms: Sequence[Results],
    flags: Mapping[str, Sequence[str]],
    failed: Mapping[str, str | None],
) -> list[str]:
    """Sentences, the cautions first."""
    said = [sentence for found in flags.values() for sentence in found]
    said += [f"{name} failed: {reason}." for name, reason in failed.items()]
    ranked = [row for row in rows if row["primary"]]
    made = [(row, contrast) for row in ranked for contrast in row["contrasts"]]
    if any(contrast["verdict"] == "one seed" for _, contrast in made):
        said.append(
            "One seed: no verdict. Differences may be those of another seed; the ± is over the items of a yardstick alone. "
            "Type --seeds 5 or more."
        )
    for row, contrast in made:
        if contrast["verdict"] in ("better", "worse"):
            said.append(sentence(row, contrast))
    open_ones = [(row, contrast) for row, contrast in made if contrast["verdict"] == "inconclusive"]
    if open_ones:
        names = ", ".join(f"{row['yardstick']} {row['metric']} ({contrast['arm']})" for row, contrast in open_ones)
        needed = [contrast["needed"] for _, contrast in open_ones if contrast["needed"]]
        more = f" Differences like these would be found with {min(needed)} to {max(needed)} seeds." if needed else ""
        said.append(f"Inconclusive: {names}.{more}")
    flagged = [arm.name for arm in arms if flags.get(arm.name)]
    if flagged and made:
        said.append(f"No verdict on {', '.join(flagged)}: see above.")
    said.append("What was seen holds at this size, budget and corpus; nothing here says that it holds at others.")
    return said


def sentence(row: Mapping[str, Any], contrast: Mapping[str, Any]) -> str:
    return (
        f"{contrast['arm']} is {contrast['verdict']} than {contrast['against']} in {row['yardstick']} {row['metric']}: "
        f"{abs(contrast['mean']):.3f} {row['unit']} [{contrast['low']:+.3f}, {contrast['high']:+.3f}], "
        f"p {contrast['p_holm']:.2g} after Holm's correction, {contrast['n']} pairs."
    )

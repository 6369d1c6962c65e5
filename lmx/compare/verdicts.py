"""What may be concluded: every two arms contrasted, corrected for the number of contrasts, and sentences that claim no more.

All pairs of arms are tested, so that no result depends on the order in which arms were typed.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from lmx.compare.claims import ALPHA, Claim, supporting_p, verdict
from lmx.compare.power import MOST, detectable, pairs_needed
from lmx.compare.results import Results
from lmx.compare.statistics import holm

BETTER = Claim(kind="better", margin=0.0)  # any difference will do, either way
FEW = 3  # names that a sentence still tells one by one
WORDS = {"supported": "better", "not supported": "worse", "invalid": "flagged", "no pairs": "no pairs"}
Key = tuple[str, str, str]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Primary:
    """A row that is tested."""

    key: Key
    better: str
    cells: Sequence[Row | None]


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """`arm` - `against`, positive where `arm` is better, over paired seeds."""

    arm: str
    against: str
    n: int
    mean: float | None
    low: float | None = None  # 95 %, of this contrast alone
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None  # over all contrasts of all primary rows
    detectable: float | None = None  # the smallest true difference that n pairs find four times in five
    needed: int | None = None  # pairs that find a true difference like this one four times in five; None beyond MOST
    verdict: str  # better, worse, inconclusive, one seed, no pairs, at floor: neither is above it, or flagged: a gate forbids one


def contrasts(primaries: Sequence[Primary], flagged: Set[str]) -> dict[Key, list[dict[str, Any]]]:
    """Of each primary row, every two arms that have it. What is `detectable` and `needed` is at Holm's strictest level."""
    drafts = [(primary, *draft) for primary in primaries for draft in pairs(primary)]
    tested = [place for place, (*_, differences) in enumerate(drafts) if len(differences) > 1]
    raw = [supporting_p(drafts[place][-1], BETTER) for place in tested]
    adjusted = dict(zip(tested, holm(raw), strict=True))
    found: dict[Key, list[dict[str, Any]]] = {}
    for place, (primary, one, other, differences) in enumerate(drafts):
        gate = gated(one, other, flagged)
        made = contrast(one["arm"], other["arm"], differences, adjusted.get(place), ALPHA / max(1, len(tested)), gate)
        found.setdefault(primary.key, []).append(asdict(made))
    return found


def pairs(primary: Primary) -> list[tuple[Row, Row, list[float]]]:
    """(cell, the cell it is held against, differences by seed) of a row."""
    sign = 1 if primary.better == "higher" else -1
    found = []
    for other, one in combinations([cell for cell in primary.cells if cell is not None], 2):
        theirs = dict(zip(other["seeds"], other["values"], strict=True))
        both = [
            (value, theirs[seed]) for seed, value in zip(one["seeds"], one["values"], strict=True) if seed in theirs
        ]
        found.append((one, other, [sign * (ours - others) for ours, others in both]))
    return found


def gated(one: Row, other: Row, flagged: Set[str]) -> str | None:
    """Why there is no verdict, whatever the differences are."""
    if flagged & {one["arm"], other["arm"]}:
        return "flagged"
    return "at floor" if one["above_floor"] is other["above_floor"] is False else None


def contrast(
    arm: str, against: str, differences: Sequence[float], p_holm: float | None, alpha: float, gate: str | None
) -> Contrast:
    n = len(differences)
    known = verdict(differences, BETTER, p=p_holm)
    if known.effect is None:
        return Contrast(arm=arm, against=against, n=n, mean=differences[0] if n else None, verdict=gate or known.word)
    seen = known.effect
    return Contrast(
        arm=arm,
        against=against,
        n=n,
        mean=seen.mean,
        low=seen.interval.low,
        high=seen.interval.high,
        p=seen.p,
        p_holm=p_holm,
        detectable=detectable(n, seen.sd, alpha) if seen.sd else 0.0,
        needed=pairs_needed(seen.mean, seen.sd, alpha),
        verdict=gate or WORDS.get(known.word, known.word),
    )


def cautions(
    rows: Sequence[Row], arms: Sequence[Results], flags: Mapping[str, Sequence[str]], flagged: Set[str]
) -> list[str]:
    """Sentences that take something back; `flagged` are the arms on which there is no verdict."""
    said = [sentence for found in flags.values() for sentence in found]
    said += [*unlike_seeds(arms), *unlike_places(arms), *floors(rows)]
    return [*said, *undecided(*of_tests(rows), flagged)]


def findings(rows: Sequence[Row], arms: Sequence[Results]) -> list[str]:
    """Sentences on what was tested, and what it was seen at."""
    tested, made = of_tests(rows)
    said = better([(row, one) for row, one in made if one["verdict"] in ("better", "worse")])
    said += inconclusive([(row, one) for row, one in made if one["verdict"] == "inconclusive"])
    if any(one["p_holm"] is not None for _, one in made):
        names = listed([row_name(row) for row in tested])
        rest = any(row["ranked"] and not row["primary"] for row in rows)
        said.append(
            f"Tested: {names}." + " Other rows are there to look at: no test stands behind their differences." * rest
        )
    return [*said, scope(arms)]


def of_tests(rows: Sequence[Row]) -> tuple[list[Row], list[tuple[Row, Row]]]:
    """Rows that are tested, and each of their contrasts with its row."""
    tested = [row for row in rows if row["primary"]]
    return tested, [(row, one) for row in tested for one in row["contrasts"]]


def unlike_seeds(arms: Sequence[Results]) -> list[str]:
    if len({tuple(arm.seeds) for arm in arms}) == 1:
        return []
    having = "; ".join(f"{arm.name} {', '.join(map(str, arm.seeds))}" for arm in arms)
    return [f"Seeds differ ({having}): means are over those of each arm, contrasts over those that both arms have."]


def unlike_places(arms: Sequence[Results]) -> list[str]:
    """Where runs were made does not tell arms apart, but rounding and seconds are the machine's."""
    said = []
    facts = {arm.name: [result.run.read_json("environment.json") for result in arm.runs] for arm in arms}
    for key, what, so in (
        ("device", "devices", "seconds are not to be compared"),
        ("bf16", "precisions", "some of a difference may be rounding"),
    ):
        having = {name: {one[key] for one in found if key in one} for name, found in facts.items()}
        if len(set().union(*having.values())) > 1:
            told = "; ".join(f"{name} {listed(sorted(map(str, values)))}" for name, values in having.items())
            said.append(f"Runs were made on different {what} ({'bf16: ' if key == 'bf16' else ''}{told}): {so}.")
    return said


def floors(rows: Sequence[Row]) -> list[str]:
    """Ranked rows in which an arm is no better than what knows nothing; tasks of a yardstick that has a whole go unsaid."""
    having = {row["yardstick"] for row in rows if not row["task"]}
    shown = [row for row in rows if row["ranked"] and (not row["task"] or row["yardstick"] not in having)]
    found: dict[str, list[Row]] = {}
    for row in shown:
        there = [cell for cell in row["cells"] if cell]
        if low := [cell["arm"] for cell in there if cell["above_floor"] is False]:
            arms = "all arms" if len(low) == len(there) > FEW else listed(low)
            found.setdefault(arms, []).append(row)
    said = "; ".join(f"{arms} in {summed(some)}" for arms, some in found.items())
    return [f"Not clearly better than their floor (°): {said}."] if said else []


def undecided(tested: Sequence[Row], made: Sequence[tuple[Row, Row]], flagged: Set[str]) -> list[str]:
    """Contrasts that have no verdict, and why."""
    said = []
    if not tested:
        said.append(
            "Nothing was tested: in no row do all arms have an exact likelihood of the same text, or a task's score."
        )
    single = [(row, one) for row, one in made if one["n"] == 1]
    if single and len(single) == len(made):
        said.append(
            "One seed: no verdict. Differences may be those of another seed; the ± is over the items of a yardstick alone. "
            "Type --seeds 5 or more."
        )
    elif single:
        said.append(f"One seed in common, so no verdict: {contrasted(single)}.")
    if unpaired := [(row, one) for row, one in made if one["n"] == 0]:
        said.append(f"No seed in common, so no verdict: {contrasted(unpaired)}.")
    if flagged and made:
        said.append(f"No verdict on {listed(sorted(flagged))}: see above.")
    at_floor = [(row, one) for row, one in made if one["verdict"] == "at floor"]
    if at_floor:
        said.append(f"No verdict on arms that are both at their floor: {contrasted(at_floor)}.")
    return said


def better(some: Sequence[tuple[Row, Row]]) -> list[str]:
    """A sentence for each row and each arm that is better there than others, from its side."""
    won: dict[tuple[str, str], list[str]] = {}
    for row, one in some:
        sign = 1 if one["verdict"] == "better" else -1
        arm, against = (one["arm"], one["against"])[::sign]
        low, high = sorted([sign * one["low"], sign * one["high"]])
        told = (
            f"than {against} by {sign * one['mean']:.3f} {row['unit']} [{low:+.3f}, {high:+.3f}] "
            f"(p {one['p_holm']:.2g}, {one['n']} pairs)"
        )
        won.setdefault((arm, row_name(row)), []).append(told)
    return [
        f"{arm} is better in {name} {', '.join(told)}; 95 % intervals of each alone, p after Holm's correction."
        for (arm, name), told in won.items()
    ]


def inconclusive(some: Sequence[tuple[Row, Row]]) -> list[str]:
    """Not shown to differ, which is not shown to be equal; and how many seeds would show differences as large as those seen."""
    if not some:
        return []
    needed = [one["needed"] for _, one in some]
    known = sorted({number for number in needed if number})
    if not known:
        more = f"more than {MOST} seeds"
    elif None in needed:
        more = f"{known[0]} seeds at the least, and more than {MOST} at the most"
    else:
        more = f"{known[0]} seeds" if len(known) == 1 else f"{known[0]} to {known[-1]} seeds"
    return [
        f"Inconclusive, which is no evidence of equality: {contrasted(some)}. Differences of the size and spread that were seen "
        f"would be found, four times in five, with {more}."
    ]


def contrasted(some: Sequence[tuple[Row, Row]]) -> str:
    """`minimal_pairs accuracy (mlm and clm, span and clm), cloze …`; many are counted, as a table has them all"""
    found: dict[str, list[str]] = {}
    for row, one in some:
        found.setdefault(row_name(row), []).append(f"{one['against']} and {one['arm']}")
    told = {name: listed(arms) if len(arms) <= FEW else f"{len(arms)} pairs of arms" for name, arms in found.items()}
    return "; ".join(f"{name} ({arms})" for name, arms in told.items())


def summed(rows: Sequence[Row]) -> str:
    """Names of rows; where a yardstick has many, their number."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["yardstick"], []).append(row_name(row))
    told = (listed(names) if len(names) <= FEW else f"{len(names)} rows of {name}" for name, names in found.items())
    return listed(told)


def row_name(row: Row) -> str:
    return " ".join(filter(None, [row["yardstick"], row["task"], row["metric"]]))


def listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def scope(arms: Sequence[Results]) -> str:
    """What all of it was seen at."""
    configs = [result.config for arm in arms for result in arm.runs]
    models, data = ([*dict.fromkeys(config["choices"][group] for config in configs)] for group in ("model", "data"))
    flops = [arm.spent("flops") for arm in arms]
    most = f"{max(flops):.2g}".replace("e+", "e")
    return (
        f"Seen with model={' and '.join(models)}, data={' and '.join(data)}, up to {most} FLOPs a run: nothing here says that "
        "it holds at other sizes or budgets, or on other text."
    )

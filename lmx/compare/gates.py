"""Gates: what forbids believing a comparison, as sentences. Plain numbers in, nothing is read or trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isclose, isfinite
from typing import Literal

from lmx.compare.power import detectable
from lmx.compare.statistics import Effect
from lmx.errors import LmxError

CLOSEST = 0.01  # the largest relative difference of what is matched
PLATEAU = 0.3  # nats below the cross-entropy of its targets' frequencies that a loss has to be
SHARE = 0.05  # of that cross-entropy, where it is so small that PLATEAU is too much: a discriminator's two classes
EPOCHS = 4.0  # more often than that, seeing a text again is an effect of its own


@dataclass(frozen=True, kw_only=True)
class Flag:
    gate: Literal["plateau", "diverged", "epochs", "edge", "A/A"]
    arm: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Of one arm; sequences are by seed, in the order of `seeds`."""

    arm: str
    seeds: Sequence[int]
    losses: Mapping[str, Sequence[float]]  # term -> held-out native loss, nats
    constants: Mapping[str, float]  # term -> cross-entropy of its own targets' frequencies, nats
    skipped: Sequence[int] = ()  # steps that were not finite
    epochs: float = 0.0
    most_epochs: float = EPOCHS
    tuned: str = ""  # the key of what was tuned
    rate: float | None = None  # the value of it, most often a learning rate, that was chosen
    grid: Sequence[float] = field(default=())  # the values that were tried


def flags(arms: Sequence[Facts]) -> list[Flag]:
    """All gates of all arms, in the order of the arms."""
    gates = (diverged, on_plateau, too_many_epochs, at_edge)
    return [flag for arm in arms for gate in gates for flag in gate(arm)]


def on_plateau(facts: Facts) -> list[Flag]:
    """One flag for each term that some seed has not learned beyond frequencies. A loss that is not finite is `diverged`'s."""
    found = []
    for term, constant in facts.constants.items():
        losses = zip(facts.seeds, facts.losses.get(term, ()), strict=False)
        stuck = {seed: loss for seed, loss in losses if isfinite(loss) and not learned(loss, constant)}
        if stuck:
            what = "" if term == "loss" else f" in {term}"
            sentence = (
                f"{facts.arm} has not left its plateau{what} ({of(stuck, facts.seeds)}): {max(stuck.values()):.3f} nats, where "
                f"frequencies alone give {constant:.3f}. Train it longer, or at another learning rate."
            )
            found.append(Flag(gate="plateau", arm=facts.arm, sentence=sentence))
    return found


def learned(loss: float, constant: float) -> bool:
    """Whether a loss is clearly below the cross-entropy of frequencies; trivially so where those leave nothing to learn."""
    return loss <= constant - min(PLATEAU, SHARE * constant) or constant == 0


def diverged(facts: Facts) -> list[Flag]:
    """A loss that is not finite, or steps that were skipped for it: never dropped in silence."""
    lost = {
        seed
        for losses in facts.losses.values()
        for seed, loss in zip(facts.seeds, losses, strict=True)
        if not isfinite(loss)
    }
    skipped = {
        seed: steps for seed, steps in zip(facts.seeds, facts.skipped, strict=False) if steps and seed not in lost
    }
    found = []
    if lost:
        sentence = f"{facts.arm} diverged ({of(lost, facts.seeds)}): its other seeds alone would flatter it."
        found.append(Flag(gate="diverged", arm=facts.arm, sentence=sentence))
    if skipped:
        steps = sum(skipped.values())
        sentence = (
            f"{facts.arm} skipped {steps} step{'s' * (steps != 1)} that were not finite ({of(skipped, facts.seeds)})."
        )
        found.append(Flag(gate="diverged", arm=facts.arm, sentence=sentence))
    return found


def too_many_epochs(facts: Facts) -> list[Flag]:
    if facts.epochs <= facts.most_epochs or isclose(facts.epochs, facts.most_epochs):
        return []
    sentence = (
        f"{facts.arm} saw its text {facts.epochs:.1f} times, and {facts.most_epochs:g} were declared: "
        "beyond that, repetition itself has an effect."
    )
    return [Flag(gate="epochs", arm=facts.arm, sentence=sentence)]


def at_edge(facts: Facts) -> list[Flag]:
    """A chosen learning rate that has no neighbour on one side; a grid of one rate was not tuned at all."""
    rates = sorted(set(facts.grid))
    if facts.rate is None or len(rates) < 2 or rates[0] < facts.rate < rates[-1]:
        return []
    side = "lowest" if facts.rate <= rates[0] else "highest"
    sentence = (
        f"{facts.arm}'s best {facts.tuned or 'learning rate'}, {facts.rate:g}, is the {side} that was tried: a better "
        "one may lie beyond. Widen the grid."
    )
    return [Flag(gate="edge", arm=facts.arm, sentence=sentence)]


def unequal_twins(arm: str, row: str, aa: Effect, alpha: float) -> list[Flag]:
    """An arm against itself must not differ by what the comparison could detect at a level of `alpha`."""
    least = detectable(aa.n, aa.sd, alpha)
    if abs(aa.mean) <= least or aa.p > alpha:  # the latter where there is no spread: few signs are no evidence
        return []
    sentence = (
        f"{arm} differs from itself in {row} by {aa.mean:+.3g} under other seeds, more than the {least:.3g} that {aa.n} pairs "
        "detect: something besides the seed is not held fixed, so there is no verdict on any arm."
    )
    return [Flag(gate="A/A", arm=arm, sentence=sentence)]


def of(some: Mapping[int, object] | set[int], seeds: Sequence[int]) -> str:
    """`seed 3`, `seeds 1, 3 of 5`, `all 5 seeds`"""
    if len(seeds) > 1 and len(some) == len(seeds):
        return f"all {len(seeds)} seeds"
    named = ", ".join(str(seed) for seed in sorted(some))
    return f"seed {named}" if len(some) == 1 else f"seeds {named} of {len(seeds)}"


def mismatch(ledgers: Mapping[str, Mapping[str, float]], by: str) -> float:
    """(most - least) / least of what runs or arms have spent, name -> ledger; infinite where one has spent none."""
    spent = [ledger.get(by, 0.0) for ledger in ledgers.values()]
    if not spent or not all(isfinite(one) and one > 0 for one in spent):
        return float("inf")
    return (max(spent) - min(spent)) / min(spent)


def refuse_mismatch(ledgers: Mapping[str, Mapping[str, float]], by: str) -> float:
    """The mismatch. Raises LmxError where it is CLOSEST or more, naming who spent most and least."""
    off = mismatch(ledgers, by)
    if off < CLOSEST:
        return off
    spent = {name: ledger.get(by, 0.0) for name, ledger in ledgers.items()}
    most, least = max(spent, key=spent.__getitem__), min(spent, key=spent.__getitem__)
    raise LmxError(
        f"runs to compare must have spent the same {by} within {CLOSEST:.0%}, got {spent[most]:.4g} of {most} and "
        f"{spent[least]:.4g} of {least}. Train them with the same budget, long enough for a step to be small."
    )

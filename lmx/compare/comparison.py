"""A comparison: results of all arms, refused where they mean different things, aligned, tested, and put into one table."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from math import nan
from typing import Any

from lmx.compare.alignment import aligned
from lmx.compare.arms import differences
from lmx.compare.conventions import convention
from lmx.compare.gates import Facts, learned, mismatch, refuse_mismatch
from lmx.compare.gates import flags as gated
from lmx.compare.overall import overall
from lmx.compare.results import LEDGER, Result, Results, native_terms, unit
from lmx.compare.tuning import Choice
from lmx.compare.twins import control, effects
from lmx.compare.twins import flags as unequal
from lmx.compare.twins import told as equal
from lmx.compare.verdicts import Primary, cautions, contrasts, findings
from lmx.errors import FAILED_ARM, LmxError

Unmeasured = Mapping[str, Mapping[int, Mapping[str, str]]]  # arm -> seed -> yardstick -> why
DATA = {"tokenizer": "vocabularies", "training data": "texts", "held-out data": "held-out texts"}  # of a fingerprint


def refuse_unequal(results: Sequence[Result]) -> None:
    """Raises LmxError for runs whose numbers mean different things."""
    first = results[0]
    for other in results[1:]:
        names = f"{first.run.name} and {other.run.name}"
        if not first.fingerprint or not other.fingerprint:
            raise LmxError(
                f"runs to compare must have a checkpoint, which tells what they were trained on, got {names}."
            )
        for (what, differing), ours, theirs in zip_longest(
            DATA.items(), first.fingerprint.split("/"), other.fingerprint.split("/")
        ):
            if ours != theirs:
                raise LmxError(f"runs to compare must have the same {what}, got {names}, whose {differing} differ.")
        if first.config["length"] != other.config["length"]:
            raise LmxError(
                f"runs to compare must have the same length, got {first.config['length']} of {first.run.name} and "
                f"{other.config['length']} of {other.run.name}."
            )
        if first.currency != other.currency:
            raise LmxError(
                f"runs to compare must have budgets of one kind, got {first.currency} of {first.run.name} and "
                f"{other.currency} of {other.run.name}."
            )
    refuse_mismatch(ledgers(results), first.currency)


def ledgers(results: Sequence[Result]) -> dict[str, Mapping[str, float]]:
    return {result.run.name: result.ledger for result in results}


def build_table(
    name: str,
    arms: Sequence[Results],
    failed: Mapping[str, Mapping[int, str]],
    command: str,
    tuned: Mapping[str, Choice] | None = None,
    unmeasured: Unmeasured | None = None,
    twin: tuple[str, Results] | None = None,
) -> dict[str, Any]:
    """All that is shown and written of a comparison, as JSON; `failed` has arm -> seed -> why, `tuned` what a grid chose,
    `unmeasured` arm -> seed -> yardstick -> why; `twin` is an arm's name, and the same under other seeds.

    Raises LmxError for what must not be compared.
    """
    tuned, unmeasured = tuned or {}, unmeasured or {}
    results = [result for arm in arms for result in arm.runs]
    if len(arms) < 2:
        raise too_few(arms, failed)
    again = next(((arm, twin[1]) for arm in arms if twin and arm.name == twin[0]), None)
    refuse_unequal([*results, *(again[1].runs if again else ())])
    currency = results[0].currency
    rows = aligned(arms)
    primaries = [Primary(row["key"], row["better"], row["cells"]) for row in rows if row["primary"]]
    flags = {name: lost(name, seeds) for name, seeds in failed.items()}
    for arm in arms:
        flags[arm.name] = [*flags.get(arm.name, ()), *warnings(arm, tuned.get(arm.name))]
    selves = effects(rows, *again) if again else {}
    flags["A/A"] = [flag.sentence for flag in unequal(again[0].name, selves)] if again else []
    flagged = {arm.name for arm in arms if flags["A/A"] or flags[arm.name]}
    found = contrasts(primaries, flagged)
    for row in rows:
        row["contrasts"] = found.get(row["key"], [])
        row["key"] = " ".join(filter(None, row["key"]))
    told = [*not_measured(unmeasured), *cautions(rows, arms, flags, flagged)]
    aa = control(*again, selves) if again else None
    return {
        "name": name,
        "command": command,
        "arms": [described(arm) for arm in arms],
        "matched": {"by": currency, "mismatch": mismatch(ledgers(results), currency)},
        "yardsticks": results[0].wanted,
        "rows": rows,
        "overall": overall(rows),
        "control": aa,
        "native": [native(arm) for arm in arms],
        "differences": differences([shared(arm.runs[0].config) for arm in arms]),
        "tuned": {arm: asdict(choice) for arm, choice in tuned.items()},
        "flags": flags,
        "failed": listed_failures(failed, unmeasured),
        "cautions": told,
        "words": [*told, *(equal(aa, bool(flags["A/A"])) if aa else ()), *findings(rows, arms)],
    }


def too_few(arms: Sequence[Results], failed: Mapping[str, Mapping[int, str]]) -> LmxError:
    lines = " ".join(sentence for name, seeds in failed.items() for sentence in lost(name, seeds))
    error = LmxError(f"a comparison must have at least two arms that are done, got {len(arms)}. {lines}".rstrip())
    error.exit_code = FAILED_ARM if failed else error.exit_code
    return error


def lost(arm: str, seeds: Mapping[int, str]) -> list[str]:
    """A seed that failed is not dropped in silence: those that did not may be the lucky ones."""
    return [f"{arm} failed (seed {seed}): {reason.rstrip('.')}." for seed, reason in seeds.items()]


def not_measured(unmeasured: Unmeasured) -> list[str]:
    """A sentence for each arm, yardstick and reason; the arm is in no row of that yardstick."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for arm, seeds in unmeasured.items():
        for seed, yardsticks in seeds.items():
            for name, why in yardsticks.items():
                found.setdefault((arm, name, why.rstrip(".")), []).append(seed)
    return [
        f"{arm} could not be measured by {name} (seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}): {why}."
        for (arm, name, why), seeds in found.items()
    ]


def listed_failures(failed: Mapping[str, Mapping[int, str]], unmeasured: Unmeasured) -> dict[str, str]:
    """What failed -> why: runs, and yardsticks of runs."""
    runs = {f"{arm} seed {seed}": reason for arm, seeds in failed.items() for seed, reason in seeds.items()}
    return runs | {
        f"{arm} seed {seed} {name}": why
        for arm, seeds in unmeasured.items()
        for seed, yardsticks in seeds.items()
        for name, why in yardsticks.items()
    }


def described(arm: Results) -> dict[str, Any]:
    """Who they are and what they spent."""
    return {
        "name": arm.name,
        "objective": arm.runs[0].config["choices"]["objective"],
        "seeds": arm.seeds,
        "runs": [result.run.name for result in arm.runs],
        "ledger": {key: arm.spent(key) for key in LEDGER},
        "parameters": arm.runs[0].run.read_json("environment.json").get("parameters"),
        "convention": convention(arm.runs[0].config),
        "left_plateau": [left_plateau(result) for result in arm.runs],
    }


def shared(config: Mapping[str, Any]) -> dict[str, Any]:
    """What may differ and matter."""
    return {
        key: value for key, value in config.items() if key not in ("name", "group", "runs", "seed", "track", "choices")
    }


def native(arm: Results) -> dict[str, Any]:
    """What an arm says of itself in validation, and its best constants, means over seeds: a panel of its own, never ranked."""
    lines = [result.validation[-1] for result in arm.runs if result.validation]
    terms = native_terms(lines[0]) if lines else {}

    def mean(key: str) -> float | None:
        values = [line.get(key) for line in lines]
        return None if any(value is None for value in values) else sum(values) / len(values)  # type: ignore[arg-type]

    constants = {term: mean(f"constant/{term}") for term in terms}
    if "loss" in constants and constants["loss"] is None and lines[0].get("targets"):
        constants["loss"] = mean("unigram_nats")
    return {
        "arm": arm.name,
        "terms": {
            term: {"value": mean(key), "unit": unit(key), "constant": constants[term]} for term, key in terms.items()
        },
    }


def left_plateau(result: Result) -> bool | None:
    """Whether the loss is below its best constant prediction; None where no constant is known."""
    last = result.validation[-1] if result.validation else {}
    constant = last.get("constant/loss") or (last.get("unigram_nats") if last.get("targets") else None)
    loss = last.get("loss/loss", last.get("loss"))
    return None if constant is None or loss is None else learned(loss, constant)


def warnings(arm: Results, choice: Choice | None = None) -> list[str]:
    """What a reader must know before believing an arm's numbers."""
    lines = [result.validation[-1] if result.validation else {} for result in arm.runs]
    terms = native(arm)["terms"]
    losses = {term: [last_loss(line, term) for line in lines] for term in terms}
    known = {term: values for term, values in losses.items() if None not in values}
    facts = Facts(
        arm=arm.name,
        seeds=arm.seeds,
        losses=known,  # type: ignore[arg-type]: without None
        constants={term: terms[term]["constant"] for term in known if terms[term]["constant"] is not None},
        skipped=[int(result.metrics[-1].get("skipped") or 0) if result.metrics else 0 for result in arm.runs],
        epochs=arm.spent("epochs"),
        tuned=choice.key if choice else "",
        rate=choice.value if choice else None,
        grid=list(choice.losses) if choice else (),
    )
    return [flag.sentence for flag in gated([facts])]


def last_loss(line: Mapping[str, Any], term: str) -> float | None:
    """NaN where it was not finite, None where it was not asked: both are null in the file."""
    key = f"loss/{term}"
    return nan if key in line.get("nonfinite", ()) else line.get(key)

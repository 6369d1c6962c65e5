"""A comparison: results of all arms aligned row by row, what may be ranked and what not, and what follows from it.

Native losses are never ranked, nor are bounds or pseudo-likelihoods; a row is ranked where all arms have an exact likelihood of
the same text, or the score of a task.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lmx.compare.arms import differences
from lmx.compare.gates import Facts, learned, mismatch, refuse_mismatch
from lmx.compare.gates import flags as gated
from lmx.compare.results import LEDGER, Result, Results
from lmx.compare.tuning import Choice
from lmx.compare.verdicts import Primary, contrasts, words
from lmx.errors import LmxError

PREFERRED = "ADBC"  # of an arm's several scorers, the first of these
Key = tuple[str, str, str]  # yardstick, task, metric


def refuse_unequal(results: Sequence[Result]) -> None:
    """Raises LmxError for runs whose numbers mean different things."""
    first = results[0]
    for other in results[1:]:
        pairs = zip(("tokenizer", "data"), first.fingerprint.split("/"), other.fingerprint.split("/"), strict=True)
        for what, ours, theirs in pairs:
            if ours != theirs:
                raise LmxError(
                    f"runs to compare must have the same {what}, got {first.run.name} and {other.run.name}, whose "
                    f"{'vocabularies' if what == 'tokenizer' else 'texts, held-out ones too,'} differ."
                )
        if first.config["length"] != other.config["length"]:
            raise LmxError(
                f"runs to compare must have the same length, got {first.config['length']} and {other.config['length']}."
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
    failed: Mapping[str, str | None],
    command: str,
    tuned: Mapping[str, Choice] | None = None,
) -> dict[str, Any]:
    """All that is shown and written of a comparison, as JSON; `tuned` is what a grid chose for each arm.

    Raises LmxError for what must not be compared.
    """
    tuned = tuned or {}
    results = [result for arm in arms for result in arm.runs]
    if len(arms) < 2:
        raise LmxError(f"a comparison must have at least two arms that are done, got {len(arms)}.")
    refuse_unequal(results)
    currency = results[0].currency
    rows = aligned(arms)
    primaries = [Primary(row["key"], row["better"], row["cells"]) for row in rows if row["primary"]]
    flags = {arm.name: warnings(arm, tuned.get(arm.name)) for arm in arms}
    found = contrasts(primaries, {name for name, sentences in flags.items() if sentences})
    for row in rows:
        row["contrasts"] = found.get(row["key"], [])
        row["key"] = " ".join(filter(None, row["key"]))
    return {
        "name": name,
        "command": command,
        "arms": [described(arm) for arm in arms],
        "matched": {"by": currency, "mismatch": mismatch(ledgers(results), currency)},
        "rows": rows,
        "native": [native(arm) for arm in arms],
        "differences": differences([shared(arm.runs[0].config) for arm in arms]),
        "tuned": {arm: asdict(choice) for arm, choice in tuned.items()},
        "flags": flags,
        "failed": dict(failed),
        "words": words(rows, arms, flags, failed),
    }


def described(arm: Results) -> dict[str, Any]:
    """Who they are and what they spent."""
    return {
        "name": arm.name,
        "objective": arm.runs[0].config["choices"]["objective"],
        "seeds": arm.seeds,
        "runs": [result.run.name for result in arm.runs],
        "ledger": {key: arm.spent(key) for key in LEDGER},
        "left_plateau": [left_plateau(result) for result in arm.runs],
    }


def shared(config: Mapping[str, Any]) -> dict[str, Any]:
    """What may differ and matter."""
    return {
        key: value for key, value in config.items() if key not in ("name", "group", "runs", "seed", "track", "choices")
    }


def aligned(arms: Sequence[Results]) -> list[dict[str, Any]]:
    """One row for each yardstick, task and metric that two arms or more have, in the order of the yardsticks."""
    keys: dict[Key, None] = {}
    for arm in arms:
        for name, line in arm.runs[0].yardsticks.items():
            keys |= dict.fromkeys((name, row["task"], row["metric"]) for row in line["rows"])
    rows = [joined(key, [cell(arm, key) for arm in arms]) for key in keys]
    return [row for row in rows if sum(one is not None for one in row["cells"]) > 1]


def cell(arm: Results, key: Key) -> dict[str, Any] | None:
    """An arm's values of a key by seed, by the scorer that means most; None where it has none, or not in every run."""
    lines = [result.yardsticks.get(key[0]) for result in arm.runs]
    if not all(lines) or any(line["knobs"] != lines[0]["knobs"] for line in lines if line and lines[0]):
        return None
    fitting = [[row for row in line["rows"] if (row["task"], row["metric"]) == key[1:]] for line in lines if line]
    if not all(fitting):
        return None
    scorer = min(fitting[0], key=lambda row: PREFERRED.find(row["comparability"]) % 10)["scorer"]
    chosen = [next((row for row in rows if row["scorer"] == scorer), None) for rows in fitting]
    if any(row is None or row["value"] is None for row in chosen):
        return None
    first: dict[str, Any] = chosen[0]  # type: ignore[assignment]
    values = [row["value"] for row in chosen if row]
    return {
        "arm": arm.name,
        "scorer": scorer,
        "comparability": first["comparability"],
        "seeds": arm.seeds,
        "values": values,
        "mean": sum(values) / len(values),
        "error": first["error"],
        "items": first["items"],
        "floor": first["floor"],
        "floor_name": first["floor_name"],
        "unit": first["unit"],
        "better": first["better"],
    }


def joined(key: Key, cells: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    there = [one for one in cells if one]
    reason = why_not(there)
    return {
        "key": key,
        "yardstick": key[0],
        "task": key[1],
        "metric": key[2],
        "unit": there[0]["unit"] if there else "",
        "better": there[0]["better"] if there else "neither",
        "ranked": reason is None,
        "reason": reason,
        "primary": reason is None and not key[1],
        "cells": list(cells),
    }


def why_not(cells: Sequence[Mapping[str, Any]]) -> str | None:
    """Why a row is not ranked."""
    classes = {cell["comparability"] for cell in cells}
    if not cells or cells[0]["better"] == "neither":
        return "a description, not a score"
    if "X" in classes:
        return "an objective's own loss means something else for each"
    if cells[0]["unit"] == "share":
        return None
    if "B" in classes and classes != {"B"}:
        return "a bound stands beside a likelihood: it can only be better than shown"
    if "C" in classes:
        return "a pseudo-likelihood is no likelihood"
    return None


def native(arm: Results) -> dict[str, Any]:
    """Each term of an arm's own validation loss and its best constant, means over seeds: a panel of its own, never ranked."""
    lines = [result.validation[-1] for result in arm.runs if result.validation]
    terms = [key.removeprefix("loss/") for key in (lines[0] if lines else {}) if key.startswith("loss/")]

    def mean(key: str) -> float | None:
        values = [line.get(key) for line in lines]
        return None if any(value is None for value in values) else sum(values) / len(values)  # type: ignore[arg-type]

    constants = {term: mean(f"constant/{term}") for term in terms}
    if "loss" in constants and constants["loss"] is None and lines[0].get("targets"):
        constants["loss"] = mean("unigram_nats")
    return {
        "arm": arm.name,
        "terms": {term: {"nats": mean(f"loss/{term}"), "constant": constants[term]} for term in terms},
    }


def left_plateau(result: Result) -> bool | None:
    """Whether the loss is below its best constant prediction; None where no constant is known."""
    last = result.validation[-1] if result.validation else {}
    constant = last.get("constant/loss") or (last.get("unigram_nats") if last.get("targets") else None)
    loss = last.get("loss/loss", last.get("loss"))
    return None if constant is None or loss is None else learned(loss, constant)


def warnings(arm: Results, choice: Choice | None = None) -> list[str]:
    """What a reader must know before believing an arm's numbers."""
    terms = {term: found for term, found in native(arm)["terms"].items() if found["nats"] is not None}
    facts = Facts(
        arm=arm.name,
        seeds=arm.seeds,
        losses={term: [result.validation[-1][f"loss/{term}"] for result in arm.runs] for term in terms}
        if all(result.validation for result in arm.runs)
        else {},
        constants={term: found["constant"] for term, found in terms.items() if found["constant"] is not None},
        skipped=[int(result.metrics[-1].get("skipped") or 0) if result.metrics else 0 for result in arm.runs],
        epochs=arm.spent("epochs"),
        rate=choice.value if choice else None,
        grid=list(choice.losses) if choice else (),
    )
    return [flag.sentence for flag in gated([facts])]

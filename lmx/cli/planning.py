"""What a comparison is going to take, said before anything is trained: parameters, tokens, FLOPs, time, cautions."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from rich.console import Console
from rich.text import Text

from lmx.build import build
from lmx.cli.launching import ask
from lmx.cli.list import show as columns
from lmx.compare.arms import Arm
from lmx.compare.conventions import convention
from lmx.compare.gates import CLOSEST, mismatch
from lmx.compare.results import Result
from lmx.errors import LmxError
from lmx.runs import Run, done
from lmx.track.figures import clock, short

SHARED = {"flops": "FLOPs"}
FORESEEN = 2 * CLOSEST  # what a step takes is known to about that from a sample of text


def show_plan(
    wanted: Sequence[Arm], there: Mapping[str, Run], nodes: Mapping[str, Any], console: Console, *, probe: bool
) -> None:
    """Of one run of each arm, and of all that are to be made; nothing where all are there. `probe`: time a step where no earlier
    run tells. Raises LmxError for a budget of too few steps to be matched."""
    missing = {arm.name: sum(not done(there.get(key)) for key in arm.identities) for arm in wanted}
    if not any(missing.values()):
        return
    entries = ask("lmx.ledger", lambda: [arm.configs[0] for arm in wanted])
    spendings = [spending(arm.configs[0], entry) for arm, entry in zip(wanted, entries, strict=True)]
    earlier = [Result(run, nodes) for run in there.values() if done(run)]
    seconds = [
        training_time(arm.configs[0], spent, earlier, probe=probe and missing[arm.name] > 0)
        for arm, spent in zip(wanted, spendings, strict=True)
    ]
    rows = [
        [
            arm.name, "", short(entry["parameters"]), short(entry["flops_per_token"]), known(spent.get("tokens")),
            known(spent.get("flops")), f"{missing[arm.name]} of {len(arm.identities)}",
            "?" if time is None else clock(time),
        ]
        for arm, entry, spent, time in zip(wanted, entries, spendings, seconds, strict=True)
    ]  # fmt: skip
    columns(["arm", "", "parameters", "FLOPs/token", "tokens", "FLOPs", "to make", "time a run"], rows, console)
    measuring = [measuring_time(arm.configs[0], earlier, nodes) for arm in wanted]
    times = list(zip(seconds, measuring, missing.values(), strict=True))
    workers = wanted[0].configs[0]["launcher"].get("workers") or 1
    for line in [budget(wanted), *conventions(wanted), duration(times, workers), *coarse(wanted, spendings)]:
        console.print(Text(line), soft_wrap=not console.is_terminal)


def known(value: float | None) -> str:
    return "?" if value is None else short(value)


def stated(config: Mapping[str, Any]) -> tuple[str, float]:
    """What the budget is stated in, and how much of it there is."""
    return next((key, value) for key, value in config["budget"].items() if key != "_target_" and value)


def spending(config: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, float]:
    """What a run is going to spend, and what of its budget a `step` takes; only that for a budget of seconds."""
    currency, amount = stated(config)
    sequences = config["trainer"]["batch_tokens"] // config["length"]
    step = {
        "steps": 1.0,
        "tokens": entry["tokens"] * sequences,
        "flops": entry["flops_per_token"] * entry["tokens"] * sequences,
        "targets": entry["predictions"].get("loss", sum(entry["predictions"].values())) * sequences,
    }
    if currency == "seconds":
        return {"seconds": amount}
    steps = max(1, round(amount / step[currency]))
    return {key: steps * value for key, value in step.items()} | {"step": step[currency] / amount}


def training_time(
    config: Mapping[str, Any], spent: Mapping[str, float], earlier: Sequence[Result], *, probe: bool
) -> float | None:
    """Seconds, at the speed of earlier runs of this model here, those of the same objective if there are any."""
    if "seconds" in spent:
        return spent["seconds"]
    speeds = [result.ledger["flops"] / result.ledger["seconds"] for result in alike(config, earlier)]
    if speeds:
        return spent["flops"] / median(speeds)
    if probe:
        try:
            return ask("lmx.preview", lambda: config, build(config["launcher"]).environment())["seconds"]
        except LmxError:  # the run itself will say it
            return None
    return None


def alike(config: Mapping[str, Any], earlier: Sequence[Result]) -> list[Result]:
    """Runs whose speed tells something of this one: the same model, place and batch; the same objective if there are any."""
    keys = ("model", "device", "launcher", "length")
    same = [
        result
        for result in earlier
        if all(result.config[key] == config[key] for key in keys)
        and result.config["trainer"]["batch_tokens"] == config["trainer"]["batch_tokens"]
        and result.ledger.get("seconds")
    ]
    own = [result for result in same if result.config["objective"]["_target_"] == config["objective"]["_target_"]]
    return own or same


def measuring_time(config: Mapping[str, Any], earlier: Sequence[Result], nodes: Mapping[str, Any]) -> float | None:
    """Seconds that all yardsticks took of a run like this; None where no run had them all."""
    times = [
        sum(line["seconds"] for line in result.measured.values())
        for result in alike(config, earlier)
        if result.measured.keys() == nodes.keys()
    ]
    return median(times) if times else None


def budget(wanted: Sequence[Arm]) -> str:
    currency, amount = stated(wanted[0].configs[0])
    seeds = ", ".join(str(config["seed"]) for config in wanted[0].configs)
    return f"Budget: {short(amount)} {SHARED.get(currency, currency)} a run. Seeds: {seeds}."


def conventions(wanted: Sequence[Arm]) -> list[str]:
    return [f"{arm.name}: {told}." for arm in wanted if (told := convention(arm.configs[0]))]


def duration(times: Sequence[tuple[float | None, float | None, int]], workers: int = 1) -> str:
    """Of all runs that are to be made, so many at once: (training, measuring, number of runs) of each arm."""
    making = [(training, measuring, number) for training, measuring, number in times if number]
    if any(training is None for training, _, _ in making):
        return "Time: not known before the first run; `--plan` times a step of each arm."
    workers = min(workers, sum(number for _, _, number in making))
    training = sum(seconds * number for seconds, _, number in making if seconds is not None) / workers
    if any(measuring is None for _, measuring, _ in making):
        return f"Time: about {clock(training)} of training, and what measuring takes."
    measuring = sum(seconds * number for _, seconds, number in making if seconds is not None) / workers
    return f"Time: about {clock(training)} of training and {clock(measuring)} of measuring."


def coarse(wanted: Sequence[Arm], spendings: Sequence[Mapping[str, float]]) -> list[str]:
    """A run ends at the step nearest its budget: where steps are large, arms end too far apart to be compared.

    Raises LmxError where that can be foreseen.
    """
    currency, amount = stated(wanted[0].configs[0])
    shares = {arm.name: spent["step"] for arm, spent in zip(wanted, spendings, strict=True) if "step" in spent}
    if currency == "steps" or not shares:
        return []
    largest = max(shares, key=shares.__getitem__)
    step = f"a step of {largest} is {shares[largest]:.1%} of"
    off = mismatch({arm.name: spent for arm, spent in zip(wanted, spendings, strict=True)}, currency)
    if off > FORESEEN:
        raise LmxError(
            f"budget.{currency} must be many steps, got {amount:g}: {step} it, and arms would end {off:.1%} apart, where "
            f"{CLOSEST:.0%} is too much. Type a larger budget, or a smaller trainer.batch_tokens."
        )
    if shares[largest] < CLOSEST:  # half a step on either side
        return []
    return [
        f"A{step[1:]} the budget: runs may end {CLOSEST:.0%} apart or more, and could not be compared then. Type a "
        "larger budget, or a smaller trainer.batch_tokens."
    ]

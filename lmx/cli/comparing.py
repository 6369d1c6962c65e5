"""What `lmx compare` does: make the runs of all arms that are missing, measure each, and put the result together."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from lmx.cli.board import Board
from lmx.cli.evaluating import Nodes, measure, yardsticks
from lmx.cli.launching import tracked, trained
from lmx.cli.planning import done, show_plan
from lmx.compare.arms import Arm, arms, existing, named
from lmx.compare.comparison import build_table, refuse_unequal
from lmx.compare.conventions import with_both
from lmx.compare.results import Result, Results
from lmx.compare.tuning import Choice, grid, trials
from lmx.compare.tuning import chosen as chosen_value
from lmx.compare.twins import twin as twin_of
from lmx.errors import FAILED_ARM, INTERRUPTED, PREEMPTED, LmxError
from lmx.runs import NAME, Run, root
from lmx.track.figures import number
from lmx.track.wandb import send_comparison

BUDGET = "budget.flops=1.2e13"  # an arm; about a minute of two cores


def compare(
    words: Sequence[str],
    *,
    seeds: int,
    name: str | None,
    chosen: str,
    evaluations: Sequence[str],
    plan: bool,
    tune: str | None,
    aa: bool,
) -> dict[str, Any] | None:
    """The table of a comparison that is there in full now, or None after a plan. Raises LmxError for what cannot be compared."""
    console = Console(stderr=True, highlight=False)
    nodes = yardsticks(evaluations)
    if aa and (chosen or seeds < 2):
        raise LmxError(
            "--aa must go with --seeds 2 or more, and without --runs: it takes runs of its own, and pairs of them."
        )
    if chosen:
        if words:
            raise LmxError(f"--runs must stand alone, got {' '.join(words)} too: runs are compared as they are.")
        groups = named([Run.open(one) for one in filter(None, chosen.split(","))])
        if ended := [Result(run) for runs in groups.values() for run in runs if done(run)]:
            refuse_unequal(ended)
        folder = root() / f"compare-{checked_name(name) or 'runs'}"
        return finished(Made(groups, {one.run.name: weighed(one.run, nodes, console) for one in ended}), folder, nodes)
    shared = [word for word in words if "=" in word and " " not in word]
    typed = [*([] if any(word.startswith("budget.") for word in shared) else [BUDGET]), *shared]
    called = with_both([word for word in words if word not in shared], typed)
    wanted = arms(called, typed, range(seeds))
    folder = root(dict(wanted[0].configs[0])) / f"compare-{checked_name(name) or default_name(wanted)}"
    there = existing(folder.parent)
    choices: dict[str, Choice] = {}
    if tune is not None:
        tuned = tuned_by(tune, called, typed, folder, there, console)
        called = [f"{word} {choice.key}={choice.value:g}" for word, choice in zip(called, tuned, strict=True)]
        wanted = arms(called, typed, range(seeds))
        choices = {arm.name: choice for arm, choice in zip(wanted, tuned, strict=True)}
    again = twin_of(wanted[0]) if aa else None
    wanted += [again] if again else []
    show_plan(wanted, there, nodes, console, probe=plan)
    if plan:
        return None
    return finished(made(wanted, folder, there, nodes, console), folder, nodes, choices, again and again.name)


def checked_name(name: str | None) -> str | None:
    if name is not None and not NAME.fullmatch(name):
        raise LmxError(f"--name must be at most 100 letters, digits, '.', '_' and '-', got {name!r}.")
    return name


def default_name(wanted: Sequence[Arm]) -> str:
    """The objectives, and a few digits that tell settings apart; more seeds make no other comparison."""
    digits = sha256(" ".join(sorted(arm.identities[0] for arm in wanted)).encode()).hexdigest()[:5]
    return "-".join([*(arm.name.split()[0] for arm in wanted), digits])[-80:].lstrip("-")


def tuned_by(
    tune: str, words: Sequence[str], shared: Sequence[str], folder: Path, there: Mapping[str, Run], console: Console
) -> list[Choice]:
    """For each arm the best value of a grid, by short runs of a seed of their own."""
    key, values = grid(tune)
    found = []
    for word in words:
        trial = trials(word, shared, key, values)
        runs = made(trial, folder, there, {}, console).groups
        found.append(chosen_value(key, values, [Result(run) for arm in trial for run in runs[arm.name]]))
        told = ", ".join(f"{value:g}: {number(loss)}" for value, loss in found[-1].losses.items())
        console.print(Text(f"{word}: {key}={found[-1].value:g} ({told})"), soft_wrap=True)
    return found


@dataclass(frozen=True)
class Made:
    """What there is to compare: the runs of each arm, and by run the yardsticks that could not be applied, and why."""

    groups: Mapping[str, Sequence[Run]]
    unmeasured: Mapping[str, Mapping[str, LmxError]]


def made(wanted: Sequence[Arm], folder: Path, there: Mapping[str, Run], nodes: Nodes, console: Console) -> Made:
    """Every run, trained and measured unless it is `there`; seed after seed, so that an interrupted comparison has pairs."""
    board = Board(wanted)
    groups: dict[str, list[Run]] = {arm.name: [] for arm in wanted}
    unmeasured = {}
    for place in range(len(wanted[0].configs)):
        for arm in wanted:
            run = there.get(arm.identities[place]) or created(arm, place, folder)
            board.runs[arm.name, place] = run
            groups[arm.name].append(run)
            if not done(run):
                train(run, board, console)
            if done(run):
                unmeasured[run.name] = weighed(run, nodes, console)
    return Made(groups, unmeasured)


def weighed(run: Run, nodes: Nodes, console: Console) -> dict[str, LmxError]:
    """Measured; what fails is said at once, and does not stop the others."""
    failed = measure(run, None, nodes)
    for name, error in failed.items():
        console.print(Text(f"{run.name}: {name} failed: {error}", style="red"), soft_wrap=True)
    return failed


def created(arm: Arm, place: int, folder: Path) -> Run:
    config = dict(arm.configs[place])
    config["group"] = config["group"] or folder.name
    return Run.create(config, arm.overrides[place], folder.parent)


def train(run: Run, board: Board, console: Console) -> None:
    """A failed arm does not stop the others; Ctrl-C and SIGTERM do. Raises LmxError for them."""
    run.lock()
    _, code, tracker = trained(run, board.watch, console)
    if code in (INTERRUPTED, PREEMPTED):
        error = LmxError(f"stopped; {run.name} is saved. The same command goes on from here.")
        error.exit_code = code
        raise error
    if tracker is not None and code == 0:
        tracked(run, tracker)


def finished(
    made: Made, folder: Path, nodes: Nodes, choices: Mapping[str, Choice] | None = None, again: str | None = None
) -> dict[str, Any]:
    """The table, written into the comparison's folder with all that shows it; `again` is the first arm under other seeds."""
    from lmx.cli.reporting import write  # draws, which a plan need not wait for

    results = [
        Results(name, sorted((Result(run, nodes) for run in runs if done(run)), key=lambda result: result.seed))
        for name, runs in made.groups.items()
    ]
    failed = {name: reasons(runs) for name, runs in made.groups.items() if not all(map(done, runs))}
    unmeasured = {one.name: without(one, made.unmeasured) for one in results}
    command = " ".join(map(shlex.quote, ["lmx", *sys.argv[1:]]))
    twins = {one.name: one for one in results if one.name == again and one.runs}
    there = [one for one in results if one.runs and one.name != again]
    twin = (results[0].name, twins[again]) if again in twins else None
    table = build_table(folder.name, there, failed, command, choices, unmeasured, twin)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, table, there)
    print(f"{folder}: report.html, figures, and table.json, .csv, .md and .tex", file=sys.stderr)
    if said := send_comparison(folder, [result.run for arm in there for result in arm.runs]):
        print(said, file=sys.stderr)
    return table


def without(arm: Results, unmeasured: Mapping[str, Mapping[str, LmxError]]) -> dict[int, dict[str, str]]:
    """By seed, the yardsticks that an arm's runs lack, and why."""
    found = {one.seed: unmeasured.get(one.run.name) for one in arm.runs}
    return {seed: {name: str(error) for name, error in some.items()} for seed, some in found.items() if some}


def reasons(runs: Sequence[Run]) -> dict[int, str]:
    """By seed, why a run is not done."""
    missing = {run.config()["seed"]: run.status() for run in runs if not done(run)}
    return {seed: str(status.get("reason") or status.get("state")) for seed, status in missing.items()}


def code(table: dict[str, Any]) -> int:
    return FAILED_ARM if table["failed"] else 0

"""What `lmx compare` does: make the runs of all arms that are missing, measure each, and put the result together."""

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from lmx.build import build
from lmx.cli.board import Board
from lmx.cli.evaluating import Nodes, check, lines, measure, newest, yardsticks
from lmx.cli.fleet import carry_out
from lmx.cli.job import job
from lmx.cli.planning import show_plan
from lmx.compare.arms import Arm, arms, existing, named
from lmx.compare.comparison import build_table, refuse_unequal
from lmx.compare.conventions import with_both
from lmx.compare.results import Result, Results
from lmx.compare.tuning import Choice, grid, trials
from lmx.compare.tuning import chosen as chosen_value
from lmx.compare.twins import twin as twin_of
from lmx.errors import FAILED_ARM, LmxError
from lmx.launch.jobs import Job
from lmx.runs import NAME, Run, done, root
from lmx.track.figures import number
from lmx.track.wandb import send_comparison

# Of an arm where no budget is typed: about a minute of two cores. Evaluated half as often, or that would take half as long again.
SHORT = ("budget.flops=8e12", "eval.every=0.2")


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
    check(nodes)
    if aa and (chosen or seeds < 2):
        raise LmxError(
            "--aa must go with --seeds 2 or more, and without --runs: it takes runs of its own, and pairs of them."
        )
    if chosen:
        if set_ := [word for word in words if "=" in word]:
            raise LmxError(f"--runs must go without settings, got {' '.join(set_)}: runs are compared as they are.")
        groups = named([Run.open(one) for one in filter(None, [*chosen.split(","), *words])])
        if ended := [Result(run) for runs in groups.values() for run in runs if done(run)]:
            refuse_unequal(ended)
        folder = root() / f"compare-{checked_name(name) or 'runs'}"
        return finished(gathered(groups, nodes, console), folder, nodes)
    shared = [word for word in words if "=" in word and " " not in word]
    typed = [*([] if any(word.startswith("budget.") for word in shared) else SHORT), *shared]
    called = with_both([word for word in words if word not in shared], typed)
    wanted = arms(called, typed, range(seeds))
    folder = root(dict(wanted[0].configs[0])) / f"compare-{checked_name(name) or default_name(wanted)}"
    there = existing(folder.parent)
    choices: dict[str, Choice] = {}
    if tune is not None and plan:
        plan_tuning(tune, [(word, typed) for word in called], there, console)
    elif tune is not None:
        tuned = tuned_by(tune, [(word, typed) for word in called], folder, there, console)
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


def plan_tuning(
    tune: str, words: Sequence[tuple[str, Sequence[str]]], there: Mapping[str, Run], console: Console
) -> None:
    """What `tuned_by` would make first."""
    key, values = grid(tune)
    tried = [trial for word, shared in words for trial in trials(word, shared, key, values)]
    show_plan(tried, there, {}, console, probe=True)
    console.print(Text(f"Then each at the best {key} of these; shown is what it takes at the default:"), soft_wrap=True)


def tuned_by(
    tune: str, words: Sequence[tuple[str, Sequence[str]]], folder: Path, there: Mapping[str, Run], console: Console
) -> list[Choice]:
    """For each arm, a word and what is shared, the best value of a grid, by short runs of a seed of their own."""
    key, values = grid(tune)
    tried = [trials(word, shared, key, values) for word, shared in words]
    runs = made(list(chain.from_iterable(tried)), folder, there, {}, console).groups
    found = []
    for (word, _), trial in zip(words, tried, strict=True):
        found.append(chosen_value(key, values, [Result(run) for arm in trial for run in runs[arm.name]]))
        told = ", ".join(f"{value:g}: {number(loss)}" for value, loss in found[-1].losses.items())
        console.print(Text(f"{word}: {key}={found[-1].value:g} ({told})"), soft_wrap=True)
    return found


@dataclass(frozen=True)
class Made:
    """What there is to compare: the runs of each arm, and by run the yardsticks that could not be applied, and why."""

    groups: Mapping[str, Sequence[Run]]
    unmeasured: Mapping[str, Mapping[str, LmxError]]


def made(
    wanted: Sequence[Arm],
    folder: Path,
    there: Mapping[str, Run],
    nodes: Nodes,
    console: Console,
    timeout: float | None = None,
) -> Made:
    """Every run, trained and measured unless it is `there`; seed after seed, so that an interrupted comparison has pairs."""
    board = Board(wanted)
    groups: dict[str, list[Run]] = {arm.name: [] for arm in wanted}

    def jobs() -> Iterator[Job]:
        for place in range(len(wanted[0].configs)):
            for arm in wanted:
                run = there.get(arm.identities[place]) or created(arm, place, folder)
                board.runs[arm.name, place] = run
                groups[arm.name].append(run)
                if not (done(run) and len(lines(run, newest(run), nodes)) == len(nodes)):
                    yield job(run, nodes, timeout)

    carry_out(jobs(), build(wanted[0].configs[0]["launcher"]).fleet(), board, console)
    return gathered(groups, nodes, console)


def gathered(groups: Mapping[str, Sequence[Run]], nodes: Nodes, console: Console) -> Made:
    """Runs that have been made, measured where that is still to be done."""
    runs = [run for run in chain.from_iterable(groups.values()) if done(run)]
    return Made(groups, {run.name: weighed(run, nodes, console) for run in runs})


def weighed(run: Run, nodes: Nodes, console: Console) -> dict[str, LmxError]:
    """Measured, where its job has not; what fails is said, and does not stop the others."""
    failed = measure(run, None, nodes)
    for name, error in failed.items():
        console.print(Text(f"{run.name}: {name} failed: {error}", style="red"), soft_wrap=True)
    return failed


def created(arm: Arm, place: int, folder: Path) -> Run:
    config = dict(arm.configs[place])
    config["group"] = config["group"] or folder.name
    return Run.create(config, arm.overrides[place], folder.parent)


def finished(
    made: Made,
    folder: Path,
    nodes: Nodes,
    choices: Mapping[str, Choice] | None = None,
    again: str | None = None,
    told: Callable[[dict[str, Any], Sequence[Results]], dict[str, Any]] = lambda table, arms: table,
) -> dict[str, Any]:
    """The table, written into the comparison's folder with all that shows it; `again` is the first arm under other seeds, and
    `told` has more to say on the table."""
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
    table = told(build_table(folder.name, there, failed, command, choices, unmeasured, twin), there)
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

"""What `lmx compare` does: make the runs of all arms that are missing, measure each, and put the result together."""

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from lmx.build import build
from lmx.cli.board import Board
from lmx.cli.evaluating import lines, measure, newest, yardsticks
from lmx.cli.fleet import carry_out
from lmx.cli.job import job
from lmx.cli.planning import done, show_plan
from lmx.compare.arms import Arm, arms, existing, named
from lmx.compare.comparison import build_table, refuse_unequal
from lmx.compare.conventions import with_both
from lmx.compare.results import Result, Results
from lmx.compare.tuning import Choice, grid, trials
from lmx.compare.tuning import chosen as chosen_value
from lmx.errors import FAILED_ARM, LmxError
from lmx.launch.jobs import Job
from lmx.runs import NAME, Run, root
from lmx.track.figures import number
from lmx.track.wandb import send_comparison

BUDGET = "budget.flops=1.2e13"  # an arm; about a minute of two cores
Nodes = Mapping[str, Mapping[str, Any]]  # of yardsticks


def compare(
    words: Sequence[str],
    *,
    seeds: int,
    name: str | None,
    chosen: str,
    evaluations: Sequence[str],
    plan: bool,
    tune: str | None,
) -> dict[str, Any] | None:
    """The table of a comparison that is there in full now, or None after a plan. Raises LmxError for what cannot be compared."""
    console = Console(stderr=True, highlight=False)
    nodes = yardsticks(evaluations)
    if chosen:
        if words:
            raise LmxError(f"--runs must stand alone, got {' '.join(words)} too: runs are compared as they are.")
        groups = named([Run.open(one) for one in filter(None, chosen.split(","))])
        if ended := [Result(run) for runs in groups.values() for run in runs if done(run)]:
            refuse_unequal(ended)
        for result in ended:
            measure(result.run, None, nodes)
        return finished(groups, root() / f"compare-{checked_name(name) or 'runs'}", nodes, {})
    shared = [word for word in words if "=" in word and " " not in word]
    typed = [*([] if any(word.startswith("budget.") for word in shared) else [BUDGET]), *shared]
    called = with_both([word for word in words if word not in shared], typed)
    wanted = arms(called, typed, range(seeds))
    folder = root(dict(wanted[0].configs[0])) / f"compare-{checked_name(name) or default_name(wanted)}"
    there = existing(folder.parent)
    choices: dict[str, Choice] = {}
    if tune is not None:
        tuned = tuned_by(tune, [(word, typed) for word in called], folder, there, console)
        called = [f"{word} {choice.key}={choice.value:g}" for word, choice in zip(called, tuned, strict=True)]
        wanted = arms(called, typed, range(seeds))
        choices = {arm.name: choice for arm, choice in zip(wanted, tuned, strict=True)}
    show_plan(wanted, there, nodes, console, probe=plan)
    if plan:
        return None
    return finished(made(wanted, folder, there, nodes, console), folder, nodes, choices)


def checked_name(name: str | None) -> str | None:
    if name is not None and not NAME.fullmatch(name):
        raise LmxError(f"--name must be at most 100 letters, digits, '.', '_' and '-', got {name!r}.")
    return name


def default_name(wanted: Sequence[Arm]) -> str:
    """The objectives, and a few digits that tell settings apart; more seeds make no other comparison."""
    digits = sha256(" ".join(sorted(arm.identities[0] for arm in wanted)).encode()).hexdigest()[:5]
    return "-".join([*(arm.name.split()[0] for arm in wanted), digits])[-80:].lstrip("-")


def tuned_by(
    tune: str, words: Sequence[tuple[str, Sequence[str]]], folder: Path, there: Mapping[str, Run], console: Console
) -> list[Choice]:
    """For each arm, a word and what is shared, the best value of a grid, by short runs of a seed of their own."""
    key, values = grid(tune)
    tried = [trials(word, shared, key, values) for word, shared in words]
    runs = made(list(chain.from_iterable(tried)), folder, there, {}, console)
    found = []
    for (word, _), trial in zip(words, tried, strict=True):
        found.append(chosen_value(key, values, [Result(run) for arm in trial for run in runs[arm.name]]))
        told = ", ".join(f"{value:g}: {number(loss)}" for value, loss in found[-1].losses.items())
        console.print(Text(f"{word}: {key}={found[-1].value:g} ({told})"), soft_wrap=True)
    return found


def made(
    wanted: Sequence[Arm],
    folder: Path,
    there: Mapping[str, Run],
    nodes: Nodes,
    console: Console,
    timeout: float | None = None,
) -> dict[str, list[Run]]:
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
    for run in chain.from_iterable(groups.values()):
        if done(run):
            measure(run, None, nodes)  # what its job could not, to say why
    return groups


def created(arm: Arm, place: int, folder: Path) -> Run:
    config = dict(arm.configs[place])
    config["group"] = config["group"] or folder.name
    return Run.create(config, arm.overrides[place], folder.parent)


def finished(
    groups: dict[str, list[Run]],
    folder: Path,
    nodes: Nodes,
    choices: dict[str, Choice],
    told: Callable[[dict[str, Any], Sequence[Results]], dict[str, Any]] = lambda table, arms: table,
) -> dict[str, Any]:
    """The table, written into the comparison's folder with all that shows it; `told` has more to say on it."""
    from lmx.cli.reporting import write  # draws, which a plan need not wait for

    results = [
        Results(name, sorted((Result(run, nodes) for run in runs if done(run)), key=lambda result: result.seed))
        for name, runs in groups.items()
    ]
    failed = {name: reasons(runs) for name, runs in groups.items() if not all(map(done, runs))}
    command = " ".join(map(shlex.quote, ["lmx", *sys.argv[1:]]))
    there = [one for one in results if one.runs]
    table = told(build_table(folder.name, there, failed, command, choices), there)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, table, there)
    print(f"{folder}: report.html, figures, and table.json, .csv, .md and .tex", file=sys.stderr)
    if said := send_comparison(folder, [result.run for arm in there for result in arm.runs]):
        print(said, file=sys.stderr)
    return table


def reasons(runs: Sequence[Run]) -> dict[int, str]:
    """By seed, why a run is not done."""
    missing = {run.config()["seed"]: run.status() for run in runs if not done(run)}
    return {seed: str(status.get("reason") or status.get("state")) for seed, status in missing.items()}


def code(table: dict[str, Any]) -> int:
    return FAILED_ARM if table["failed"] else 0

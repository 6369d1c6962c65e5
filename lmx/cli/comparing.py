"""What `lmx compare` does: plan the runs of all arms, make those that are missing, measure each, and put the result together."""

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lmx.cli.evaluating import measure, yardsticks
from lmx.cli.launching import ask, tracked, trained
from lmx.cli.list import show as columns
from lmx.compare.arms import Arm, arms, existing
from lmx.compare.comparison import build_table, refuse_unequal
from lmx.compare.results import Result, Results
from lmx.compare.tuning import Choice, grid, trials
from lmx.compare.tuning import chosen as chosen_value
from lmx.errors import FAILED_ARM, INTERRUPTED, LmxError
from lmx.runs import NAME, STYLES, Run, root
from lmx.track.figures import clock, number, own, quality, short, speed
from lmx.track.progress import EVERY, Progress

BUDGET = "budget.flops=1.2e13"  # an arm; about a minute of two cores
SHARED = {"flops": "FLOPs", "tokens": "tokens", "targets": "targets", "seconds": "seconds", "steps": "steps"}


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
    choices: dict[str, Choice] = {}
    if chosen:
        given = [Run.open(one) for one in filter(None, chosen.split(","))]
        if words:
            raise LmxError(f"--runs must stand alone, got {' '.join(words)} too: runs are compared as they are.")
        refuse_unequal([Result(run) for run in given])
        groups = grouped(given)
        folder = root() / f"compare-{checked_name(name) or 'runs'}"
    else:
        shared = [word for word in words if "=" in word and " " not in word]
        typed = [*([] if any(word.startswith("budget.") for word in shared) else [BUDGET]), *shared]
        named = [word for word in words if word not in shared]
        wanted = arms(named, typed, range(seeds))
        folder = root(dict(wanted[0].configs[0])) / f"compare-{checked_name(name) or default_name(wanted)}"
        if tune is not None:
            tuned = tuned_by(tune, named, typed, folder, console)
            named = [f"{word} {choice.key}={choice.value:g}" for word, choice in zip(named, tuned, strict=True)]
            wanted = arms(named, typed, range(seeds))
            choices = {arm.name: choice for arm, choice in zip(wanted, tuned, strict=True)}
        show_plan(wanted, existing(folder.parent), console)
        if plan:
            return None
        groups = made(wanted, folder, nodes, console)
    return finished(groups, folder, nodes, choices)


def checked_name(name: str | None) -> str | None:
    if name is not None and not NAME.fullmatch(name):
        raise LmxError(f"--name must be at most 100 letters, digits, '.', '_' and '-', got {name!r}.")
    return name


def default_name(wanted: Sequence[Arm]) -> str:
    """The objectives, and a few digits that tell settings apart."""
    return "-".join([*(arm.name.split()[0] for arm in wanted), wanted[0].identities[0][:5]])[-80:].lstrip("-")


def grouped(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs by what they are called without their seeds."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        config = run.config()
        found.setdefault(str(config["name"] or config["choices"]["objective"]), []).append(run)
    return found


def show_plan(wanted: Sequence[Arm], there: dict[str, Run], console: Console) -> None:
    """Arms, parameters, tokens and FLOPs of one run, and how many runs are to be made; nothing where all are there."""
    if all(done(there.get(key)) for arm in wanted for key in arm.identities):
        return
    entries = ask("lmx.ledger", lambda: [arm.configs[0] for arm in wanted])
    rows = []
    for arm, entry in zip(wanted, entries, strict=True):
        currency, amount = next(
            (key, value) for key, value in arm.configs[0]["budget"].items() if key != "_target_" and value
        )
        each = {
            "flops": entry["flops_per_token"],
            "tokens": 1.0,
            "targets": entry["predictions"]["loss"] / entry["tokens"],
        }
        tokens = amount / each[currency] if currency in each else None
        missing = sum(not done(there.get(key)) for key in arm.identities)
        rows.append([
            arm.name, "", short(entry["parameters"]), "" if tokens is None else short(tokens),
            "" if tokens is None else short(tokens * entry["flops_per_token"]), f"{short(amount)} {SHARED[currency]}",
            f"{missing} of {len(arm.identities)}",
        ])  # fmt: skip
    columns(["arm", "", "parameters", "tokens", "FLOPs", "budget", "runs to make"], rows, console)


def tuned_by(tune: str, words: Sequence[str], shared: Sequence[str], folder: Path, console: Console) -> list[Choice]:
    """For each arm the best value of a grid, by short runs of a seed of their own."""
    key, values = grid(tune)
    found = []
    for word in words:
        trial = trials(word, shared, key, values)
        runs = made(trial, folder, {}, console)
        found.append(chosen_value(key, values, [Result(run) for arm in trial for run in runs[arm.name]]))
        told = ", ".join(f"{value:g}: {number(loss)}" for value, loss in found[-1].losses.items())
        console.print(Text(f"{word}: {key}={found[-1].value:g} ({told})"), soft_wrap=True)
    return found


def done(run: Run | None) -> bool:
    return run is not None and run.status().get("state") == "done"


def made(wanted: Sequence[Arm], folder: Path, nodes: Any, console: Console) -> dict[str, list[Run]]:
    """Every run, trained and measured; seed after seed, so that an interrupted comparison has pairs."""
    folder.mkdir(parents=True, exist_ok=True)
    there = existing(folder.parent)
    board = Board(wanted)
    groups: dict[str, list[Run]] = {arm.name: [] for arm in wanted}
    for place in range(len(wanted[0].configs)):
        for arm in wanted:
            run = there.get(arm.identities[place]) or created(arm, place, folder)
            board.runs[arm.name, place] = run
            groups[arm.name].append(run)
            if not done(run):
                train(run, board, console)
            if done(run):
                measure(run, None, nodes)
    return groups


def created(arm: Arm, place: int, folder: Path) -> Run:
    config = dict(arm.configs[place])
    config["group"] = config["group"] or folder.name
    return Run.create(config, arm.overrides[place], folder.parent)


def train(run: Run, board: "Board", console: Console) -> None:
    """A failed arm does not stop the others; Ctrl-C does. Raises LmxError for it."""
    run.lock()
    _, code, tracker = trained(run, board.watch, console)
    if code == INTERRUPTED:
        error = LmxError(f"interrupted; {run.name} is saved. The same command goes on from here.")
        error.exit_code = code
        raise error
    if tracker is not None and code == 0:
        tracked(run, tracker)


class Board:
    """All arms in one live table; a plain line for each run where there is no terminal."""

    def __init__(self, wanted: Sequence[Arm]):
        self.names = [(arm.name, place) for place in range(len(wanted[0].configs)) for arm in wanted]
        self.seeds = [config["seed"] for config in wanted[0].configs]
        self.runs: dict[tuple[str, int], Run] = {}

    def watch(self, run: Run, running: Callable[[], bool], console: Console, stopping: Callable[[], bool]) -> Progress:
        progress = Progress(run, stopping)
        if not console.is_terminal:
            while running():
                time.sleep(EVERY)
            progress.update()
            console.print(Text(f"{run.label()}: {' · '.join(self.words(progress))}"), soft_wrap=True)
            return progress
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            while True:
                ended = not running()
                progress.update()
                live.update(self.table(progress))
                if ended:
                    return progress
                time.sleep(EVERY)

    def words(self, progress: Progress) -> list[str]:
        line = progress.metrics
        said = [progress.run.status().get("state", "unknown")]
        if reason := progress.run.status().get("reason"):
            said.append(reason)
        if line:
            said += [f"{clock(line['seconds'])} of training", speed(line)[0]]
        if progress.validation:
            said.append(f"validation {number(own(progress.validation))} {quality(progress.validation)}")
        return said

    def table(self, current: Progress) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("arm", "seed", "state", "", "loss", "left"):
            table.add_column(name, no_wrap=True)
        for name, place in self.names:
            run = self.runs.get((name, place))
            progress = current if run is current.run else Progress(run) if run else None
            if progress is None:
                table.add_row(name, str(self.seeds[place]), Text("waiting", "dim"), "", "", "")
                continue
            if progress is not current:
                progress.update()
            state = progress.phase() if progress is current else progress.run.status().get("state", "")
            table.add_row(
                Text(name, "bold"), str(self.seeds[place]), Text(state, STYLES.get(state, "cyan")),
                ProgressBar(total=1.0, completed=progress.share, width=30), loss(progress), progress.left(),
            )  # fmt: skip
        return table


def loss(progress: Progress) -> str:
    """The newest one, of validation if there is one."""
    if progress.validation:
        return number(own(progress.validation))
    return number(progress.metrics["loss"]) if progress.metrics else ""


def finished(groups: dict[str, list[Run]], folder: Path, nodes: Any, choices: dict[str, Choice]) -> dict[str, Any]:
    """The table, written into the comparison's folder with all that shows it."""
    from lmx.cli.reporting import write  # draws, which a plan need not wait for

    for runs in groups.values():
        for run in runs:
            if done(run):
                measure(run, None, nodes)
    results = [
        Results(name, sorted((Result(run) for run in runs if done(run)), key=lambda result: result.seed))
        for name, runs in groups.items()
    ]
    failed = {
        f"{name} seed {run.config()['seed']}": run.status().get("reason") or run.status().get("state")
        for name, runs in groups.items()
        for run in runs
        if not done(run)
    }
    command = " ".join(map(shlex.quote, ["lmx", *sys.argv[1:]]))
    there = [one for one in results if one.runs]
    table = build_table(folder.name, there, failed, command, choices)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, table, there)
    print(f"{folder}: report.html, figures, and table.json, .csv, .md and .tex", file=sys.stderr)
    return table


def code(table: dict[str, Any]) -> int:
    return FAILED_ARM if table["failed"] else 0


def show(table: dict[str, Any]) -> None:
    """What was spent, every yardstick by arms, native losses apart, and what may be concluded."""
    names = [arm["name"] for arm in table["arms"]]
    print()
    columns(["spent", "", *names], ledger_rows(table))
    print()
    having = {row["yardstick"] for row in table["rows"] if not row["task"]}
    wholes = [row for row in table["rows"] if not row["task"] or (row["yardstick"] not in having and row["ranked"])]
    columns(
        ["yardstick", "unit", *names, "floor"], ([*head(row), *map(value, row["cells"]), floor(row)] for row in wholes)
    )
    reasons: dict[str, list[str]] = {}
    for row in wholes:
        reasons.setdefault(row["reason"] or "", []).append(f"{row['yardstick']} {row['metric']}")
    for reason in filter(None, reasons):
        print(f"not ranked: {', '.join(reasons[reason])}: {reason}")
    parts = len(table["rows"]) - len(wholes)
    print(f"{parts} rows of single tasks: table.csv\n" if parts else "")
    columns(["own loss, never ranked", "", *names], native_rows(table))
    print()
    console = Console(highlight=False)
    for sentence in table["words"]:
        console.print(Text(sentence), soft_wrap=not console.is_terminal)


def ledger_rows(table: dict[str, Any]) -> list[list[str]]:
    matched = table["matched"]["by"]
    found = []
    for key in ("flops", "tokens", "positions", "targets", "steps", "epochs", "seconds"):
        values = [arm["ledger"][key] for arm in table["arms"]]
        told = f"matched to {table['matched']['mismatch']:.1%}" if key == matched else ""
        show_one = clock if key == "seconds" else short
        found.append([SHARED.get(key, key), told, *map(show_one, values)])
    return found


def head(row: dict[str, Any]) -> list[str]:
    mark = "" if row["ranked"] else " (not ranked)"
    name = " ".join(filter(None, [row["yardstick"], row["task"], row["metric"]]))
    return [f"{name}{mark}", row["unit"]]


def value(cell: dict[str, Any] | None) -> str:
    """The mean over seeds, and by which scorer."""
    if cell is None:
        return "–"
    spread = f" ±{cell['error']:.3f}" if cell["error"] is not None and len(cell["values"]) == 1 else ""
    low, high = min(cell["values"]), max(cell["values"])
    spread = f" [{low:.3f}, {high:.3f}]" if len(cell["values"]) > 1 else spread
    return f"{cell['mean']:.3f}{spread} {cell['scorer']}"


def floor(row: dict[str, Any]) -> str:
    floors = {(cell["floor"], cell["floor_name"]) for cell in row["cells"] if cell and cell["floor"] is not None}
    return ", ".join(f"{number:.3f} {name}" for number, name in sorted(floors))


def native_rows(table: dict[str, Any]) -> list[list[str]]:
    terms = dict.fromkeys(term for one in table["native"] for term in one["terms"])
    found = []
    for term in terms:
        cells = []
        for one in table["native"]:
            entry = one["terms"].get(term)
            if entry is None or entry["nats"] is None:
                cells.append("–")
            else:
                beside = "" if entry["constant"] is None else f" (constant {entry['constant']:.3f})"
                cells.append(f"{entry['nats']:.3f}{beside}")
        found.append([term, "nats", *cells])
    return found

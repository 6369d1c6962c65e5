"""`lmx sweep --sampler tpe`: Optuna suggests the next point by how earlier ones did, and gives up what will not be good.

The study lies in the sweep's folder, so that a sweep that was interrupted goes on. Its score is the validation loss where only
optimizer, trainer or model differ, since it then means the same for all, and only then is a run given up early. Otherwise it is
that of the first task among the yardsticks.
"""

import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from lmx.build import build
from lmx.cli.board import Board
from lmx.cli.comparing import Nodes, created
from lmx.cli.fleet import carry_out
from lmx.cli.job import job
from lmx.compare.points import Space, point
from lmx.compare.results import Result
from lmx.compare.tuning import TUNABLE
from lmx.errors import LmxError
from lmx.launch.jobs import Fleet, Job
from lmx.runs import Run, done

STUDY = "optuna.log"
STARTUP = 4  # points that are finished before any is given up
GIVEN_UP = "given up: its validation loss is above the median of others at that place"


def optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError:
        raise LmxError("--sampler tpe needs the package optuna. Type pip install optuna.") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


class Search:
    """`groups`, `broken` and `pruned` grow as points are tried."""

    def __init__(
        self,
        axes: Space,
        number: int,
        folder: Path,
        there: Mapping[str, Run],
        nodes: Nodes,
        launcher: Mapping[str, Any],
    ):
        self.launcher = launcher
        self.axes, self.number, self.folder, self.there, self.nodes = axes, number, folder, dict(there), nodes
        self.own = all(key.startswith((*TUNABLE, "model")) for key in axes.keys)
        self.optuna = optuna()
        self.study = self.opened()
        self.groups: dict[str, list[Run]] = {}
        self.broken: dict[str, str] = {}
        self.pruned: list[str] = []
        self.tried: dict[str, tuple[Any, str]] = {}  # by name of a run that has not ended: its trial and arm
        self.reported: dict[str, int] = {}  # by name of a run: how many validations, or -1 once it is given up

    def opened(self) -> Any:
        self.folder.mkdir(parents=True, exist_ok=True)
        journal = self.optuna.storages.journal
        study = self.optuna.create_study(
            study_name="sweep",
            storage=self.optuna.storages.JournalStorage(journal.JournalFileBackend(str(self.folder / STUDY))),
            pruner=self.optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=2),
            direction="minimize" if self.own else "maximize",
            load_if_exists=True,
        )
        known = len(study.get_trials(deepcopy=False))  # after which other points are drawn than before
        study.sampler = self.optuna.samplers.TPESampler(seed=known, constant_liar=True)
        return study

    def run(self, console: Console, timeout: float | None) -> None:
        """All trials that are missing. Raises LmxError once all is saved when it is told to stop."""
        board = Board([])
        self.fleet: Fleet = build(self.launcher).fleet()
        jobs = self.jobs(board, timeout)
        carry_out(jobs, self.fleet, board, console, ahead=False, ended=self.ended, watched=self.look)

    def jobs(self, board: Board, timeout: float | None) -> Iterator[Job]:
        states = self.optuna.trial.TrialState
        for old in self.study.get_trials(deepcopy=False):
            trial = self.optuna.trial.Trial(self.study, old._trial_id) if old.state == states.RUNNING else None
            if old.state in (states.COMPLETE, states.RUNNING):
                yield from self.begun(trial, old.params, board, timeout)
            elif old.state == states.PRUNED:
                self.pruned.append(" ".join(f"{key}={value}" for key, value in old.params.items()))
        while len(self.study.get_trials(deepcopy=False)) < self.number:
            trial = self.study.ask()
            yield from self.begun(trial, {axis.key: suggested(trial, axis) for axis in self.axes.axes}, board, timeout)

    def begun(self, trial: Any, params: Mapping[str, Any], board: Board, timeout: float | None) -> Iterator[Job]:
        """The runs of a point that are not there. `trial` is None for one whose score is known."""
        one = point([f"{key}={text(params[key])}" for key in self.axes.keys], self.axes)
        try:
            arm = one.arm()
        except LmxError as error:
            self.broken[one.word] = str(error)
            self.tell(trial, "FAIL")
            return
        runs = [self.there.get(key) or created(arm, place, self.folder) for place, key in enumerate(arm.identities)]
        self.there |= dict(zip(arm.identities, runs, strict=True))
        if arm.name not in board.arms:
            board.arms.append(arm.name)
            board.seeds[arm.name] = list(self.axes.seeds)
        self.groups[arm.name] = runs
        board.runs |= {(arm.name, place): run for place, run in enumerate(runs)}
        if any(run.name in self.tried for run in runs):  # the same point, which is being tried
            self.tell(trial, "FAIL")
            return
        scores = [self.score(run) if done(run) else None for run in runs]
        if None not in scores:
            self.tell(trial, "COMPLETE", sum(scores) / len(scores))  # type: ignore[arg-type]: without None
            return
        self.tried |= {run.name: (trial, arm.name) for run in runs}
        for run in runs:
            yield job(run, self.nodes, timeout)

    def tell(self, trial: Any, state: str, value: float | None = None) -> None:
        if trial is not None:
            self.study.tell(trial, value, state=self.optuna.trial.TrialState[state])

    def ended(self, job: Job, code: int) -> None:
        """Tell the study once the last run of a point has ended. What was told to stop goes on with the same command."""
        trial, name = self.tried.pop(job.run.name)
        runs = self.groups.get(name, [])
        if self.reported.get(job.run.name, 0) < 0 and not done(job.run):
            job.run.set_status(reason=GIVEN_UP)
            self.pruned.append(name)
            del self.groups[name]
            self.tell(trial, "PRUNED")
        elif not any(run.name in self.tried for run in runs):
            scores = [self.score(run) if done(run) else None for run in runs]
            if None not in scores:
                self.tell(trial, "COMPLETE", sum(scores) / len(scores))  # type: ignore[arg-type]: without None
            elif "preempted" not in {run.status().get("state") for run in runs}:
                self.tell(trial, "FAIL")

    def score(self, run: Run) -> float | None:
        result = Result(run, self.nodes)
        if self.own:
            return result.validation[-1].get("loss") if result.validation else None
        rows = [row for name in self.nodes for row in result.rows(name) if row["comparability"] == "D"]
        chosen = next((row for row in rows if not row["task"]), rows[0] if rows else None)
        if chosen is None or chosen["value"] is None:
            return None
        return chosen["value"] if chosen["better"] == "higher" else -chosen["value"]

    def look(self, active: list[Job]) -> None:
        """Report new validations, and end what Optuna gives up."""
        for one in active:
            trial, name = self.tried[one.run.name]
            seen = self.reported.get(one.run.name, 0)
            if trial is None or not self.own or len(self.groups[name]) > 1 or seen < 0:
                continue
            lines = one.run.lines("evals/validation.jsonl")
            for place, line in enumerate(lines[seen:], seen):
                if line.get("loss") is not None:
                    trial.report(line["loss"], place)
            self.reported[one.run.name] = len(lines)
            if lines and lines[-1]["progress"] < 1 and trial.should_prune():
                self.reported[one.run.name] = -1
                self.fleet.end(one, signal.SIGTERM)


def suggested(trial: Any, axis: Any) -> Any:
    if axis.ends is None:
        return trial.suggest_categorical(axis.key, list(axis.values))
    low, high = axis.ends
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(axis.key, low, high, log=axis.log)
    return trial.suggest_float(axis.key, low, high, log=axis.log)


def text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

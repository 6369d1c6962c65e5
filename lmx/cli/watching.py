"""All runs of a sweep or comparison, from their directories: the same from any terminal, and for runs of other machines."""

import json
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lmx.cli.board import loss
from lmx.compare.arms import told_apart
from lmx.errors import LmxError
from lmx.runs import NAME, STYLES, Run, find
from lmx.track.progress import Progress

EVERY = 1.0  # seconds between two looks
GAP = 60.0  # seconds without a run that is alive, after which there is no more to come
WAITING = ("queued", "running")
KINDS = ("", "sweep-", "compare-")


def group_of(name: str, folder: Path) -> str | None:
    """The group of that name, with or without what its kind begins with; None where no run and no folder has it."""
    name = Path(name).name
    known = {run.config()["group"] for run in find(folder)} if NAME.fullmatch(name) else set()
    names = [f"{kind}{name}" for kind in KINDS]
    return next((one for one in names if one in known or (folder / one / "table.json").is_file()), None)


def members(group: str, folder: Path) -> list[Run]:
    """Runs that were made for it, and those that it shares with others."""
    table = folder / group / "table.json"
    arms = json.loads(table.read_text(encoding="utf-8"))["arms"] if table.is_file() else []
    shared = {run for arm in arms for run in arm["runs"]}
    found = []
    for run in find(folder):
        try:
            if run.name in shared or run.config()["group"] == group:
                found.append(run)
        except LmxError:  # damaged
            continue
    return found


class Group:
    """The newest figures of each run; those that have ended are not read again."""

    def __init__(self, name: str, folder: Path):
        self.name, self.folder = name, folder
        self.seen: dict[str, Progress] = {}
        self.labels: dict[str, str] = {}
        self.told: dict[str, str] = {}

    def look(self) -> list[Progress]:
        runs = members(self.name, self.folder)
        if len(runs) != len(self.labels):
            configs = [run.config() for run in runs]
            names = told_apart([config["choices"]["objective"] for config in configs], configs)
            seeds = [f"{name} seed {config['seed']}" for name, config in zip(names, configs, strict=True)]
            self.labels = dict(zip((run.name for run in runs), seeds, strict=True))
        for run in runs:
            progress = self.seen.setdefault(run.name, Progress(run))
            if progress.status.get("state") != "done":
                progress.update()
                progress.status = run.status()
        return [self.seen[run.name] for run in runs]

    def table(self, all_of_them: list[Progress], rows: int) -> Table:
        states = [progress.status.get("state", "unknown") for progress in all_of_them]
        counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left", title_style="dim")
        table.title = f"{self.name}: {len(states)} runs, {counted}"
        for name in ("run", "state", "", "own loss", "left"):
            table.add_column(name, no_wrap=True)
        going = [progress for progress in all_of_them if progress.status.get("state") in WAITING]
        for progress in all_of_them if len(all_of_them) <= rows else going[:rows]:
            state = progress.status.get("state", "")
            shown = progress.phase() if state == "running" else state
            table.add_row(
                Text(self.labels[progress.run.name], "bold"), Text(shown, STYLES.get(state, "cyan")),
                ProgressBar(total=1.0, completed=progress.share, width=30), loss(progress), progress.left(),
            )  # fmt: skip
        return table

    def news(self, all_of_them: list[Progress]) -> list[str]:
        """A line for each run that came into another state since the last look."""
        lines = []
        for progress in all_of_them:
            state = progress.status.get("state", "unknown")
            if self.told.get(progress.run.name) != state:
                self.told[progress.run.name] = state
                reason = f": {progress.status['reason']}" if progress.status.get("reason") else ""
                lines.append(f"{self.labels[progress.run.name]} {state}{reason} ({progress.share:.0%})")
        return lines


def watch(name: str, folder: Path, console: Console, gap: float = GAP) -> None:
    """Until no run of it has been alive for a while."""
    group, alive = Group(name, folder), time.monotonic()
    with Live(console=console, refresh_per_second=4) as live:
        while True:
            now = group.look()
            if console.is_terminal:
                live.update(group.table(now, console.height - 4))
            else:
                for line in group.news(now):
                    console.print(Text(line), soft_wrap=True)
            waiting = any(progress.status.get("state") in WAITING for progress in now)
            alive = time.monotonic() if any(progress.run.alive() for progress in now) else alive
            if time.monotonic() - alive > (gap if waiting else min(gap, GAP / 4)):
                return
            time.sleep(EVERY)

"""All runs of a comparison while they are made: one live table; a plain line for each run where there is no terminal."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lmx.compare.arms import Arm
from lmx.runs import STYLES, Run
from lmx.track.figures import clock, number, own, quality, speed
from lmx.track.progress import Progress

MARGIN = 4  # lines of a terminal that are not rows


class Board:
    """`runs` has those that have begun, by arm and place of their seed."""

    def __init__(self, wanted: Sequence[Arm]):
        self.arms = [arm.name for arm in wanted]
        self.seeds = {arm.name: [config["seed"] for config in arm.configs] for arm in wanted}
        self.runs: dict[tuple[str, int], Run] = {}
        self.seen: dict[
            str, Progress
        ] = {}  # by name of a run; reading its config again and again would slow training down
        self.live: Live | None = None

    @contextmanager
    def shown(self, console: Console) -> Iterator[None]:
        if not console.is_terminal:
            yield
            return
        with Live(console=console, refresh_per_second=4, transient=True) as self.live:
            yield
        self.live = None

    def look(self, active: Sequence[Run], *, stopping: bool = False) -> None:
        """At those that run now."""
        if self.live:
            self.live.update(self.table(active, stopping=stopping, rows=self.live.console.height - MARGIN))

    def ended(self, run: Run, console: Console) -> None:
        if not console.is_terminal:
            progress = self.seen[run.name] = Progress(run)
            progress.update()
            console.print(Text(f"{self.label(run)}: {' · '.join(self.words(progress))}"), soft_wrap=True)

    def label(self, run: Run) -> str:
        """What tells it from other runs of its objective."""
        return next(f"{name} seed {self.seeds[name][place]}" for (name, place), one in self.runs.items() if one is run)

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

    def table(self, active: Sequence[Run], *, stopping: bool = False, rows: int = 1000) -> Table:
        """The arms under the seeds that are being trained; where there is no room for all, those that run."""
        names = {run.name for run in active}
        running = [key for key, run in self.runs.items() if run.name in names]
        places = sorted({place for _, place in running})
        table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left", title_style="dim")
        seeds = sorted({self.seeds[name][place] for name, place in running})
        number = sum(map(len, self.seeds.values()))
        table.title = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}, run {len(self.runs)} of {number}"
        if stopping:
            table.title += ": stopping, Ctrl-C again not to save"
        for name in ("arm", "state", "", "own loss", "left"):
            table.add_column(name, no_wrap=True)
        slots = [(name, place) for place in places for name in self.arms]
        if len(slots) > rows:
            slots = [slot for slot in slots if slot in self.runs and self.runs[slot].name in names]
        for name, place in slots:
            shown = name if len(places) == 1 else f"{name} seed {self.seeds[name][place]}"
            run = self.runs.get((name, place))
            if run is None:
                table.add_row(Text(shown), Text("waiting", "dim"), "", "", "")
            else:
                self.add(table, shown, run, running=run.name in names)
        return table

    def add(self, table: Table, name: str, run: Run, *, running: bool) -> None:
        here = self.of(run, running=running)
        state = here.phase() if running else here.status.get("state", "")
        if running and here.status.get("state") == "done":
            state = "measuring"
        table.add_row(
            Text(name, "bold"), Text(state, STYLES.get(state, "cyan")),
            ProgressBar(total=1.0, completed=here.share, width=30), loss(here), here.left(),
        )  # fmt: skip

    def of(self, run: Run, *, running: bool) -> Progress:
        """Of a run that nobody writes now, it is read once more after its end."""
        fresh = run.name not in self.seen
        if fresh:
            self.seen[run.name] = Progress(run)
        if fresh or running or self.seen[run.name].status.get("state") in ("queued", "running"):
            self.seen[run.name].update()
        return self.seen[run.name]


def loss(progress: Progress) -> str:
    """The newest one, of validation if there is one."""
    if progress.validation:
        return number(own(progress.validation))
    return number(progress.metrics["loss"]) if progress.metrics else ""

"""All runs of a comparison while they are made: one live table; a plain line for each run where there is no terminal."""

import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lmx.compare.arms import Arm
from lmx.runs import STYLES, Run
from lmx.track.figures import clock, number, own, quality, speed
from lmx.track.progress import EVERY, Progress


class Board:
    """`runs` has those that have begun, by arm and place of their seed."""

    def __init__(self, wanted: Sequence[Arm]):
        self.arms = [arm.name for arm in wanted]
        self.seeds = {arm.name: [config["seed"] for config in arm.configs] for arm in wanted}
        self.runs: dict[tuple[str, int], Run] = {}
        self.seen: dict[
            str, Progress
        ] = {}  # by name of a run; reading its config again and again would slow training down

    def watch(self, run: Run, running: Callable[[], bool], console: Console, stopping: Callable[[], bool]) -> Progress:
        progress = self.seen[run.name] = Progress(run, stopping)
        if not console.is_terminal:
            while running():
                time.sleep(EVERY)
            progress.update()
            console.print(Text(f"{self.label(run)}: {' · '.join(self.words(progress))}"), soft_wrap=True)
            return progress
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            while True:
                ended = not running()
                progress.update()
                live.update(self.table(run, progress))
                if ended:
                    return progress
                time.sleep(EVERY)

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

    def table(self, current: Run, progress: Progress) -> Table:
        """The arms under the seed that is being trained."""
        ((name, place),) = {key for key, run in self.runs.items() if run is current}
        table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left", title_style="dim")
        number = sum(map(len, self.seeds.values()))
        table.title = f"seed {self.seeds[name][place]}, run {len(self.runs)} of {number}"
        for name in ("arm", "state", "", "own loss", "left"):
            table.add_column(name, no_wrap=True)
        for name in self.arms:
            run = self.runs.get((name, place))
            if run is None:
                table.add_row(Text(name), Text("waiting", "dim"), "", "", "")
                continue
            here = progress if run is current else self.of(run)
            state = here.phase() if run is current else here.status.get("state", "")
            table.add_row(
                Text(name, "bold"), Text(state, STYLES.get(state, "cyan")),
                ProgressBar(total=1.0, completed=here.share, width=30), loss(here), here.left(),
            )  # fmt: skip
        return table

    def of(self, run: Run) -> Progress:
        """Of a run that nobody writes now."""
        if run.name not in self.seen:
            self.seen[run.name] = Progress(run)
            self.seen[run.name].update()
        return self.seen[run.name]


def loss(progress: Progress) -> str:
    """The newest one, of validation if there is one."""
    if progress.validation:
        return number(own(progress.validation))
    return number(progress.metrics["loss"]) if progress.metrics else ""

"""What `lmx sweep` does: points of its axes as arms of a comparison, whose runs are made and measured as those of any other."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from lmx.cli import comparing
from lmx.cli.evaluating import check, yardsticks
from lmx.cli.planning import show_plan
from lmx.cli.searching import Search
from lmx.compare.arms import Arm, existing
from lmx.compare.points import Point, Space, arms_of, drawn, grid, space
from lmx.compare.results import Results
from lmx.compare.sweep import Sweep, swept
from lmx.compare.tuning import Choice
from lmx.errors import LmxError
from lmx.recipes import opened
from lmx.runs import Run, root

Points = Sequence[tuple[Point, Arm]]


def sweep(
    settings: Sequence[str],
    *,
    sampler: str,
    number: int,
    name: str | None,
    evaluations: Sequence[str],
    tune: str | None,
    timeout: float | None,
    plan: bool,
) -> dict[str, Any] | None:
    """The table of a sweep that is there in full now, or None after a plan. Raises LmxError for what cannot be swept."""
    console = Console(stderr=True, highlight=False)
    nodes = yardsticks(evaluations)
    check(nodes)
    settings, recommended = opened(settings)
    tune = tune or recommended
    given = any(setting.startswith("budget.") for setting in settings)
    axes = space([*settings] if given else [*comparing.SHORT, *settings])
    if sampler == "tpe":
        return searched(axes, number, name, nodes, console, timeout, tune=tune, plan=plan)
    points, broken = arms_of(grid(axes) if sampler == "grid" else drawn(axes, number), axes)
    if len(points) < 2:
        raise LmxError(f"lmx sweep must have at least two points that differ, got {len(points)}.")
    folder = root(dict(points[0][1].configs[0])) / f"sweep-{comparing.checked_name(name) or default_name(points, axes)}"
    there = existing(folder.parent)
    for arm, reason in broken.items():
        console.print(Text(f"{arm} cannot be: {reason}", "yellow"), soft_wrap=True)
    choices: dict[str, Choice] = {}
    if tune is not None and plan:
        comparing.plan_tuning(tune, [(point.word, point.shared) for point, _ in points], there, console)
    elif tune is not None:
        points, choices = tuned(tune, points, folder, there, console)
    wanted = [arm for _, arm in points]
    show_plan(wanted, there, nodes, console, probe=plan)
    if plan:
        return None
    made = comparing.made(wanted, folder, there, nodes, console, timeout)
    return comparing.finished(made, folder, nodes, choices, told=saying(axes, broken))


def searched(
    axes: Space,
    number: int,
    name: str | None,
    nodes: comparing.Nodes,
    console: Console,
    timeout: float | None,
    *,
    tune: str | None,
    plan: bool,
) -> dict[str, Any] | None:
    """By what earlier points have scored; which they will be is not known beforehand."""
    if tune is not None:
        raise LmxError(
            "--tune must go with --sampler grid or random: tpe tunes whatever it is given. Make its key an axis."
        )
    probe = arms_of(drawn(axes, number), axes)[0]
    folder = root(dict(probe[0][1].configs[0]))
    told = ["tpe", axes.typed, [repr(axis) for axis in axes.axes]]
    digits = sha256(repr(told).encode()).hexdigest()[:5]
    keys = [key.rpartition(".")[2].rpartition("/")[2] for key in axes.keys]
    folder /= f"sweep-{comparing.checked_name(name) or '-'.join([*keys, digits])[-80:].lstrip('-')}"
    if plan:
        show_plan([arm for _, arm in probe], existing(folder.parent), nodes, console, probe=True)
        console.print("Points are drawn at random here; tpe chooses others, as many or fewer.")
        return None
    launcher = probe[0][1].configs[0]["launcher"]
    search = Search(axes, number, folder, existing(folder.parent), nodes, launcher)
    search.run(console, timeout)
    made = comparing.gathered(search.groups, nodes, console)
    return comparing.finished(made, folder, nodes, told=saying(axes, search.broken, search.pruned))


def saying(axes: Space, broken: Mapping[str, str], pruned: Sequence[str] = ()) -> Any:
    def said(table: dict[str, Any], arms: Sequence[Results]) -> dict[str, Any]:
        return swept(table, arms, Sweep(axes.keys, broken, pruned))

    return said


def default_name(points: Points, axes: Space) -> str:
    """Objectives and keys, and a few digits that tell settings apart; more seeds make no other sweep."""
    digits = sha256(" ".join(sorted(arm.identities[0] for _, arm in points)).encode()).hexdigest()[:5]
    objectives = dict.fromkeys(point.word.split()[0] for point, _ in points)
    keys = [key.rpartition(".")[2].rpartition("/")[2] for key in axes.keys if key != "objective"]
    return "-".join([*objectives, *keys, digits])[-80:].lstrip("-")


def tuned(
    tune: str, points: Points, folder: Path, there: Mapping[str, Run], console: Console
) -> tuple[Points, dict[str, Choice]]:
    """Points at what is best for each."""
    found = comparing.tuned_by(tune, [(point.word, point.shared) for point, _ in points], folder, there, console)
    moved = [
        (point, point.arm(f"{choice.key}={choice.value:g}")) for (point, _), choice in zip(points, found, strict=True)
    ]
    return moved, {arm.name: choice for (_, arm), choice in zip(moved, found, strict=True)}

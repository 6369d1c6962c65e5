"""Sends a comparison to W&B, as a process of its own: `python -m lmx.track.wandb_comparison FOLDER [--online]`.

All there is to know comes from its folder and the runs beside it. Its arms are sent first, with what yardsticks have said of
them; then a run of the same group for the comparison itself: the table, the figures, what may be concluded, and all files as one
artifact. Sent again, it is the same run, and what is there is not sent twice. Online, with the extra `workspaces`, a saved
workspace lays the arms out side by side.
"""

import argparse
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import wandb

from lmx import __version__
from lmx.errors import LmxError
from lmx.runs import NAME, Run
from lmx.track.wandb import sent as sent_before
from lmx.track.wandb import stamp
from lmx.track.wandb_client import alone, confine, opened, tracked, tracking
from lmx.track.wandb_reader import send_compared

FILES = ("report.html", "table.json", "table.csv", "table.md", "table.tex")
ROW = ("yardstick", "task", "metric", "unit", "better", "ranked")
CELL = ("arm", "scorer", "comparability", "mean", "error", "floor", "floor_name", "items")
TOLD = ("command", "matched", "yardsticks", "differences", "tuned", "sweep")
PATIENCE = 120  # seconds that saving a workspace may take


def send(folder: Path, *, only_online: bool) -> dict[str, Any]:
    """-> what wandb.json says. Raises LmxError when `only_online` and the server cannot be used, and where no run is left."""
    folder = folder.resolve()
    with alone(folder, wait=True):
        table = json.loads((folder / "table.json").read_text(encoding="utf-8"))
        runs = beside(folder, table)
        sent = [run for run in runs if only_online or tracked(run.config())]
        for run in sent:
            send_compared(run, folder.name, table["yardsticks"], only_online=only_online)
        confine(folder)
        if not only_online and (told := sent_before(folder)):
            return told
        facts = known(folder)
        client, mode = begun(folder, table, runs, facts, only_online)
        facts |= {"mode": mode, "url": client.url, "id": client.id, "complete": False, "stamp": stamp(folder)}
        write(folder, facts)
        tell(client, table, folder, facts["stamp"])
        about = {"entity": client.entity, "project": client.project, "runs": [*(run.name for run in sent), client.id]}
        client.finish()
        write(folder, facts | {"complete": True, "place": about})
        if mode == "online":
            print(lay_out(folder), flush=True)
    return known(folder)


def beside(folder: Path, table: Mapping[str, Any]) -> list[Run]:
    """The runs of all arms that lie there. Raises LmxError where none does."""
    names = [name for arm in table["arms"] for name in arm["runs"] if NAME.fullmatch(name)]
    there = [Run(folder.parent / name) for name in names if (folder.parent / name / "config.yaml").is_file()]
    if not there:
        raise LmxError(f"{folder} must lie beside the runs that it compares, got none of them.")
    return there


def known(folder: Path) -> dict[str, Any]:
    """wandb.json; a comparison keeps the ID that it was given, which no other machine's comparison of that name has."""
    place = folder / "wandb.json"
    facts = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
    return {"id": f"{folder.name}-{secrets.token_hex(3)}"} | facts


def write(folder: Path, facts: Mapping[str, Any]) -> None:
    temporary = folder / ".wandb.json"
    temporary.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    temporary.replace(folder / "wandb.json")


def begun(
    folder: Path, table: Mapping[str, Any], runs: Sequence[Run], facts: Mapping[str, Any], only_online: bool
) -> tuple[Any, str]:
    """A W&B run in the group of its arms, where they have one in common."""
    configs = [run.config() for run in runs]
    groups = {config["group"] or folder.name for config in configs}
    track = next(filter(tracked, configs), configs[0])
    arms = {arm["name"]: arm["runs"] for arm in table["arms"]}
    about = {
        "id": facts["id"], "name": folder.name, "group": groups.pop() if len(groups) == 1 else folder.name,
        "job_type": "compare", "tags": sorted({arm["objective"] for arm in table["arms"]}),
        "config": {key: table[key] for key in TOLD if key in table} | {"arms": arms, "lmx": __version__},
    }  # fmt: skip
    return opened(folder, tracking(track), about, only_online=only_online, x_disable_stats=True)


def tell(client: Any, table: Mapping[str, Any], folder: Path, mark: str) -> None:
    """One row with all there is to see, and one version of the artifact, unless the server has them."""
    if client.summary.get("stamp") == mark:
        return
    client.log(dict(shown(table, folder)))
    client.summary.update(dict(numbers(table)) | {"words": "\n".join(table["words"]), "stamp": mark})
    artifact = wandb.Artifact(folder.name, type="comparison")
    for name in FILES:
        if (folder / name).is_file():
            artifact.add_file(str(folder / name), name=name)
    if (folder / "figures").is_dir():
        artifact.add_dir(str(folder / "figures"), name="figures")
    client.log_artifact(artifact)


def shown(table: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, Any]]:
    """Arms side by side, a line for each number of each arm, and every figure."""
    names = [arm["name"] for arm in table["arms"]]
    wide: list[Any] = [
        [*(row[key] for key in ROW), *(cell and cell["mean"] for cell in row["cells"])] for row in table["rows"]
    ]
    yield "comparison", wandb.Table(columns=[*ROW, *names], data=wide)
    cells = [(row, cell) for row in table["rows"] for cell in row["cells"] if cell]
    data: list[Any] = [
        [*(row[key] for key in ROW), *(cell[key] for key in CELL), seed, value]
        for row, cell in cells
        for seed, value in zip(cell["seeds"], cell["values"], strict=True)
    ]
    yield "values", wandb.Table(columns=[*ROW, *CELL, "seed", "value"], data=data)
    for figure in sorted((folder / "figures").glob("*.svg")):
        yield f"figures/{figure.stem}", wandb.Html(figure.read_text(encoding="utf-8"), inject=False)


def numbers(table: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Means of whole yardsticks, and what was spent, by arm."""
    for row in table["rows"]:
        for cell in row["cells"]:
            if cell and not row["task"]:
                yield f"yardsticks/{row['yardstick']}/{row['metric']}/{cell['arm']}", cell["mean"]
    for arm in table["arms"]:
        for key, value in arm["ledger"].items():
            yield f"spent/{key}/{arm['name']}", value


def lay_out(folder: Path) -> str:
    """Save a workspace, in a process of its own, since its package is a preview; -> a line that says where, or why not."""
    if find_spec("wandb_workspaces") is None:
        return "lmx: no saved workspace without its package: pip install wandb-workspaces"
    command = [sys.executable, "-P", "-m", "lmx.track.wandb_workspace", str(folder)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return f"lmx: no saved workspace: W&B took more than {PATIENCE} s"
    if done.returncode:
        return f"lmx: no saved workspace: {(done.stderr.strip().splitlines() or ['it ended without a word'])[-1]}"
    write(folder, known(folder) | {"workspace": done.stdout.strip()})
    return f"workspace: {done.stdout.strip()}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--online", action="store_true", help="or not at all")
    arguments = parser.parse_args()
    try:
        facts = send(arguments.folder, only_online=arguments.online)
    except LmxError as error:
        print(f"lmx: {error}", file=sys.stderr)
        return error.exit_code
    print(facts["url"] or f"recorded offline in {arguments.folder}/wandb")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Sends a comparison to W&B, as a process of its own: `python -m lmx.track.wandb_comparison FOLDER [--online]`.

Its arms are sent first, with what yardsticks have said of them; then a run of the same group for the comparison itself: the
table, the figures, what may be concluded, and all files as one artifact. Sent again, it is the same run.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import wandb

from lmx.errors import LmxError
from lmx.runs import Run
from lmx.track.wandb_reader import confine, opened, tracking
from lmx.track.wandb_reader import send as send_run

FILES = ("report.html", "table.json", "table.csv", "table.md", "table.tex")
ROW = ("yardstick", "task", "metric", "unit", "better", "ranked")
CELL = ("arm", "scorer", "comparability", "mean", "floor", "floor_name", "items", "seeds", "values")


def send(folder: Path, *, only_online: bool) -> dict[str, Any]:
    """-> what wandb.json says. Raises LmxError when `only_online` and the server cannot be used."""
    table = json.loads((folder / "table.json").read_text(encoding="utf-8"))
    runs = [Run(folder.resolve().parent / name) for arm in table["arms"] for name in arm["runs"]]
    there = [run for run in runs if (run.path / "config.yaml").is_file()]
    if not there:
        raise LmxError(f"{folder} must lie beside the runs that it compares, got none of them.")
    for run in there:
        if only_online or "project" in run.config()["track"]:
            send_run(run, follow=False, only_online=only_online)
    inner = folder / "wandb"
    inner.mkdir(exist_ok=True)
    confine(inner)
    config = there[0].config()
    about = {
        "id": folder.name, "name": folder.name, "group": config["group"] or folder.name, "job_type": "compare",
        "tags": [arm["objective"] for arm in table["arms"]],
        "config": {key: table[key] for key in ("command", "matched", "differences", "tuned")},
    }  # fmt: skip
    client, mode = opened(folder, tracking(config), about, os.getpid(), only_online)
    client.log(dict(shown(table, folder)))
    client.summary.update(dict(numbers(table)) | {"words": "\n".join(table["words"])})
    artifact = wandb.Artifact(folder.name, type="comparison")
    for name in FILES:
        artifact.add_file(str(folder / name), name=name)
    artifact.add_dir(str(folder / "figures"), name="figures")
    client.log_artifact(artifact)
    client.finish()
    facts = {"mode": mode, "url": client.url, "id": folder.name, "complete": True}
    (folder / "wandb.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return facts


def shown(table: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, Any]]:
    """The table, a row for each arm and number, and every figure."""
    rows: list[Any] = [
        [row[key] for key in ROW] + [str(cell[key]) if key in ("seeds", "values") else cell[key] for key in CELL]
        for row in table["rows"]
        for cell in row["cells"]
        if cell
    ]
    yield "comparison", wandb.Table(columns=[*ROW, *CELL], data=rows)
    for figure in sorted((folder / "figures").glob("*.svg")):
        yield f"figures/{figure.stem}", wandb.Html(figure.read_text(encoding="utf-8"))


def numbers(table: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Means of whole yardsticks, and what was spent, by arm."""
    for row in table["rows"]:
        for cell in row["cells"]:
            if cell and not row["task"]:
                yield f"{row['yardstick']}/{row['metric']}/{cell['arm']}", cell["mean"]
    for arm in table["arms"]:
        for key, value in arm["ledger"].items():
            yield f"spent/{key}/{arm['name']}", value


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

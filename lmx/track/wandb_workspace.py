"""Saves a workspace of W&B for a comparison that is there: `python -m lmx.track.wandb_workspace FOLDER` prints where.

Losses, yardsticks, speed, tables and figures of exactly its runs, on one axis. Saved again, it is the same workspace. Needs the
extra `workspaces`.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from lmx.track.wandb_rows import METERS


def save(facts: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    """-> its URL"""
    place = facts["place"]
    workspace = found(facts.get("workspace")) or ws.Workspace(entity=place["entity"], project=place["project"])
    workspace.name = table["name"]
    axis = table["matched"]["by"] if table["matched"]["by"] in METERS else "tokens"
    workspace.sections = sections(table, axis)
    workspace.settings = ws.WorkspaceSettings(x_axis=axis, max_runs=len(place["runs"]))
    workspace.runset_settings = ws.RunsetSettings(filters=[ws.Metric("ID").isin(place["runs"])])
    return workspace.save().url


def found(url: str | None) -> ws.Workspace | None:
    """What was saved before, unless somebody removed it."""
    try:
        return ws.Workspace.from_url(url) if url else None
    except ValueError:
        return None


def sections(table: Mapping[str, Any], axis: str) -> list[ws.Section]:
    wholes = [row for row in table["rows"] if not row["task"]]

    def lines(*names: str) -> list[wr.LinePlot]:
        return [wr.LinePlot(title=name, x=axis, y=[name]) for name in names]

    panels = {
        "Yardsticks": [
            wr.BarPlot(
                title=f"{row['yardstick']} {row['metric']}, {row['unit']}", metrics=[wr.SummaryMetric(summarised(row))]
            )
            for row in wholes
        ],
        "Loss": lines("train/loss", "validation/loss", "validation/bits_per_byte"),
        "Yardsticks in the loop": lines(*(f"validation/{row['yardstick']}/{row['metric']}" for row in wholes)),
        "Speed": lines("speed/tokens_per_second", "speed/flops_per_second", "speed/peak_share"),
        "Comparison": [wr.WeavePanelSummaryTable(table_name=key) for key in ("comparison", "yardsticks", "samples")],
        "Configs": [wr.RunComparer(diff_only="split")],
    }
    return [
        ws.Section(name=name, panels=some, is_open=number < 2) for number, (name, some) in enumerate(panels.items())
    ]


def summarised(row: Mapping[str, Any]) -> str:
    """The name of its value in a run's summary: lmx/track/wandb_rows.py."""
    return f"yardsticks/{row['yardstick']}/{row['metric']}"


def main() -> int:
    folder = Path(sys.argv[1])
    facts, table = (json.loads((folder / file).read_text(encoding="utf-8")) for file in ("wandb.json", "table.json"))
    print(save(facts, table))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""All that shows a comparison, written beside its table: tables for other programs, the page, figures for papers."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from lmx import __version__
from lmx.cli.launching import ask
from lmx.compare.results import Result, Results
from lmx.errors import LmxError
from lmx.report.charts import save
from lmx.report.comparison import document
from lmx.report.figures import figures
from lmx.report.swept import swept_figures
from lmx.report.tables import as_csv, as_latex, as_markdown
from lmx.runs import NAME, Run

TEXT = "The quick brown fox jumped over the lazy dog. It slept. Nobody saw it, and the rain went on."
CODE = "def area(width, height):\n    if width < 0:\n        return 0\n    return width * height\n"
READING = ("objective", "tokenizer", "length", "data", "packing")  # what an example depends on
STAMP = "<!-- {} -->"  # at the end of a page: what it was made from


def write(folder: Path, table: dict[str, Any], arms: Sequence[Results], *, again: bool = False) -> None:
    """table.*, figures/* and report.html. Where page and figures show this table already they stay, unless `again`.

    The page comes last: it says that all are there.
    """
    write_tables(folder, table)
    page, stamp = folder / "report.html", stamped(table, arms)
    if not again and page.exists() and page.read_text(encoding="utf-8").endswith(stamp):
        return
    drawn = [*swept_figures(table), *figures(table, arms)]
    told = document(table, arms, drawn, examples(arms))
    (folder / "figures").mkdir(exist_ok=True)
    for left in (folder / "figures").glob("*.*"):  # of an earlier comparison of that name
        if left.stem not in {figure.name for figure in drawn} and left.suffix in (".svg", ".png"):
            left.unlink()
    for figure in drawn:
        save(figure.paper, folder / "figures" / figure.name)
    page.write_text(told + stamp, encoding="utf-8")


def write_tables(folder: Path, table: dict[str, Any]) -> None:
    written = {
        "json": json.dumps(table, indent=1) + "\n",
        "csv": as_csv(table),
        "md": as_markdown(table),
        "tex": as_latex(table),
    }
    for ending, text in written.items():
        (folder / f"table.{ending}").write_text(text, encoding="utf-8")


def stamped(table: Mapping[str, Any], arms: Sequence[Results]) -> str:
    """Changes with the version, the table, and which of its runs are there; how it was asked for does not matter."""
    told = {key: value for key, value in table.items() if key != "command"}
    there = [result.run.name for arm in arms for result in arm.runs]
    return STAMP.format(sha256(json.dumps([__version__, told, there]).encode()).hexdigest()) + "\n"


def examples(arms: Sequence[Results]) -> dict[str, dict[str, Any] | str]:
    """By arm, one corrupted example, or why there is none. All in one process; one each where that fails.

    Arms that read the same text in the same way have the first one's.
    """
    unlike: dict[str, str] = {}
    for arm in arms:
        unlike.setdefault(json.dumps([arm.runs[0].config.get(key) for key in READING], sort_keys=True), arm.name)
    configs = {arm.name: arm.runs[0].config for arm in arms if arm.name in unlike.values()}
    try:
        return dict(zip(configs, told(list(configs.values())), strict=True))
    except LmxError:
        found: dict[str, dict[str, Any] | str] = {}
        for name, config in configs.items():
            try:
                (found[name],) = told([config])
            except LmxError as error:
                found[name] = f"No example: {error}"
        return found


def told(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of all configs; those whose data is code read code."""
    code = any(config["choices"]["data"] == "python" for config in configs)
    how = {"texts": [CODE if code else TEXT], "noise": [], "words": True, "fit": True}
    return ask("lmx.example", lambda: {"configs": list(configs), "how": how}) if configs else []


def found(name: str, folder: Path) -> Path:
    """A comparison's folder, by path or by its name in `folder`. Raises LmxError when it has no table."""
    given = Path(name)
    inner = [folder / f"{kind}{name}" for kind in ("", "compare-", "sweep-")] if NAME.fullmatch(name) else []
    for place in [given, *inner]:
        if (place / "table.json").is_file():
            return place
    known = ", ".join(sorted(path.parent.name for path in folder.glob("*/table.json")))
    raise LmxError(
        f"DIR must be the folder of a comparison, with its table.json, got {name}."
        + (f" In {folder} there are {known}." if known else " Type lmx compare first.")
    )


def read(folder: Path) -> dict[str, Any]:
    try:
        table = json.loads((folder / "table.json").read_text(encoding="utf-8"))
        read_all = bool(table["arms"] and table["rows"] is not None)
    except (OSError, ValueError, KeyError, TypeError):
        read_all = False
    if not read_all:
        raise LmxError(f"{folder}/table.json must be what lmx compare writes, got something else.")
    return table


def results(table: Mapping[str, Any], folder: Path) -> tuple[list[Results], list[str]]:
    """The arms of a table with their runs, which lie beside its folder, and the names of runs that do not.

    An arm has all of its runs or is left out.
    """
    arms, missing = [], []
    for arm in table["arms"]:
        paths = [folder.resolve().parent / name for name in arm["runs"]]
        gone = [path.name for path in paths if not NAME.fullmatch(path.name) or not (path / "config.yaml").is_file()]
        missing += gone
        if not gone:
            arms.append(Results(arm["name"], [Result(Run(path)) for path in paths]))
    return arms, missing

"""`lmx doctor`: whether this machine has what a run needs."""

import json
from typing import Annotated, Any

import typer


def doctor(
    folder: Annotated[str | None, typer.Argument(help="Where runs will be; default $LMX_RUNS or ./runs.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> None:
    """Check this machine. Versions, processor, W&B and the file system of runs; exit code 1 when a guarantee is missing."""
    from pathlib import Path

    from lmx.cli import probes
    from lmx.runs import root

    findings = probes.everything(Path(folder) if folder else root())
    if as_json:
        print(json.dumps(findings, indent=2))
    else:
        report(findings)
    raise typer.Exit(int(any(finding["ok"] is False for finding in findings)))


def report(findings: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    signs = {True: ("ok  ", "green"), False: ("FAIL", "bold red"), None: ("    ", "dim")}
    width = max(len(finding["what"]) for finding in findings)
    for finding in findings:
        console.print(
            Text.assemble(signs[finding["ok"]], "  ", f"{finding['what']:<{width}}", "  ", finding["value"]),
            soft_wrap=True,
        )

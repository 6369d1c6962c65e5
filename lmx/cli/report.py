"""`lmx report`: a comparison's page, figures and tables, made again from what is on disk."""

import sys
from typing import Annotated

import typer


def report(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="Of a comparison: its path, or its name in the folder of runs.")
    ],
) -> None:
    """Write a comparison's page, figures and tables again. From its folder and the runs beside it; nothing is measured.

    \b
    lmx report runs/compare-clm-mlm
    lmx report rates                 of lmx compare … --name rates
    """
    from lmx.cli import reporting
    from lmx.runs import root

    place = reporting.found(folder, root())
    table = reporting.read(place)
    arms, missing = reporting.results(table, place)
    if missing:
        print(f"not beside {place}, so without their curves: {', '.join(missing)}", file=sys.stderr)
    reporting.write(place, table, arms, again=True)
    print(place / "report.html")

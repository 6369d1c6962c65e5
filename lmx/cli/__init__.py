"""The command line: one file per command. Nothing heavy is imported before a command needs it."""

import sys
import traceback
from typing import Annotated

import typer

from lmx import __version__
from lmx.cli import compare, config, doctor, evaluate, generate, list, report, runs, show, sweep, sync, train, watch
from lmx.errors import INTERNAL, LmxError

HELP = """
Train one transformer under different language-modelling objectives, and compare them fairly.

\b
lmx train                         causal LM on the embedded corpus
lmx train objective=mlm seed=1    choices: lmx list; keys: lmx config
lmx show objective=mlm            what the model sees and is asked
"""

app = typer.Typer(
    help=HELP,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # typer names this one alone of what click raises
app.command("train")(train.train)
app.command("compare")(compare.compare)
app.command("sweep")(sweep.sweep)
app.command("report")(report.report)
app.command("config")(config.config)
app.command("list")(list.list_choices)
app.command("evaluate")(evaluate.evaluate)
app.command("show")(show.show)
app.command("generate")(generate.generate)
app.command("runs")(runs.runs)
app.command("watch")(watch.watch)
app.command("sync")(sync.sync)
app.command("doctor")(doctor.doctor)


def version(wanted: bool) -> None:
    if wanted:
        print(f"lmx {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=version, is_eager=True)
    ] = False,
) -> None:
    """The options of `lmx` itself; its help text is HELP."""


def main() -> None:
    """Run the command of sys.argv. A mistake of the user is one line; anything else keeps its traceback."""
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except UsageError as error:
        told = " ".join(error.format_message().split())  # type: ignore[attr-defined]
        print(f"lmx: {told}{'' if told[-1] in '.?' else '.'} Type {error.ctx.command_path} --help.", file=sys.stderr)  # type: ignore[attr-defined]
        sys.exit(LmxError.exit_code)
    except LmxError as error:
        print(f"lmx: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception:
        traceback.print_exc()
        sys.exit(INTERNAL)
    sys.exit(code)

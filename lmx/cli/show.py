"""`lmx show`: one example, as the model sees it."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lmx.cli.completion import Plugins, complete

RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def complete_show(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Objectives by name, and settings."""
    from lmx.schema.choices import choices

    names = [(name, about) for name, about in choices("objective").items() if name.startswith(incomplete)]
    return names * ("=" not in incomplete) + complete(context, incomplete)


def show(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[OBJECTIVE]... [KEY=VALUE]...",
            help="Objectives to lay side by side (see `lmx list objective`), and settings for all of them.",
            autocompletion=complete_show,
            show_default=False,
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help="Your own text instead of the corpus's first sample; several are several documents."),
    ] = None,
    noise: Annotated[
        str | None, typer.Option(help="Which tokens of the text to hide, from 0: 1-3,7. Instead of random ones.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page here instead of a picture.")] = None,
    plugin: Plugins = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a picture.")] = False,
) -> None:
    """Show one example, as the model sees it. What it reads, what it is asked where, and who may attend to whom.

    \b
    lmx show objective=mlm
    lmx show clm mlm span electra --text "The state of the union is strong."
    lmx show span --text "The quick brown fox jumped over the lazy dog" --noise 1-3,7
    lmx show clm packing=docmask --text "Two documents." --text "In one row."

    A text is read word by word, unless a tokenizer is named: tokenizer=bpe reads it as training would. seed=1 draws other noise.
    """
    from lmx.cli.launching import ask
    from lmx.config import plain
    from lmx.errors import LmxError

    words = overrides or []
    names = [word for word in words if "=" not in word]
    settings = [word for word in words if "=" in word]
    if noise is not None and (text is None or len(text) > 1):
        raise LmxError(f"--noise must go with one --text, got {len(text or [])}.")
    if as_json and html is not None:
        raise LmxError(f"--json must go without --html, got --html {html}.")
    if any(not one.strip() for one in text or []):
        raise LmxError("--text must have a word, got an empty text.")
    if names and any(word.startswith("objective=") for word in settings):
        raise LmxError(f"objective must be named once, got {' '.join(words)}. Type lmx show {' '.join(names)}.")
    how = {
        "texts": text or [],
        "noise": places(noise) if noise is not None else [],
        "words": not any(re.match(r"tokenizer[=.]", word) for word in settings),
        "fit": not any(word.startswith("length=") for word in settings),
    }
    arms = [[f"objective={name}", *settings] for name in names] or [settings]
    examples = ask("lmx.example", lambda: {"configs": [plain(arm) for arm in arms], "how": how})
    if as_json:
        print(json.dumps(examples if len(names) > 1 else examples[0]))
    elif html is not None:
        page(html, examples)
    else:
        picture(examples)


def places(noise: str) -> list[int]:
    """`1-3,7` -> 1 2 3 7"""
    from lmx.errors import LmxError

    found: set[int] = set()
    for part in noise.split(","):
        match = RANGE.fullmatch(part.strip())
        begin, end = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not begin <= end < 10**6:
            raise LmxError(f"--noise must be places such as 1-3,7, got '{noise}'.")
        found |= set(range(begin, end + 1))
    return sorted(found)


def picture(examples: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console

    from lmx.report.terminal import draw

    console = Console(highlight=False)
    for line in draw(examples, console.width):
        console.print(line, soft_wrap=True)


def page(path: Path, examples: Sequence[dict[str, Any]]) -> None:
    from lmx.errors import LmxError
    from lmx.report.page import document

    try:
        path.write_text(document(examples), encoding="utf-8")
    except OSError as error:
        raise LmxError(f"--html must be a file that can be written, got {path} ({error.strerror}).") from None
    print(path)

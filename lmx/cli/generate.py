"""`lmx generate`: a trained model writes."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from lmx.cli.completion import Plugins

SURE, UNSURE = 0.5, 0.2  # of being replaced


def generate(
    run: Annotated[str, typer.Argument(metavar="RUN[@STEP]", help="Its newest checkpoint, or that of a step.")],
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="What it reads; [MASK] is a gap to fill. Several are several texts.", show_default=False),
    ] = None,
    tokens: Annotated[int, typer.Option(min=1, help="At most so many, in each gap or after the text.")] = 64,
    temperature: Annotated[float, typer.Option(min=0, help="0: always the most likely token.")] = 0.8,
    top_k: Annotated[int, typer.Option(min=0, help="Draw from so many of the most likely tokens; 0: from all.")] = 40,
    top_p: Annotated[
        float, typer.Option(min=0.01, max=1, help="Draw from the most likely tokens that have this share.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed writes the same text.")] = 0,
    samples: Annotated[int, typer.Option(min=1, max=100, help="Texts for each prompt.")] = 1,
    speculative: Annotated[
        bool, typer.Option("--speculative", help="Draft several tokens, keep the right ones (mtp).")
    ] = False,
    runs: Annotated[str | None, typer.Option(help="The folder of the run, if not ./runs.")] = None,
    plugin: Plugins = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Let a trained model write. Continue a text, fill its gaps, answer; a detector marks what does not belong.

    \b
    lmx generate RUN --prompt "The state of the union"
    lmx generate RUN --prompt "The [MASK] of the union is [MASK]."
    lmx generate RUN --prompt "My fellow" --temperature 0 --speculative
    """
    from lmx.cli.launching import ask
    from lmx.errors import LmxError
    from lmx.runs import Run, root

    name, _, step = run.partition("@")
    if step and not step.isdigit():
        raise LmxError(f"RUN@STEP must be a run and the number of a step, got {run}.")
    if not prompt:
        raise LmxError(f"--prompt must be given, got none. Type lmx generate {run} --prompt 'The state of the union'.")
    opened = Run.open(name, root({"runs": runs}))
    how = {
        "tokens": tokens, "temperature": temperature, "top_k": top_k or None, "top_p": top_p, "seed": seed,
        "speculative": speculative,
    }  # fmt: skip
    request = {
        "run": str(opened.path),
        "step": int(step) if step else None,
        "prompts": prompt,
        "samples": samples,
        "how": how,
    }
    told = ask("lmx.generate", lambda: request)
    if as_json:
        print(json.dumps(told))
    else:
        picture(told["answers"])


def picture(answers: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for number, answer in enumerate(answers):
        if number:
            console.print()
        text = Text()
        for piece in answer["pieces"]:
            if answer["kind"] == "answer" and piece["kind"] == "written":
                text.append("\n")
            text.append(printable(piece["text"]), style(piece))
        console.print(text, soft_wrap=not console.is_terminal)
        if answer["kind"] == "fill":
            for place, candidates in enumerate(answer["candidates"], start=1):
                others = "  ".join(f"{one['piece']} {one['share']:.0%}" for one in candidates)
                console.print(Text(f"  {place}: {others}", "dim"))
        if answer["kind"] == "marks":
            marked = [
                (piece["replaced"], piece["text"].strip()) for piece in answer["pieces"] if piece["replaced"] >= UNSURE
            ]
            told = ", ".join(f"{word} {share:.0%}" for share, word in sorted(marked, reverse=True)) or "nothing"
            console.print(Text(f"  perhaps replaced: {told}", "dim"))
        if answer["tokens"] and console.is_terminal:
            speed = f"tokens {answer['tokens']}, forward passes {answer['forwards']}, {answer['seconds']:.2f} s"
            console.print(Text(f"  {speed}", "dim"))


def printable(text: str) -> str:
    """Lines are kept; what a terminal obeys is not."""
    return "".join(char if char.isprintable() or char == "\n" else "�" for char in text)


def style(piece: dict[str, Any]) -> str:
    if piece["kind"] == "written":
        return "bold green"
    share = piece.get("replaced", 0.0)
    return "black on red" if share >= SURE else "black on yellow" if share >= UNSURE else ""

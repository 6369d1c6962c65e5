"""Completion of `group=choice` and `key=value` in the shell, for the composition typed so far."""

import os
from collections.abc import Iterable
from typing import Annotated, Any

import typer

Items = list[tuple[str, str]]  # (what is inserted, what a shell may show beside it)


def complete(context: typer.Context, incomplete: str) -> Items:
    """Never raises: a traceback in the middle of a prompt helps nobody."""
    try:
        before, word, glued = typed(context, incomplete)
        key, equals, value = word.partition("=")
        found = values(key, value, before) if equals else keys(word, before)
    except Exception:
        return []
    return [(text.partition("=")[2] if glued else text, about) for text, about in found]


Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Settings: group=choice (see `lmx list`) and key=value (see `lmx config`).",
        autocompletion=complete,
        show_default=False,
    ),
]


def name_plugins(packages: list[str] | None) -> None:
    """Before the command runs, and before a shell is told what could follow."""
    from lmx.schema import plugins

    if packages:
        plugins.name(packages)


Plugins = (
    Annotated[  # the option does all by its callback: what it names is known to this process and to those it starts
        list[str] | None,
        typer.Option(
            "--plugin",
            metavar="PKG",
            help="A package of yours with classes and a folder conf. Also LMX_PLUGINS=PKG,PKG.",
            callback=name_plugins,
            is_eager=True,
            show_default=False,
        ),
    ]
)


def typed(context: typer.Context, incomplete: str) -> tuple[list[str], str, bool]:
    """(the settings before, the word at the cursor, whether the shell takes what follows `=` as a word of its own).

    bash ends a word at `=`: `objective=m` arrives as three words, and only the last is to be replaced.
    """
    if "COMP_WORDS" not in os.environ:
        return list(context.params.get("overrides") or []), incomplete, False
    words, cursor = os.environ["COMP_WORDS"].split(), int(os.environ["COMP_CWORD"])
    words = words[2 : cursor + 1] if cursor < len(words) else [*words[2:], ""]
    whole: list[str] = []
    for word in words:
        if whole and (word == "=" or whole[-1].endswith("=")):
            whole[-1] += word
        else:
            whole.append(word)
    *before, current = whole or [""]
    return before, current, "=" in current and "=" not in words[-1].strip("=")


def keys(word: str, before: list[str]) -> Items:
    """Groups and keys that begin like the word. A single one is offered with its values, so that no blank follows `=`."""
    from lmx.schema.choices import groups

    found = [(f"{group}=", "group") for group in groups()]
    slots = [slot for slot in compose(before) if not slot.part and slot.name not in groups()]
    found += [(f"{slot.name}=", about(slot)) for slot in slots]
    found = [item for item in found if item[0].startswith(word)]
    return (values(found[0][0][:-1], "", before) or found) if len(found) == 1 else found


def values(key: str, value: str, before: list[str]) -> Items:
    """The choices of a group, or what a key accepts if that is a short list."""
    from lmx.schema.choices import choices, groups
    from lmx.schema.values import options

    if key in groups():
        found: Iterable[tuple[str, str]] = choices(key).items()
    else:
        slot = next((slot for slot in compose(before) if slot.name == key), None)
        found = [(option, "") for option in options(slot.form) if option.isidentifier()] if slot else []
    return [(f"{key}={name}", about) for name, about in found if name.startswith(value)]


def about(slot: Any) -> str:
    from lmx.schema.values import show, words

    return f"{show(slot.value)}: {words(slot.form)}"


def compose(before: list[str]) -> list[Any]:
    """The keys of the groups chosen so far; a mistake elsewhere on the line does not matter yet."""
    from lmx.config import places
    from lmx.schema.choices import choices, groups

    pairs = [word.partition("=") for word in before]
    return places([f"{key}={name}" for key, _, name in pairs if key in groups() and name in choices(key)])


def complete_group(incomplete: str) -> list[str]:
    from lmx.schema.choices import groups

    return [group for group in [*groups(), "recipe"] if group.startswith(incomplete)]


def complete_yardstick(incomplete: str) -> list[tuple[str, str]]:
    from lmx.schema.choices import choices

    return [(name, about) for name, about in choices("eval/yardstick").items() if name.startswith(incomplete)]


def complete_arms(context: typer.Context, incomplete: str) -> Items:
    """Objectives by name, and settings."""
    from lmx.schema.choices import choices

    names = [(name, about) for name, about in choices("objective").items() if name.startswith(incomplete)]
    return names * ("=" not in incomplete) + complete(context, incomplete)

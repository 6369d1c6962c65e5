r"""Conversations as the plain text of a document: each turn begins a line that says who speaks.

    ### System: Answer with one word.
    ### User: Which is larger, 4 or 7?
    ### Assistant: 7

The first line is such a line, and a turn lasts until the next one. A line inside of a turn that looks like one begins with a
backslash, which is not part of what is said: `\### User: ` says `### User: `.
"""

import re
from collections.abc import Sequence
from typing import Literal

Role = Literal["system", "user", "assistant"]
Turn = tuple[Role, str]
ROLES: dict[str, Role] = {"System": "system", "User": "user", "Assistant": "assistant"}
NAMES = {role: name for name, role in ROLES.items()}
SPEAKER = re.compile(rf"^### ({'|'.join(ROLES)}): ", re.MULTILINE)
LIKE_A_TURN = re.compile(rf"^(\\*### (?:{'|'.join(ROLES)}): )", re.MULTILINE)
ESCAPED = re.compile(rf"^\\(\\*### (?:{'|'.join(ROLES)}): )", re.MULTILINE)


def write(turns: Sequence[Turn]) -> str:
    """The document that `read` gives back as `turns`."""
    return "\n".join(f"### {NAMES[role]}: {escape(said)}" for role, said in turns)


def read(text: str) -> list[Turn]:
    """The turns of a document; none where it does not begin with a speaker."""
    if not SPEAKER.match(text):
        return []
    _, *pieces = SPEAKER.split(text)
    names, said = pieces[::2], pieces[1::2]
    ended = [*(content.removesuffix("\n") for content in said[:-1]), said[-1]]
    return [(ROLES[name], ESCAPED.sub(r"\1", content)) for name, content in zip(names, ended, strict=True)]


def escape(said: str) -> str:
    return LIKE_A_TURN.sub(r"\\\1", said)

"""Long documents as passages, so that a step has text of many, and a small budget has seen more than a few.

Documents are shuffled whole: a book would be all that is read for thirty steps. A passage ends where a paragraph does:

    a document     One.\\n\\nTwo.\\n\\nThree.        in passages of 10 characters:   One.\\n\\nTwo.     Three.
"""

import re
from collections.abc import Iterator

BLANK = re.compile(r"\n[^\S\n]*\n\s*")


def passages(text: str, size: int | None) -> Iterator[str]:
    """The paragraphs of a text, as many together as `size` characters hold; a paragraph is never cut. None: the whole text."""
    if size is None:
        yield text
        return
    (begin, end), *others = paragraphs(text)
    for start, stop in others:
        if stop - begin > size:
            yield text[begin:end]
            begin = start
        end = stop
    yield text[begin:end]


def paragraphs(text: str) -> Iterator[tuple[int, int]]:
    """Where each begins and ends; there is one at least in a text that is not blank."""
    edges = [0, *(edge for blank in BLANK.finditer(text) for edge in blank.span()), len(text)]
    return ((begin, end) for begin, end in zip(edges[::2], edges[1::2], strict=True) if text[begin:end].strip())

"""HTML of sentences, tables and data of a comparison: all text escaped, what belongs to an arm marked with its place."""

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite
from typing import Any

from lmx.report import listings
from lmx.report.listings import Listing


def embedded(value: Any) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(finite(value), allow_nan=False).replace("<", "\\u003c")


def finite(value: Any) -> Any:
    """Without what JSON has no number for."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def tabulated(one: Listing, number: int, style: str = "") -> str:
    """A table; its columns from `one.arms` on are those of `number` arms. `style` differences: keys and long values."""
    if not one.rows:
        return "<p class=faint>None.</p>"
    first = len(one.head) if one.arms is None else one.arms

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{owner(place - first, number)}>{key(cell) if style and not place else escape(cell)}</{tag}>"
            for place, cell in enumerate(cells)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in one.rows)
    return (
        f'<div class=scroll><table class="{style}"><thead><tr>{line(one.head, "th")}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def key(name: str) -> str:
    """A line may end behind its dots and underscores, not within a word."""
    return re.sub(r"(?<=\w)([._])(?=[^ _]{3})", r"\1<wbr>", escape(name))


def owner(place: int, number: int) -> str:
    """What goes away with an arm that is switched off."""
    return f' data-arm="{place}"' if 0 <= place < number else ""


def word(sentence: str, cautions: Sequence[str]) -> str:
    """One of the words at the top; what takes something back looks like it."""
    if sentence in cautions:
        return f"<li class=flag><b>⚠</b> {escape(sentence)}</li>"
    return f"<li>{escape(sentence)}</li>"


def section(title: str, about: str, *parts: str) -> str:
    told = f"<p class=faint>{escape(about)}</p>" if about else ""
    return f"<section><h2>{escape(title)}</h2>{told}{''.join(parts)}</section>\n"


def shade(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return '<td style="--share:0%">–</td>'
    share = max(0.0, 1 - cell["mean"] / cell["floor"]) if cell["floor"] else 0.0
    return f'<td style="--share:{min(share, 0.8):.0%}" title="{escape(listings.value(cell))}">{cell["mean"]:.3f}</td>'

"""What there is to draw of an example, on whatever: strips of cells aligned by position, and grids of who sees whom."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

NOTHING = "·"
LEGEND = {
    "mask": "mask",
    "sentinel": "sentinel",
    "replaced": "not in the text here: random, or from elsewhere",
    "special": "special",
    "asked": "carries loss",
    "target": "what is asked",
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    text: str
    style: str = "text"  # a key of LEGEND, "text", "number" or "nothing"
    asked: bool = False


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Lines of cells; cells of one column belong to one position."""

    title: str
    note: str
    lines: dict[str, list[Cell]]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Row is query, column is key; queries that see nothing have no row."""

    title: str
    note: str
    rows: dict[int, Cell]  # by position
    columns: list[Cell]
    sees: dict[int, list[int]]  # position of a query -> 1 for each key that it sees, else 0
    borders: tuple[frozenset[int], frozenset[int]]  # queries and keys before which another document begins


@dataclass(frozen=True, kw_only=True)
class Sheet:
    name: str
    about: str
    text: list[Cell]
    strips: list[Strip]
    grids: list[Grid]
    facts: list[str] = field(default_factory=list)


def sheet(example: dict[str, Any]) -> Sheet:
    """All of it; an example has one row."""
    (row,) = example["rows"]
    source, extra = row.get("source"), row["columns"]
    names = {column["name"] for column in extra if column["kind"] == "reads"}
    strips = [strip(row, extra, "decoder" if source else "generator" if names else "model")]
    grids = [grid("decoder" if source else "attention", row["visible"], row, row)]
    grids += [grid(further["name"], further["visible"], row, row) for further in row["grids"]]
    if source:
        strips.insert(0, strip(source, [], "encoder"))
        grids.insert(0, grid("encoder", source["visible"], source, source))
        grids.append(grid("decoder looks at encoder", row["cross"], row, source))
    return Sheet(
        name=example["objective"],
        about=about(example, row),
        text=[Cell(text=piece) for piece in example["pieces"]],
        strips=strips,
        grids=grids,
        facts=[*row["facts"], *left_out(example)],
    )


def about(example: dict[str, Any], row: dict[str, Any]) -> str:
    """One line: the class, the text, and over how many predictions each term of the loss is the mean."""
    counts = example["counts"]
    terms = ", ".join(f"{term.replace('_', ' ')} over {count}" for term, count in counts.items())
    predictions = "prediction" if list(counts.values())[-1:] == [1] else "predictions"
    documents = len({token["document"] for token in row["tokens"]})
    packed = f" · {documents} documents" if documents > 1 else ""
    return (
        f"{example['class']} · {len(example['pieces'])} tokens ({example['tokenizer']}){packed} · {terms} {predictions}"
    )


def left_out(example: dict[str, Any]) -> list[str]:
    tokens, documents, length = example["left_out"], example["documents_left_out"], example["length"]
    if not tokens and documents:
        return [f"{documents} of the documents {'is' if documents == 1 else 'are'} not in this row."]
    return [f"{tokens} tokens of the text are left out: length={length} holds no more."] if tokens else []


def strip(side: dict[str, Any], extra: Sequence[dict[str, Any]], reader: str) -> Strip:
    """What one stack reads and is asked."""
    tokens = side["tokens"]
    asked = sum(token["asked"] for token in tokens)
    lines = {
        "place": [Cell(text=str(place), style="number") for place in range(len(tokens))],
        "reads": [Cell(text=token["piece"], style=token["kind"], asked=token["asked"]) for token in tokens],
    }
    if asked:
        lines["asked"] = [answer(token["target"]) for token in tokens]
    for column in extra:
        label = f"{column['name']} reads" if column["kind"] == "reads" else column["name"]
        lines[label] = [
            answer(value)
            if column["kind"] == "asks"
            else Cell(
                text=NOTHING if value is None else str(value), style=kind if column["kind"] == "reads" else "number"
            )
            for value, kind in zip(column["values"], column["kinds"], strict=True)
        ]
    lines |= {name: numbers(tokens, name) for name in ("position", "document", "order") if telling(tokens, name)}
    loss = "no loss" if not asked else f"loss at {asked} of {len(tokens)} positions"
    return Strip(title=f"{reader} reads" + (", and is asked" if asked else ""), note=loss, lines=lines)


def answer(target: str | None) -> Cell:
    return Cell(text=NOTHING, style="nothing") if target is None else Cell(text=target, style="target")


def numbers(tokens: Sequence[dict[str, Any]], name: str) -> list[Cell]:
    return [Cell(text=str(token[name]), style="number") for token in tokens]


def telling(tokens: Sequence[dict[str, Any]], name: str) -> bool:
    """Positions that are places, one document, and an order that is all equal, places or positions tell nothing new."""
    values = [token[name] for token in tokens]
    if values == list(range(len(values))):
        return False
    return name == "position" or (len(set(values)) > 1 and values != [token["position"] for token in tokens])


def grid(title: str, sees: list[list[int]], queries: dict[str, Any], keys: dict[str, Any]) -> Grid:
    seeing = {query: row for query, row in enumerate(sees) if any(row)}
    labels = [
        [Cell(text=token["piece"], style=token["kind"], asked=token["asked"]) for token in side["tokens"]]
        for side in (queries, keys)
    ]
    return Grid(
        title=title,
        note=rule(sees, queries["tokens"], keys["tokens"]),
        rows={query: labels[0][query] for query in seeing},
        columns=labels[1],
        sees=seeing,
        borders=(borders(queries["tokens"], list(seeing)), borders(keys["tokens"], range(len(keys["tokens"])))),
    )


def borders(tokens: Sequence[dict[str, Any]], drawn: Sequence[int]) -> frozenset[int]:
    """Those of the places drawn before which another document begins."""
    return frozenset(
        place for before, place in pairwise(drawn) if tokens[before]["document"] != tokens[place]["document"]
    )


def rule(sees: list[list[int]], queries: Sequence[dict[str, Any]], keys: Sequence[dict[str, Any]]) -> str:
    """Who sees whom, in words, where it has a name."""
    seen = sum(map(sum, sees))
    blocks = [
        [
            [row[place] for place in within(keys, document)]
            for row in (sees[query] for query in within(queries, document))
        ]
        for document in dict.fromkeys(token["document"] for token in queries)
    ]
    if len(blocks) > 1 and seen == sum(sum(map(sum, block)) for block in blocks):
        names = set(map(pattern, blocks))
        return f"{names.pop() if len(names) == 1 else ''} within each document".strip()
    return pattern(sees) or f"{seen} of {sum(map(len, filter(any, sees)))} pairs"


def within(tokens: Sequence[dict[str, Any]], document: int) -> list[int]:
    return [place for place, token in enumerate(tokens) if token["document"] == document]


def pattern(sees: list[list[int]]) -> str:
    """The name of a visibility, or nothing."""
    size = len(sees)
    if all(map(all, sees)):
        return "bidirectional" if size == len(sees[0]) else "everything"
    for prefix in (1, sum(sees[0])):
        if sees == [[int(key < max(prefix, query + 1)) for key in range(size)] for query in range(size)]:
            return "causal" if prefix == 1 else f"prefix of {prefix}, then causal"
    return ""

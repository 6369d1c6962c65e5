"""Rows of files that a user names for a task: JSON lines, plain lines, TSV as GLUE has it, CSV, a dataset of the hub.

`key` is the yardstick, whose settings messages name. `items` are whole rows of one split, `records` the values of some columns by
split. Both take a file, a folder, a glob, or hub:NAMESPACE/NAME[/CONFIGURATION].
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmx.data import files, readers
from lmx.errors import DataError, LmxError, nearest

Column = int | str  # a field, or the number of a column in a file without a header
Record = list[Any]  # the values of the columns that were asked for
Row = tuple[str, dict[Any, Any]]  # where it stands, and what it has
Item = tuple[
    str, str, dict[str, Any]
]  # where it stands; the file's name without endings, or the configuration; the row

JSON = (".jsonl", ".ndjson", ".json")
LINES = (".txt", ".text")
TABLES = (".tsv", ".csv")
SPLIT = re.compile(r"(?<![a-z])(?:(train|training)|(valid|validation|val|dev)|(test))(?![a-z])")
SPLITS = ("train", "dev", "test")
HUB = "hub:"


def items(key: str, path: str, split: str, needs: str) -> Iterator[Item]:
    """Raises DataError. A plain line is {"text": line}. Of several files, those whose first row lacks the field that the task
    `needs` are something else, and passed over; of a dataset without a configuration, all of them are read."""
    if path.startswith(HUB):
        repository, config = on_hub(key, path)
        try:
            for part in [config] if config else readers.configurations(repository):
                for number, row in enumerate(readers.load(repository, name=part, split=split), start=1):
                    yield f"{path.removeprefix(HUB)}: {part} row {number}", str(part), row
        except Exception as error:  # whatever `datasets` raises
            raise DataError(f"{key}.path={path}: {readers.cause(error)}") from None
        return
    found = files.files(path, (*JSON, *LINES), f"{key}.path")
    fitting = [file for file in found if len(found) == 1 or needs in next(rows(file), ("", {}))[1]]
    if not fitting:
        raise DataError(f"{key}.path: no file of {path} has rows with the field '{needs}'.")
    for file in fitting:
        yield from ((where, file.name.partition(".")[0], row) for where, row in rows(file))


def records(key: str, path: str, columns: Mapping[str, Column]) -> dict[str | None, list[Record]]:
    """split, or None where no file's name says it -> its rows. `columns` has, by their settings, those that are wanted.

    Raises LmxError.
    """
    if path.startswith(HUB):
        return hub_records(key, path, columns)
    header = not all(isinstance(column, int) for column in columns.values())
    found: dict[str | None, list[Record]] = {}
    for file in files.files(path, (*JSON, *TABLES), f"{key}.path"):
        match = SPLIT.search(file.name.lower())
        split = SPLITS[match.lastindex - 1] if match and match.lastindex else None
        found.setdefault(split, []).extend(picked(row, columns, where) for where, row in rows(file, header))
    return found


def rows(file: Path, header: bool = True) -> Iterator[Row]:
    """What a file has. Without a header, columns of TSV and CSV have numbers."""
    name = files.plain(file)
    if name.endswith(TABLES):
        return separated(file, name.endswith(".tsv"), header)
    if name.endswith(LINES):
        lines = (line.strip() for line in files.lines(file))
        return ((f"{file}: line {number}", {"text": line}) for number, line in enumerate(lines, start=1) if line)
    return files.json_rows(file)


def separated(file: Path, tabs: bool, header: bool) -> Iterator[Row]:
    """In TSV a quotation mark is no more than that."""
    lines = files.lines(file)
    reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.reader(lines)
    names = next(reader, []) if header else None
    for cells in reader:
        if cells:
            row = dict(enumerate(cells)) if names is None else dict(zip(names, cells, strict=False))
            yield f"{file}: line {reader.line_num}", row


def picked(row: Mapping[Column, Any], columns: Mapping[str, Column], where: str) -> Record:
    """Raises LmxError for a column that is not there."""
    for key, column in columns.items():
        if column not in row:
            known = ", ".join(map(str, row)) or "none"
            raise LmxError(
                f"{key} must be a field of {where}, got {column}.{nearest(str(column), map(str, row))} It has {known}."
            )
    return [row[column] for column in columns.values()]


def on_hub(key: str, path: str) -> tuple[str, str | None]:
    """Repository and configuration. Raises DataError where the hub cannot be reached."""
    if not readers.reachable():
        raise DataError(
            f"{key}.path must be null or local where the Hugging Face hub cannot be reached, got {path}. Type {key}.path=null "
            f"for what is embedded, {key}.path=FILE for your own."
        )
    parts = path.removeprefix(HUB).split("/", 2)
    return "/".join(parts[:2]), parts[2] if len(parts) > 2 else None


def hub_records(key: str, path: str, columns: Mapping[str, Column]) -> dict[str | None, list[Record]]:
    """A dataset need not have all splits, but it must have one to train on."""
    repository, config = on_hub(key, path)
    found: dict[str | None, list[Record]] = {}
    for split, theirs in zip(SPLITS, files.SPLITS, strict=True):
        try:
            dataset = readers.load(repository, name=config, split=theirs)
            place = path.removeprefix(HUB)
            found[split] = [
                picked(row, columns, f"{place}: row {number}") for number, row in enumerate(dataset, start=1)
            ]
        except LmxError:
            raise
        except Exception as error:
            if split == "train":
                raise LmxError(f"{key}.path={path}: {readers.cause(error)}") from None
    return found


def texts(values: Sequence[Any], where: str) -> None:
    """Raises LmxError for what is no text."""
    for value in values:
        if not isinstance(value, str) or not value.strip():
            raise LmxError(f"{where} must name a field of text, got {value!r:.40}.")

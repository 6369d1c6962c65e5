"""Rows of labelled files: JSON lines, TSV as GLUE has it, CSV, a dataset of the hub. Raises LmxError that names the key."""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmx.data import files, readers
from lmx.errors import DataError, LmxError, nearest

Column = int | str  # a field, or the number of a column in a file without a header
Record = list[Any]  # the values of the columns that were asked for

SUFFIXES = (".jsonl", ".ndjson", ".json", ".tsv", ".csv")
SPLIT = re.compile(r"(?<![a-z])(?:(train|training)|(valid|validation|val|dev)|(test))(?![a-z])")
SPLITS = ("train", "dev", "test")
HUB = "hub:"


def records(key: str, path: str, columns: Mapping[str, Column]) -> dict[str | None, list[Record]]:
    """split, or None where no file's name says it -> its rows. `key` is what messages call the setting of `path`."""
    if path.startswith(HUB):
        return hub(key, path.removeprefix(HUB), columns)
    found: dict[str | None, list[Record]] = {}
    for file in named(key, path):
        match = SPLIT.search(file.name.lower())
        split = SPLITS[match.lastindex - 1] if match and match.lastindex else None
        found.setdefault(split, []).extend(rows(file, columns))
    return found


def named(key: str, path: str) -> list[Path]:
    """The files of a path, folder or glob."""
    try:
        return files.files(path, SUFFIXES)
    except DataError as error:
        raise LmxError(str(error).replace("data.path", f"{key}.path")) from None


def rows(file: Path, columns: Mapping[str, Column]) -> Iterator[Record]:
    name = files.plain(file)
    if name.endswith((".tsv", ".csv")):
        yield from separated(file, name.endswith(".tsv"), columns)
        return
    for number, line in enumerate(files.lines(file), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise LmxError(f"{file}: line {number}: not JSON ({error}); a truncated file?") from None
            yield picked(row, columns, f"{file}: line {number}")


def separated(file: Path, tabs: bool, columns: Mapping[str, Column]) -> Iterator[Record]:
    """Without a header where all columns are numbers. In TSV a quotation mark is no more than that."""
    lines = files.lines(file)
    reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.reader(lines)
    header = None if all(isinstance(column, int) for column in columns.values()) else next(reader, [])
    for cells in reader:
        if cells:
            row = dict(enumerate(cells)) if header is None else dict(zip(header, cells, strict=False))
            yield picked(row, columns, f"{file}: line {reader.line_num}")


def picked(row: Any, columns: Mapping[str, Column], where: str) -> Record:
    """Raises LmxError for a column that is not there."""
    if not isinstance(row, dict):
        raise LmxError(f"{where}: an object with fields is expected, got {row!r:.40}.")
    for key, column in columns.items():
        if column not in row:
            known = ", ".join(map(str, row)) or "none"
            raise LmxError(
                f"{key} must be a field of {where}, got {column}.{nearest(str(column), map(str, row))} It has {known}."
            )
    return [row[column] for column in columns.values()]


def hub(key: str, name: str, columns: Mapping[str, Column]) -> dict[str | None, list[Record]]:
    """NAMESPACE/NAME or NAMESPACE/NAME/CONFIG"""
    parts = name.split("/")
    repository, config = "/".join(parts[:2]), "/".join(parts[2:]) or None
    if not readers.reachable():
        raise LmxError(
            f"{key}.path must be a file here, where no hub can be reached, got {HUB}{name}. Type {key}.path=FILE."
        )
    found: dict[str | None, list[Record]] = {}
    for split, theirs in zip(SPLITS, files.SPLITS, strict=True):
        try:
            dataset = readers.load(repository, name=config, split=theirs)
            found[split] = [
                picked(row, columns, f"{name}: row {number}") for number, row in enumerate(dataset, start=1)
            ]
        except LmxError:
            raise
        except Exception as error:
            if split == "train":
                raise LmxError(f"{key}.path={HUB}{name}: {readers.cause(error)}") from None
    return found


def texts(values: Sequence[Any], where: str) -> None:
    """Raises LmxError for what is no text."""
    for value in values:
        if not isinstance(value, str) or not value.strip():
            raise LmxError(f"{where} must name a field of text, got {value!r:.40}.")

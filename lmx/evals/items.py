"""Rows of a task that a user has: local JSON lines or plain lines, or a dataset of the Hugging Face hub."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lmx.data import files, readers
from lmx.errors import DataError

SUFFIXES = (".jsonl", ".ndjson", ".json", ".txt", ".text")
LINES = (".txt", ".text")
HUB = "hub:"

Item = tuple[
    str, str, dict[str, Any]
]  # where it stands; the file's name without endings, or the configuration; the row


def items(key: str, path: str, split: str, needs: str) -> Iterator[Item]:
    """Of a file, folder or glob, or of hub:NAMESPACE/NAME[/CONFIGURATION]. Raises DataError, which calls `path` `key`.

    A plain line is {"text": line}. Of several files, those whose first row lacks the field that the task `needs` are
    something else, and passed over.
    """
    if path.startswith(HUB):
        yield from hub(key, path.removeprefix(HUB), split)
        return
    found = files.files(path, SUFFIXES, key)
    fitting = [file for file in found if len(found) == 1 or needs in next(rows(file), ("", {}))[1]]
    if not fitting:
        raise DataError(f"{key}: no file of {path} has rows with the field '{needs}'.")
    for file in fitting:
        yield from ((where, file.name.partition(".")[0], row) for where, row in rows(file))


def rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if files.plain(file).endswith(LINES):
        lines = (line.strip() for line in files.lines(file))
        return ((f"{file}: line {number}", {"text": line}) for number, line in enumerate(lines, start=1) if line)
    return files.json_rows(file)


def hub(key: str, name: str, split: str) -> Iterator[Item]:
    """Without a configuration, the rows of all of them."""
    if not readers.reachable():
        raise DataError(
            f"{key} must be null or local where the Hugging Face hub cannot be reached, got {HUB}{name}. Type {key}=null for "
            f"the embedded items, {key}=FILE for your own."
        )
    parts = name.split("/", 2)
    repository, config = "/".join(parts[:2]), parts[2:]
    try:
        for part in config or readers.configurations(repository):
            for number, row in enumerate(readers.load(repository, name=part, split=split), start=1):
                yield f"{name}: {part} row {number}", part, row
    except Exception as error:  # whatever `datasets` raises
        raise DataError(f"{key}={HUB}{name}: {readers.cause(error)}") from None

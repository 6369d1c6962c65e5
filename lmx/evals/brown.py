"""The Brown corpus (Francis and Kucera 1964) as it is distributed: a folder or zip of files such as ca01, whose words carry tags.

    The/at jury/nn further/rbr said/vbd

It makes two tasks: `genre`, one of 15, of a stretch of a file, and `part_of_speech`, of a word. No file is in two splits.
"""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from lmx.data.splits import digest
from lmx.evals.records import Record
from lmx.evals.tasks import FOLDS

NAME = re.compile(r"c[a-r]\d\d")
TAG = re.compile(r"(?:fw-)?([a-z]+|.[^a-z]*)")  # without what follows: nn-tl and nn$ are nouns, too
Place = Path | zipfile.Path


def is_brown(path: str) -> bool:
    return next(pages(path), None) is not None


def pages(path: str) -> Iterator[Place]:
    """The files of the corpus, in the order of their names."""
    start = Path(path).expanduser()
    folders: list[Place] = [start] if start.is_dir() else []
    if zipfile.is_zipfile(start) if start.is_file() else False:
        inside = zipfile.Path(zipfile.ZipFile(start))
        folders = [inside, *(one for one in inside.iterdir() if one.is_dir())]
    for folder in folders:
        yield from sorted((file for file in folder.iterdir() if NAME.fullmatch(file.name)), key=lambda file: file.name)


def tasks(path: str, tokens: int) -> dict[str, dict[str, list[Record]]]:
    """task -> split -> rows of texts, or of words, and what they are"""
    found: dict[str, dict[str, list[Record]]] = {
        name: {split: [] for split in ("train", "dev", "test")} for name in ("part_of_speech", "genre")
    }
    for page in pages(path):
        number = digest(page.name)[0] % FOLDS
        split = {0: "test", 1: "dev"}.get(number, "train")
        sentences = list(tagged(page.read_text(encoding="utf-8", errors="replace")))
        found["part_of_speech"][split] += sentences
        words = [word for sentence, _ in sentences for word in sentence]
        starts = range(0, len(words) - tokens + 1, tokens)  # a word is a token at least
        found["genre"][split] += [[" ".join(words[start : start + tokens]), page.name[1]] for start in starts]
    return found


def tagged(text: str) -> Iterator[Record]:
    """[words, tags] of each sentence"""
    for line in text.splitlines():
        pairs = [pair.rpartition("/") for pair in line.split()]
        pairs = [(word, tag) for word, _, tag in pairs if word and tag]
        if pairs:
            yield [[word for word, _ in pairs], [simple(tag.lower()) for _, tag in pairs]]


def simple(tag: str) -> str:
    match = TAG.match(tag)
    return match[1] if match else tag

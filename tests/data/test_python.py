"""Python of an environment that each test writes itself; nothing here reads the network."""

import ast
import textwrap
from importlib import metadata

import pytest

from lmx.data import python
from lmx.data.python import FEWEST, Python, functions
from lmx.errors import DataError
from tests.data.conftest import decoded
from tests.data.conftest import read as prepared


def make(**changes) -> Python:
    knobs = {"document": "file", "package_bytes": 10_000, "validation": 0.1, "test": 0.1, "max_tokens": None}
    return Python(**knobs | changes)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An environment of 60 modules of two functions."""
    folder = tmp_path / "lib"
    folder.mkdir()
    for number in range(60):
        code = f"def first_{number}(a):\n    return a + {number}\n\n\ndef second_{number}(b):\n    return b\n"
        (folder / f"module{number}.py").write_text(code)
    monkeypatch.setattr(Python, "roots", [folder])
    return folder


def test_split_by_package(root):
    package = root / "many"
    (package / "sub").mkdir(parents=True)
    (package / "tests").mkdir()
    for place in (package, package / "sub", package / "tests"):
        for number in range(3):
            (place / f"part{number}.py").write_text(f"'''{place.name} {number}'''\n")
    found = list(make().read())
    mine = {text: split for split, text in found if text.startswith("'''")}
    assert len(mine) == 6
    assert not any("tests" in text for text in mine), "no tests"
    assert len(set(mine.values())) == 1, "all of a package are in one split"
    splits = [split for split, _ in found]
    assert set(splits) == {"train", "validation", "test"}
    held_out = sum(split != "train" for split in splits)
    assert not any(split == "train" for split in splits[:held_out]), "held-out ones first"


def test_a_new_package_moves_no_other(root):
    before = {text: split for split, text in make().read()}
    (root / "aaa.py").write_text("a = 1\n")
    after = {text: split for split, text in make().read()}
    assert before.items() < after.items()
    assert list(make().read()) == list(make().read())


def test_functions_of_a_corpus(root):
    corpus = prepared(make(document="function"))
    texts = [text for split in ("train", "validation", "test") for text in decoded(corpus, split)]
    assert sorted(texts) == sorted(
        f"def {name}{number}({letter}):\n    return {letter}{rest}\n"
        for number in range(60)
        for name, letter, rest in (("first_", "a", f" + {number}"), ("second_", "b", ""))
    )


FILE = '''import x

@decorator(1)
@x.y
def one(a):
    """Text
    """
    def inner(): return a
    return inner  # last
\f
class C:
    if x:
        async def two(self):
            return "é"

    def raw(self):
        return """
left
"""
    name = lambda a: a
try:
    def three(): pass
except E:
    def four(): pass
'''


def test_functions():
    got = list(functions(FILE, ast.parse(FILE)))
    assert got == [
        '@decorator(1)\n@x.y\ndef one(a):\n    """Text\n    """\n    def inner(): return a\n    return inner  # last\n',
        'async def two(self):\n    return "é"\n',
        "def three(): pass\n",
        "def four(): pass\n",
    ], "raw could not be moved to the left"
    assert all(ast.parse(text) for text in got)
    assert list(functions(textwrap.__doc__ or "", ast.parse(""))) == []


def test_what_is_passed_over(root):
    bad = {
        "syntax.py": b"def f(:\n",
        "latin.py": b"a = '\xe9'\n",
        "null.py": b"a = 1\0\n",
        "wide.py": b"a = '" + b"x" * 500 + b"'\n",
        "large.py": b"a = 1\n" * 30_000,
        "deep.py": b"(" * 300 + b")" * 300,
        "data.txt": b"a = 1\n",
    }
    for name, content in bad.items():
        (root / name).write_bytes(content)
    (root / "mark.py").write_bytes(b"\xef\xbb\xbfa = 1\r\n")
    texts = [text for _, text in make().read()]
    assert len(texts) == 61
    assert "a = 1\n" in texts, "without the byte order mark, with one kind of line end"


def test_package_bytes(root):
    package = root / "many"
    package.mkdir()
    for number in range(50):
        (package / f"part{number}.py").write_text("# long\n" + f"a = {number}\n" * 20)
    sample = [text for _, text in make(package_bytes=1000).read() if text.startswith("# long")]
    assert 0 < sum(map(len, sample)) <= 1000


def test_key_names_versions(monkeypatch):
    """Not paths: the same environment elsewhere is the same corpus."""
    key = make().key
    assert f"numpy=={metadata.version('numpy')}" in key.split()
    assert "/" not in key
    changes = ({}, {"document": "function"}, {"package_bytes": 2000}, {"test": 0.2}, {"max_tokens": 5000})
    assert len({make(**change).key for change in changes}) == 5
    monkeypatch.setattr(python, "versions", lambda: ["numpy==0.0"])
    assert make().key != key


def test_too_little(tmp_path, monkeypatch):
    monkeypatch.setattr(Python, "roots", [tmp_path / "nowhere", tmp_path])
    (tmp_path / "one.py").write_text("a = 1\n")
    with pytest.raises(
        DataError, match=rf"^data=python must find at least {FEWEST} packages .* got 1\. .*type data=text"
    ):
        make().locate()


def test_this_environment():
    """Where lmx runs there is enough."""
    source = make()
    source.locate()
    assert {"json", "numpy", "textwrap"} <= set(source.packages())
    assert not {"site-packages", "test", "__pycache__"} & set(source.packages())

"""Whatever can be wrong with data is one line: the file, the line or byte, and the cause, before anything is trained."""

import gzip
import json
import lzma
import os

import pandas
import pytest

from lmx.data.sources import Csv, Parquet
from lmx.errors import DataError
from tests.data.conftest import jsonl, prose, read, rows, text

LONG = ("A line of text that is long enough.\n" * 40).encode()
ROW = json.dumps({"text": prose(0)}) + "\n"


def message(source, names=None) -> str:
    """The error that preparing the source ends in."""
    with pytest.raises(DataError) as caught:
        read(source)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 600
    assert str(names) in line if names else True
    assert caught.value.exit_code == 3
    return line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\n  \n\t\n", "only blank lines"),
        (LONG + b"caf\xe9 au lait\n", f"byte {len(LONG) + 3}: not UTF-8 (0xe9)"),
        (LONG + b"cut in a character \xe2\x82", f"byte {len(LONG) + 19}: not UTF-8 (0xe2)"),
        ("text".encode("utf-16-le").join([b"\xff\xfe", b""]), "UTF-16"),
        ("text".encode("utf-16-be").join([b"\xfe\xff", b""]), "UTF-16"),
        (LONG + b"a\0b\n", "line 41: a NUL byte"),
        (bytes(range(256)), "NUL"),
        (b"\x89PNG\r\n\x1a\n", "byte 0: not UTF-8 (0x89)"),
    ],
)
def test_text(tmp_path, content, said):
    file = tmp_path / "bad.txt"
    file.write_bytes(content)
    assert said in message(text(file, "line"), file)
    assert said in message(text(file, "file"), file)
    assert said in message(text(file, "paragraph"), file)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bad.txt.gz", gzip.compress(os.urandom(3000).hex().encode())[:-500]),
        ("bad.txt.xz", lzma.compress(os.urandom(3000).hex().encode())[:-500]),
        ("flip.txt.xz", b"\xfd7zXZ\0" + bytes(200)),
        ("plain.txt.gz", LONG),
        ("plain.txt.xz", LONG),
    ],
)
def test_truncated_or_damaged_compression(tmp_path, name, content):
    file = tmp_path / name
    file.write_bytes(content)
    assert "compressed data is truncated or damaged" in message(text(file), file)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (ROW[:-30], "line 3: not JSON"),
        ("[1, 2]\n", "line 3: a JSON object is expected, got [1, 2]"),
        ('"text"\n', "line 3: a JSON object is expected"),
        ('{"txt": "a", "id": 3}\n', "line 3: no field 'text', but 'txt', 'id'. Did you mean 'txt'?"),
        ("{}\n", "line 3: no field 'text', but none at all"),
        ('{"text": null}\n', "line 3: the field 'text' must be text, got None"),
        ('{"text": 17}\n', "line 3: the field 'text' must be text, got 17"),
        ('{"text": ["a"]}\n', "line 3: the field 'text' must be text, got ['a']"),
        ('{"text": "a\\u0000b"}\n', "line 3: the field 'text' holds a NUL byte"),
        ('{"text": "\\ud83d"}\n', "line 3: the field 'text' holds half a character"),
        ("1" * 5000 + "\n", "line 3: not JSON"),
        ("[" * 100_000 + "\n", "line 3: not JSON"),
        ("text: yaml\n", "line 3: not JSON"),
    ],
)
def test_json_lines(tmp_path, line, said):
    file = tmp_path / "bad.jsonl"
    file.write_text(ROW + "\n" + line + ROW)
    assert said in message(jsonl(file), file)


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "empty"), ("\n\n", "only blank lines"), ('{"text": " "}\n' * 5, "only blank ones")],
)
def test_no_json_lines(tmp_path, content, said):
    file = tmp_path / "bad.jsonl"
    file.write_text(content)
    assert said in message(jsonl(file), file)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\n\n", "not readable as csv"),
        (b"text,n\n", "no document"),
        (b"text,n\nhello,1\ncaf\xe9,2\n", "byte 18: not UTF-8 (0xe9)"),
        ("text\nhello\n".encode("utf-16"), "UTF-16"),
        (b"text,n\nhello,1\nhe\0llo,2\n", "row 2: the field 'text' holds a NUL byte"),
        (b'text,n\nhello,1\n"cut,2\n', "truncated or damaged? (ParserError"),
        (b"text,n\nhello,1\nhello,1,2,3\n", "in line 3, saw 4"),
        (b"txt,n\nhello,1\n", "row 1: no field 'text', but 'txt', 'n'. Did you mean 'txt'?"),
        (b"text\n1\n2\n", "row 1: the field 'text' must be text, got 1"),
    ],
)
def test_csv(tmp_path, content, said):
    file = tmp_path / "bad.csv"
    file.write_bytes(content)
    assert said in message(rows(Csv, file), file)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        ({"txt": ["a"], "n": [1]}, "row 1: no field 'text', but 'txt', 'n'. Did you mean 'txt'?"),
        ({"text": [1, 2]}, "row 1: the field 'text' must be text, got 1"),
        ({"text": ["a", None]}, "row 2: the field 'text' must be text, got None"),
        ({"text": [["a"], ["b"]]}, "row 1: the field 'text' must be text, got ['a']"),
        ({"text": []}, "no document"),
    ],
)
def test_parquet_columns(tmp_path, frame, said):
    file = tmp_path / "bad.parquet"
    pandas.DataFrame(frame).to_parquet(file)
    assert said in message(rows(Parquet, file), file)


def test_damaged_parquet(tmp_path):
    file = tmp_path / "bad.parquet"
    pandas.DataFrame({"text": [prose(number) for number in range(50)]}).to_parquet(file)
    whole = file.read_bytes()
    for content in (whole[:-20], whole[:50], b"PAR1", LONG, whole[:10] + bytes(60) + whole[70:]):
        file.write_bytes(content)
        assert "not readable as parquet; truncated or damaged?" in message(rows(Parquet, file), file)
    file.write_bytes(b"")
    assert "empty" in message(rows(Parquet, file), file)


def test_paths(tmp_path):
    assert "must be a file, folder or glob that exists" in message(
        text(tmp_path / "missing.txt"), tmp_path / "missing.txt"
    )
    assert "must be a file, folder or glob that exists" in message(text(tmp_path / "*.txt"), tmp_path / "*.txt")
    (tmp_path / "empty").mkdir()
    assert "holds no .txt or .md or .text file" in message(text(tmp_path / "empty"), tmp_path / "empty")
    os.mkfifo(tmp_path / "pipe.txt")
    assert "must name plain files" in message(text(tmp_path / "pipe.txt"), tmp_path / "pipe.txt")
    (tmp_path / "loop.txt").symlink_to(tmp_path / "loop.txt")
    assert "must name plain files" in message(text(tmp_path / "loop.txt"), tmp_path / "loop.txt")
    assert "must name plain files" in message(text(tmp_path / "emp*"), tmp_path / "empty")


def test_no_permission(tmp_path, monkeypatch):
    file = tmp_path / "secret.txt"
    file.write_bytes(LONG)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as root, every file can be read
    assert "no permission" in message(text(file), file)


def test_file_that_goes_away(tmp_path):
    """Between the look at the folder and the reading."""
    file = tmp_path / "a.txt"
    file.write_bytes(LONG)
    source = text(tmp_path)
    assert source.files
    file.unlink()
    assert "cannot be read (No such file or directory)" in message(source, file)


def test_too_few_documents_says_what_to_do(tmp_path):
    (tmp_path / "one.txt").write_bytes(LONG)
    assert "Type data.document=paragraph" in message(text(tmp_path / "one.txt"))
    (tmp_path / "copy.txt").write_bytes(LONG)
    (tmp_path / "again.txt").write_bytes(LONG)
    assert "at least 3 different documents to be split by document, got 1" in message(text(tmp_path))
    assert "data.document" not in message(text(tmp_path / "one.txt", "line")), "it is finer than that already"
    (tmp_path / "one.jsonl").write_text(ROW)
    assert "data.document" not in message(jsonl(tmp_path / "one.jsonl"))


def test_too_short(tmp_path):
    (tmp_path / "short.txt").write_text("a\n\nb\n\nc\n\nd\n")
    assert "at least 256 tokens" in message(text(tmp_path / "short.txt", "paragraph"))

"""What is read, and from where."""

import gzip
import json
import lzma
import os
import subprocess
import sys
from threading import Event

import pandas
import pytest

from lmx.data import corpus as corpora
from lmx.data import readers
from lmx.data.files import split_of
from lmx.data.sources import Csv, Hub, Mixture, Parquet, Sotu
from lmx.data.splits import assign, digest
from lmx.errors import DataError, LmxError
from tests.data.conftest import decoded, jsonl, prose, read, rows, text


def texts(source) -> list[str]:
    return [document for _, document in source.read()]


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_the_same_rows_from_every_format(tmp_path, suffix):
    expected = [prose(number) for number in range(5)] + [
        'quoted "x", and\ntwo lines',
        "NA",
        "null",
        "1e5",
        " indented",
    ]
    compress = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[suffix]
    lines = "".join(json.dumps({"id": number, "text": row}) + "\n" for number, row in enumerate(expected))
    (tmp_path / f"a.jsonl{suffix}").write_bytes(compress(lines.encode()))
    frame = pandas.DataFrame({"id": range(len(expected)), "text": expected})
    (tmp_path / f"a.csv{suffix}").write_bytes(compress(frame.to_csv(index=False).encode()))
    frame.to_parquet(tmp_path / "a.parquet")
    assert texts(jsonl(tmp_path / f"a.jsonl{suffix}")) == expected
    assert texts(rows(Csv, tmp_path / f"a.csv{suffix}")) == expected
    assert texts(rows(Parquet, tmp_path / "a.parquet")) == expected


def test_json_beside_json_lines_only_tells_of_them(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"text": "hello"}\n')
    (tmp_path / "train_index.json").write_text('[\n{"title": "hello"}\n]')
    assert texts(jsonl(tmp_path)) == ["hello"]
    (tmp_path / "train.jsonl").rename(tmp_path / "train.json")
    (tmp_path / "train_index.json").unlink()
    assert texts(jsonl(tmp_path)) == ["hello"]


def test_file_names_with_pattern_signs(tmp_path):
    file = tmp_path / "a[1]*.csv"
    file.write_text("text\nhello\n")
    assert texts(rows(Csv, file)) == ["hello"]


def test_documents_of_text(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeffone\r\ntwo\u2028still two\r\n \r\n\r\nthree  \n\n\nfour".encode())
    assert texts(text(file, "file")) == ["one\ntwo\u2028still two\n \n\nthree  \n\n\nfour"]
    assert texts(text(file, "paragraph")) == ["one\ntwo\u2028still two", "three  ", "four"]
    assert [line for line in texts(text(file, "line")) if line.strip()] == [
        "one",
        "two\u2028still two",
        "three  ",
        "four",
    ]


def test_a_very_long_line(tmp_path):
    (tmp_path / "long.txt").write_text("word " * 2_000_000)
    assert len(texts(text(tmp_path / "long.txt", "line"))[0]) == 10_000_000


def test_folders_and_globs(tmp_path):
    for name in ("b.txt", "a.md", "sub/c.txt.gz", ".hidden.txt", "notes.pdf", "folder.txt/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        content = name.encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert sorted(texts(text(tmp_path))) == ["a.md", "b.txt", "folder.txt/d.txt", "sub/c.txt.gz"]
    assert texts(text(tmp_path / "*.txt")) == ["b.txt"], "a folder that a glob meets is passed over"
    assert texts(text(tmp_path / "**" / "*.txt")) == ["b.txt", "folder.txt/d.txt"]
    assert texts(text(tmp_path / "notes.pdf")) == ["notes.pdf"], "a file named outright is read, whatever its name"


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.jsonl", "train"), ("train-00-of-04.jsonl.xz", "train"), ("valid.csv", "validation"), ("dev_1.txt", "validation"),
        ("validation.txt", "validation"), ("val.txt", "validation"), ("test_id.jsonl.xz", "test"), ("Test2.txt", "test"),
        ("testament.txt", None), ("devotion.txt", None), ("valley.txt", None), ("trains.txt", None), ("a-test.txt", None),
    ],
)  # fmt: skip
def test_split_that_a_name_announces(tmp_path, name, split):
    assert split_of(tmp_path / name) == split


def test_named_splits_are_kept(tmp_path):
    for name, numbers in {
        "train-0": range(8),
        "train-1": range(8, 16),
        "valid": range(20, 24),
        "test": range(30, 34),
    }.items():
        (tmp_path / f"{name}.jsonl").write_text(
            "".join(json.dumps({"text": prose(number)}) + "\n" for number in numbers)
        )
    corpus = read(jsonl(tmp_path))
    assert set(decoded(corpus, "train")) == {prose(number) for number in range(16)}
    assert set(decoded(corpus, "validation")) == {prose(number) for number in range(20, 24)}
    assert set(decoded(corpus, "test")) == {prose(number) for number in range(30, 34)}


def test_a_file_called_test_can_be_trained_on(tmp_path):
    (tmp_path / "test.jsonl").write_text("".join(json.dumps({"text": prose(number)}) + "\n" for number in range(20)))
    assert len(read(jsonl(tmp_path / "test.jsonl")).train) == 18


def test_key_follows_content_and_settings(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "one"}\n')
    key = jsonl(file).key
    os.utime(file, (1, 1))
    assert jsonl(file).key == key, "touched, not changed"
    assert jsonl(file, field="body").key != key
    assert jsonl(file, max_tokens=1000).key != key
    assert jsonl(file, passage=1000).key != key
    file.write_text('{"text": "two"}\n')
    assert jsonl(file).key != key


def test_max_tokens_reads_no_further(tmp_path, monkeypatch):
    """Held-out files come first and whole; then training files until there is enough."""
    for name in ("train-0", "train-1", "train-2", "valid", "test"):
        (tmp_path / f"{name}.txt").write_text("\n\n".join(prose(number + 1000 * len(name)) for number in range(60)))
    (tmp_path / "train-2.txt").write_bytes(b"\xff is not reached")
    monkeypatch.setattr(corpora, "READ_ANYWAY", 0)
    corpus = read(text(tmp_path, "paragraph", max_tokens=1000))
    assert corpus.train.num_tokens == 1000
    assert len(corpus.validation) == len(corpus.test) == 60


def sotu(**settings) -> Sotu:
    return Sotu(**{"validation": 0.05, "test": 0.05, "passage": None, "max_tokens": None} | settings)


def test_sotu():
    corpus = read(sotu())
    assert (len(corpus.train), len(corpus.validation), len(corpus.test)) == (225, 12, 12)
    assert corpus.train.num_bytes == 11_255_806, "a split that moves makes published results incomparable"
    assert corpus.vocabulary.lossless


def test_sotu_never_holds_out_what_repeats_other_speeches():
    source = sotu()
    digests = [digest(speech) for speech in texts(source)]
    assert len(source.entangled & set(digests)) == 7
    parts = assign(digests, [None] * len(digests), {"validation": 0.45, "test": 0.45}, source.entangled, "")
    assert {digests[number] for number in parts["train"]} >= source.entangled


def test_sotu_of_another_text_is_refused(monkeypatch):
    monkeypatch.setattr(Sotu, "SHA256", "0" * 64)
    with pytest.raises(DataError, match=r"must be the text of sotu==0\.1\.2"):
        read(sotu())


def hub(config=None) -> Hub:
    shares = {"validation": 0.05, "test": 0.05}
    return Hub(name="a/b", split="train", config=config, field="text", **shares, passage=None, max_tokens=None)


def test_hub_out_of_reach(monkeypatch):
    with pytest.raises(DataError, match=r"data\.name=a/b: the Hugging Face hub cannot be reached .* data=sotu"):
        read(hub())
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.delenv("HF_DATASETS_OFFLINE")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert not readers.reachable()


def test_a_silent_name_server_is_not_waited_for(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.delenv("HF_DATASETS_OFFLINE")
    silence = Event()
    monkeypatch.setattr(readers, "connects", lambda: silence.wait(250))
    assert not readers.reachable()
    silence.set()


def test_hub_rows(monkeypatch):
    content = [{"text": prose(number)} for number in range(20)]
    monkeypatch.setattr(readers, "reachable", lambda: True)
    monkeypatch.setattr(readers, "load", lambda kind, **options: content)
    assert len(read(hub()).train) == 18
    content[3] = {"body": "x"}
    with pytest.raises(DataError, match="a/b: row 4: no field 'text', but 'body'"):
        read(hub(config="other"))

    def missing(kind, **options):
        raise FileNotFoundError("Dataset 'a/b' doesn't exist\non the Hub")

    monkeypatch.setattr(readers, "load", missing)
    with pytest.raises(DataError, match=r"data\.name=a/b: FileNotFoundError: Dataset 'a/b' doesn't exist on the Hub"):
        read(hub(config="third"))


def test_local_files_ask_no_server(tmp_path):
    """`datasets` would ask one to count the load."""
    (tmp_path / "a.csv").write_text("text\nhello\n")
    code = f"""
import socket
def refuse(*arguments, **options): print("network", arguments); raise OSError
socket.getaddrinfo = socket.socket.connect = refuse
from pathlib import Path
from lmx.data import corpus as corpora
from lmx.data import readers
print(list(readers.table("csv", Path({str(tmp_path / "a.csv")!r}), "text")))
import threading, time; time.sleep(0.2)
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment | {"HF_HOME": str(tmp_path)},
    )
    assert run.stdout == "['hello']\n"


def mixture(weights, max_tokens=None, **sources) -> Mixture:
    return Mixture(sources=sources, weights=weights, max_tokens=max_tokens)


def lines(path, numbers):
    path.write_text("".join(json.dumps({"text": prose(number)}) + "\n" for number in numbers))
    return jsonl(path)


def of_first(corpus, split, first) -> tuple[int, int]:
    """Tokens of the documents with numbers in `first`, and of the others."""
    documents = getattr(corpus, split)
    mine = [int(name.split()[1].rstrip(".")) in first for name in decoded(corpus, split)]
    sizes = [len(documents[number]) for number in range(len(documents))]
    return sum(size for size, my in zip(sizes, mine, strict=True) if my), sum(
        size for size, my in zip(sizes, mine, strict=True) if not my
    )


def test_mixture_by_tokens(tmp_path):
    first, second = lines(tmp_path / "a.jsonl", range(100)), lines(tmp_path / "b.jsonl", range(100, 300))
    corpus = read(mixture({"a": 3, "b": 1}, a=first, b=second))
    for split in ("train", "validation", "test"):
        mine, other = of_first(corpus, split, range(100))
        assert mine / other == pytest.approx(3, rel=0.01)
    assert of_first(corpus, "train", range(100))[0] == read(first).train.num_tokens, (
        "the one that is short is used whole"
    )
    capped = read(mixture({"a": 3, "b": 1}, 4000, a=first, b=second))
    assert of_first(capped, "train", range(100)) == (3000, 1000)


def test_mixture_keeps_splits_apart(tmp_path):
    """What one source trains on is held out in no other, though each splits for itself."""
    corpus = read(
        mixture(
            {"a": 1, "b": 1},
            a=lines(tmp_path / "a.jsonl", range(60)),
            b=lines(tmp_path / "b.jsonl", range(30, 90)),
        )
    )
    train, validation, test = (set(decoded(corpus, split)) for split in ("train", "validation", "test"))
    assert not train & validation
    assert not train & test
    assert not validation & test


def test_mixture_names_must_agree(tmp_path):
    with pytest.raises(LmxError, match=r"data\.weights must name the sources a, got b"):
        mixture({"b": 1.0}, a=jsonl(tmp_path))

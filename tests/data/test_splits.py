"""Splits depend on content alone, and the same text never stands on both sides."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmx.data.splits import Spool, apart, assign, digest
from lmx.errors import DataError
from tests.data.conftest import decoded, jsonl, prose, read

SHARES = {"validation": 0.1, "test": 0.2}
NAMED = st.sampled_from([None, "train", "validation", "test"])


def split(texts, named=None, entangled=frozenset()):
    """split -> texts, as a corpus would have them"""
    digests = [digest(text) for text in texts]
    assignment = assign(digests, named or [None] * len(texts), SHARES, entangled, "Advice.")
    apart([digests], [assignment])
    return {name: [texts[number] for number in numbers] for name, numbers in assignment.items()}


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=2), NAMED), min_size=3, max_size=40), st.randoms())
def test_apart_whole_and_independent_of_order(pairs, random):
    try:
        before = split(*zip(*pairs, strict=True))
    except DataError:
        return
    mixed = list(pairs)
    random.shuffle(mixed)
    assert split(*zip(*mixed, strict=True)) == before, "also the order within a split"
    sets = {name: set(texts) for name, texts in before.items()}
    assert not sets["train"] & (sets["validation"] | sets["test"])
    assert not sets["validation"] & sets["test"]
    assert set().union(*sets.values()) == {text for text, _ in pairs}, "no text is lost"
    for text, name in pairs:
        if name == "test":
            assert text in sets["test"]


def test_shares():
    parts = split([prose(number) for number in range(50)])
    assert {name: len(texts) for name, texts in parts.items()} == {"train": 35, "validation": 5, "test": 10}
    assert {name: len(texts) for name, texts in split(["a", "b", "c"]).items()} == {
        "train": 1,
        "validation": 1,
        "test": 1,
    }
    assert len(split([prose(number) for number in range(50)], ["test"] * 20 + ["train"] * 30)["validation"]) == 3


def test_twins_stay_together():
    parts = split([*"abcdefghij", *"abcdefghij"])
    assert sorted(map(len, parts.values())) == [2, 4, 14]


def test_entangled_are_not_held_out():
    texts = [prose(number) for number in range(20)]
    free = split(texts)
    banned = {digest(text) for text in free["validation"] + free["test"]}
    parts = split(texts, entangled=banned)
    assert not {digest(text) for text in parts["validation"] + parts["test"]} & banned
    assert {name: len(found) for name, found in parts.items()} == {name: len(found) for name, found in free.items()}


def test_too_few():
    with pytest.raises(DataError, match=r"at least 3 different documents to be split by document, got 2\. Advice\."):
        split(["a", "b", "b"])
    assert split(["a", "b", "c"], ["train", "validation", "test"])
    with pytest.raises(DataError, match="at least 2 different"):
        split(["a", "c"], ["train", "test"])


def test_a_held_out_document_is_dropped_from_training(tmp_path):
    """A leak that nothing else would show."""
    for name, numbers in {
        "train": range(20),
        "valid": [*range(5), *range(50, 55)],
        "test": [0, *range(60, 65)],
    }.items():
        (tmp_path / f"{name}.jsonl").write_text(
            "".join(json.dumps({"text": prose(number)}) + "\n" for number in numbers)
        )
    corpus = read(jsonl(tmp_path))
    assert set(decoded(corpus, "train")) == {prose(number) for number in range(5, 20)}
    assert set(decoded(corpus, "validation")) == {prose(number) for number in [1, 2, 3, 4, *range(50, 55)]}


def test_order_and_names_of_files_do_not_matter(tmp_path):
    documents = [prose(number) for number in range(30)]
    for folder, names, step in (("one", "abcdef", 1), ("two", "zyxwvu", -1)):
        (tmp_path / folder).mkdir()
        for number, name in enumerate(names):
            part = documents[number::6][::step]
            (tmp_path / folder / f"{name}.jsonl").write_text(
                "".join(json.dumps({"text": text}) + "\n" for text in part)
            )
    one, two = read(jsonl(tmp_path / "one")), read(jsonl(tmp_path / "two"))
    assert one.fingerprint == two.fingerprint
    assert all(decoded(one, split) == decoded(two, split) for split in ("train", "validation", "test"))


def test_spool_in_any_order(tmp_path):
    spool = Spool(tmp_path / "spool")
    texts = ["one", "zwölf", "", "three\n"]
    assert [spool.append(None, text) for text in texts] == [3, 6, 0, 6]
    spool.close()
    assert list(spool.texts([3, 1, 1, 2, 0])) == ["three\n", "zwölf", "zwölf", "", "one"]

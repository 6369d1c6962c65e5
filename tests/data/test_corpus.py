"""What a corpus holds is exactly the text that went in."""

import json

import numpy as np
import pytest

from lmx.data.corpus import prepare
from lmx.data.tokenizer import BPE, Bytes
from tests.data.conftest import decoded, jsonl, prose, read, text


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl").write_text("".join(json.dumps({"text": prose(n)}) + "\n" for n in range(60)) * 2)
    return tmp_path / "data"


@pytest.mark.parametrize("tokenizer", [Bytes(), BPE(size=600)])
def test_nothing_is_lost_or_added(folder, tokenizer):
    corpus = read(jsonl(folder), tokenizer)
    found = []
    for split in ("train", "validation", "test"):
        documents = getattr(corpus, split)
        found += decoded(corpus, split)
        for number, size in enumerate(documents.bytes):
            tokens = documents[number]
            assert tokens[-1] == corpus.vocabulary.eos
            assert (tokens == corpus.vocabulary.eos).sum() == 1
            assert (
                corpus.vocabulary.byte_lengths[tokens].sum() == size == len(corpus.vocabulary.decode(tokens).encode())
            )
        assert documents.num_tokens == documents.offsets[-1] == len(documents.tokens)
    assert sorted(found) == sorted([prose(number) for number in range(60)] * 2), "twins are kept, too"
    assert corpus.vocabulary.lossless


def test_tokens_are_as_small_as_they_can_be(folder):
    assert read(jsonl(folder)).train.tokens.dtype == np.uint16
    assert isinstance(read(jsonl(folder)).train.tokens, np.memmap)


def test_fingerprint_tells_what_is_trained_on_from_what_is_held_out(tmp_path):
    """Scores on other held-out text are not comparable, though the training be the same."""

    def parts(train: list[str], valid: list[str]) -> list[str]:
        (tmp_path / "data").mkdir(exist_ok=True)
        for name, texts in (("train", train), ("valid", valid)):
            (tmp_path / "data" / f"{name}.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in texts))
        return read(jsonl(tmp_path / "data")).fingerprint.split("/")

    train, valid = ([prose(n) for n in numbers] for numbers in (range(60), range(60, 90)))
    base = parts(train, valid)
    assert [ours == theirs for ours, theirs in zip(base, parts(train, valid[:-1]), strict=True)] == [1, 1, 0]
    assert [ours == theirs for ours, theirs in zip(base, parts(train[:-1], valid), strict=True)][:2] == [1, 0]


def test_the_tokenizer_learns_from_training_text_alone(folder):
    class Spy(Bytes):
        def train(self, texts, train_bytes):
            self.seen = list(texts)
            assert sum(len(text.encode()) for text in self.seen) == train_bytes
            return super().train(self.seen, train_bytes)

    spy = Spy()
    corpus = read(jsonl(folder), spy)
    assert spy.seen == decoded(corpus, "train")


@pytest.mark.parametrize("most", [1000, 1001, 2500])
def test_max_tokens_is_exact(folder, most):
    whole = read(jsonl(folder))
    corpus = read(jsonl(folder, max_tokens=most))
    assert corpus.train.num_tokens == most
    assert (corpus.train.tokens[corpus.train.offsets[1:] - 1] == corpus.vocabulary.eos).all(), (
        "the document that is cut, too"
    )
    assert corpus.train.bytes.tolist() == [len(text.encode()) for text in decoded(corpus, "train")]
    assert decoded(corpus, "train")[:-1] == decoded(whole, "train")[: len(corpus.train) - 1]
    assert decoded(corpus, "validation") == decoded(whole, "validation"), "comparable however much is trained on"


def test_training_documents_are_cut_into_passages_and_held_out_ones_are_not(tmp_path):
    texts = [f"{prose(number)}\n\n{prose(1000 + number)}" for number in range(40)]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    whole, cut = read(jsonl(tmp_path)), read(jsonl(tmp_path, passage=100))
    assert decoded(cut, "train") == [part for text in decoded(whole, "train") for part in text.split("\n\n")]
    assert cut.train.bytes.tolist() == [len(part.encode()) for part in decoded(cut, "train")]
    for split in ("validation", "test"):
        assert decoded(cut, split) == decoded(whole, split), "comparable with or without passages"
    assert cut.fingerprint.split("/")[2] == whole.fingerprint.split("/")[2]


def test_no_document_of_nothing_but_its_end(folder):
    first = len(read(jsonl(folder)).train[0])
    second = len(read(jsonl(folder)).train[1])
    corpus = read(jsonl(folder, max_tokens=max(1000, first + second + 1)))
    assert (np.diff(corpus.train.offsets) > 1).all()


def test_short_documents_of_one_token(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(chr(number) for number in range(0x4E00, 0x5E00)))
    corpus = read(text(tmp_path / "a.txt", "line"))
    assert len(corpus.train) + len(corpus.validation) + len(corpus.test) == 0x1000


def test_phases_are_reported(folder):
    seen = []
    prepare(jsonl(folder), Bytes(), lambda phase, fraction: seen.append((phase, fraction)))
    assert list(dict.fromkeys(phase for phase, _ in seen)) == [
        "reading data",
        "training tokenizer",
        "tokenizing",
    ]
    assert seen[-1] == ("tokenizing", 1.0)

"""Text survives tokenising unchanged, and the special tokens are the same for all, and never come from text."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from lmx.data.tokenizer import BPE, Bytes, Pretrained
from lmx.data.vocabulary import NAMED, Vocabulary, ends_sentence, sentinels, specials, starts_word
from lmx.errors import DataError, LmxError
from tests.data.conftest import jsonl, prose, read

PROSE = [prose(number, 300) for number in range(40)]


def trained(size: int | None = 600) -> Vocabulary:
    return BPE(size=size).train(PROSE, sum(len(text.encode()) for text in PROSE))


OURS = {"bpe": trained(), "bytes": Bytes().train([], 0)}


@pytest.mark.parametrize("name", OURS)
@settings(deadline=None)
@given(st.text() | st.sampled_from(["[MASK]", "a[EOS]b", " [SENTINEL_0]\n[PAD]", "\r\n\t  \u00a0\u2028", "👩‍👩‍👧 é"]))
def test_text_comes_back_and_bytes_add_up(name, text):
    vocabulary = OURS[name]
    tokens = vocabulary.encode(text)
    assert vocabulary.decode(tokens) == text
    assert vocabulary.byte_lengths[tokens].sum() == len(text.encode())
    assert not vocabulary.special[tokens].any(), "never parsed out of text"
    assert np.isin(tokens, vocabulary.ordinary).all()


@pytest.mark.parametrize("name", OURS)
def test_special_tokens_come_first(name):
    vocabulary = OURS[name]
    assert [getattr(vocabulary, known) for known in NAMED] == list(range(len(NAMED)))
    assert vocabulary.sentinels.tolist() == list(range(len(NAMED), len(NAMED) + 128))
    assert (vocabulary.byte_lengths[vocabulary.special] == 0).all()
    assert len(vocabulary.ordinary) + vocabulary.special.sum() == vocabulary.size
    assert vocabulary.decode([vocabulary.bos, *vocabulary.encode("a b"), vocabulary.eos]) == "a b"


def test_sizes():
    assert trained(512).size == 512
    assert OURS["bytes"].size == 448, "256 bytes and the special tokens, in a multiple of 64"
    assert len(OURS["bytes"].ordinary) == 256
    few = BPE(size=2048).train(["a"], 1)
    assert few.size == 2048
    assert few.special[few.ordinary[-1] + 1 :].all(), "rows that no text reaches are not drawn at random"
    assert (sentinels(16383), sentinels(16384)) == (128, 512)
    assert len(BPE(size=16384).train(["a"], 1).sentinels) == 512


@pytest.mark.parametrize(
    ("size", "expected"), [(0, 512), (2**18, 512), (2**20, 1024), (11_255_806, 4096), (2**40, 65536)]
)
def test_default_size_is_the_power_of_two_nearest_the_root_of_the_bytes(size, expected):
    assert BPE(size=None).train(["a"], size).size == expected


def test_training_does_not_depend_on_threads():
    code = (
        "from tests.data.test_tokenizer import PROSE, trained; import numpy as np; v = trained(700);"
        "print(v.fingerprint, [int(t.sum()) for t in v.encode_batch(PROSE)])"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env=os.environ | {"RAYON_NUM_THREADS": threads, "PYTHONPATH": os.getcwd(), "PYTHONHASHSEED": threads},
        ).stdout
        for threads in ("1", "5")
    ]  # fmt: skip
    assert runs[0] == runs[1]


@pytest.mark.parametrize("name", OURS)
def test_saved_and_loaded(tmp_path, name):
    vocabulary = OURS[name]
    vocabulary.lossless = True
    vocabulary.save(tmp_path)
    again = Vocabulary.load(tmp_path)
    assert (again.fingerprint, again.size, again.lossless) == (vocabulary.fingerprint, vocabulary.size, True)
    assert again.encode("[MASK] naïve").tolist() == vocabulary.encode("[MASK] naïve").tolist()
    assert (again.starts_word == vocabulary.starts_word).all()


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        (" the", True), ("the", False), ("\n", True), (".", True), ("7", False), ("ü", False), ("—", True), ("“", True),
        ("中", False), ("\u0301", False), ("", False),
    ],
)  # fmt: skip
def test_starts_word(text, starts):
    assert starts_word(text.encode()) == starts
    assert not starts_word("—".encode()[1:]), "the middle of a character"
    assert not starts_word("é".encode()[:1]), "half a character"


def test_words_of_a_sentence():
    vocabulary = OURS["bytes"]
    tokens = vocabulary.encode("Über naïve, ja")
    begins = vocabulary.starts_word[tokens]
    assert "".join(vocabulary.piece(token) for token in tokens[begins]) == "·,·"


@pytest.mark.parametrize(
    ("text", "ends"),
    [("fox.", True), ('."', True), (".”", True), ("?)\n", True), (",", False), ("", False), ("。", True)],
)
def test_ends_sentence(text, ends):
    assert ends_sentence(text.encode()) == ends


def test_pieces_for_people():
    vocabulary = OURS["bytes"]
    assert [vocabulary.piece(token) for token in vocabulary.encode(" a\n")] == ["·", "a", "↵"]
    assert [vocabulary.piece(token) for token in vocabulary.encode("é")] == ["<C3>", "<A9>"]
    assert [vocabulary.piece(number) for number in (vocabulary.mask, 447)] == ["[MASK]", "[UNUSED]"]


def given_tokenizer(path, tokenizer: Tokenizer) -> Vocabulary:
    tokenizer.save(str(path))
    return Pretrained(path=str(path)).train([], 0)


def wordpiece() -> Tokenizer:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing", "the", ",", "<old>", "##s"]
    tokenizer = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<old>"])
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=8)
    return tokenizer


def test_given_wordpiece(tmp_path):
    vocabulary = given_tokenizer(tmp_path / "tokenizer.json", wordpiece())
    assert (vocabulary.pad, vocabulary.mask, vocabulary.sep) == (0, 4, 3), "what it has is used"
    assert vocabulary.eos >= 11
    assert vocabulary.size % 64 == 0
    pieces = ["the", "play", "ing", ",", "the", "play", "s", "the", "the", "the"]
    tokens = vocabulary.encode("the playing, The plays the the the")
    assert [vocabulary.piece(token) for token in tokens] == pieces, "neither cut nor padded"
    assert vocabulary.starts_word[tokens].tolist() == [
        True,
        True,
        False,
        True,
        True,
        True,
        False,
        True,
        True,
        True,
    ]
    assert vocabulary.special[9], "its own special tokens are special"
    assert 9 not in vocabulary.ordinary
    assert vocabulary.mask not in vocabulary.encode("[MASK] <old> the")


def test_given_tokenizer_that_loses_bytes(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"text": f"the plays, {n} The" * 40}) + "\n" for n in range(40))
    )
    given_tokenizer(tmp_path / "tokenizer.json", wordpiece())
    assert not read(jsonl(tmp_path / "a.jsonl"), Pretrained(path=str(tmp_path / "tokenizer.json"))).vocabulary.lossless
    assert read(jsonl(tmp_path / "a.jsonl"), Bytes()).vocabulary.lossless


def test_given_byte_level(tmp_path):
    ours = trained()
    tokenizer = Tokenizer.from_str(ours.tokenizer.to_str())
    tokenizer.add_tokens([AddedToken("    ", normalized=False)])
    tokenizer.add_special_tokens(["<|endoftext|>"])
    vocabulary = given_tokenizer(tmp_path / "tokenizer.json", tokenizer)
    text = "a    b <|endoftext|>  naïve [EOS]"
    tokens = vocabulary.encode(text)
    assert vocabulary.decode(tokens) == text
    assert vocabulary.byte_lengths[tokens].sum() == len(text.encode())
    assert vocabulary.eos == ours.eos
    assert not vocabulary.special[tokens].any()


@pytest.mark.parametrize("count", [16383, 16300, 16384, 3])
def test_sentinels_of_a_given_tokenizer_near_the_step(tmp_path, count):
    """The sentinels added are those found when it is loaded, although adding them made it larger."""
    vocabulary = given_tokenizer(
        tmp_path / "tokenizer.json",
        Tokenizer(models.WordLevel({f"w{number}": number for number in range(count)}, unk_token="w0")),
    )
    assert len(vocabulary.sentinels) == sentinels(count)
    vocabulary.save(tmp_path)
    assert (Vocabulary.load(tmp_path).sentinels == vocabulary.sentinels).all()


def test_given_ids_with_holes(tmp_path):
    vocabulary = given_tokenizer(
        tmp_path / "tokenizer.json", Tokenizer(models.WordLevel({"a": 0, "b": 1000}, unk_token="a"))
    )
    ids = [*specials(0), "b"]
    assert all(vocabulary.tokenizer.token_to_id(piece) < vocabulary.size for piece in ids)
    assert vocabulary.special[500], "a hole is nothing that text is made of"


@pytest.mark.parametrize("content", [b"", b"{}", b"hello", b'{"model": {"type": "BPE"}}', b"\xff\xfe\0", b"[1]"])
def test_what_is_no_tokenizer(tmp_path, content):
    file = tmp_path / "tokenizer.json"
    file.write_bytes(content)
    with pytest.raises(LmxError, match=r"tokenizer\.path must be a tokenizer\.json, got ") as caught:
        Pretrained(path=str(file)).train([], 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["missing/tokenizer.json", "/nowhere/at/all", "../x y", ""])
def test_no_such_tokenizer(path):
    with pytest.raises(LmxError, match=r"tokenizer\.path must be an existing tokenizer\.json or a name on the hub"):
        _ = Pretrained(path=path).key


def test_hub_tokenizer_out_of_reach():
    with pytest.raises(DataError, match=r"no tokenizer some/name here or on the hub .* Type tokenizer=bpe"):
        Pretrained(path="some/name").train([], 0)


def test_keys(tmp_path):
    file = tmp_path / "tokenizer.json"
    trained().tokenizer.save(str(file))
    key = Pretrained(path=str(file)).key
    assert Pretrained(path=str(tmp_path)).key == key, "the folder will do"
    trained().tokenizer.save(str(file), pretty=False)
    assert len({Pretrained(path=str(file)).key, key, Bytes().key, BPE(size=None).key, BPE(size=512).key}) == 5

"""One vocabulary for every objective: text tokens, and every special token that any of them needs, declared once.

Special tokens come first, so that their ids do not depend on the text; they are never parsed out of text ("[MASK]" in a document
stays text) and never noised. Byte-level BPE as in GPT-2 (Radford et al. 2019); the text is not normalised, so decode(encode(x)) == x.
"""

import json
from collections.abc import Iterable, Iterator
from hashlib import sha256
from math import log2
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Interval
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from lmx.errors import DataError, LmxError

NAMED = (
    "pad bos eos unk mask cls sep r s x sop eop gmask dblock fim_prefix fim_suffix fim_middle bug fix user assistant system turn"
).split()
PIECES = {name: f"[{name.upper()}]" for name in NAMED}
TRAINING_BYTES = 200_000_000  # of text that BPE is trained on; more changes merges hardly and time a lot
SMALLEST, LARGEST = 512, 65536
MULTIPLE = 64  # rows of an extended foreign vocabulary, as matrix units like it


def sentinels(size: int) -> int:
    """How many span sentinels a vocabulary of `size` rows has: enough for T5 and UL2 at the lengths that go with it."""
    return 512 if size >= 16384 else 128


def specials(size: int) -> list[str]:
    """The special pieces in the order of their ids."""
    return [*PIECES.values(), *(f"[SENTINEL_{number}]" for number in range(sentinels(size)))]


class Vocabulary:
    """A tokenizer and what objectives need to know about its pieces. Ids by name: `vocabulary.mask`, `vocabulary.eos`, …"""

    def __init__(self, tokenizer: Tokenizer, size: int):
        self.tokenizer, self.size = tokenizer, size
        known = tokenizer.get_vocab(with_added_tokens=True)
        ids = {name: known[piece] for name, piece in PIECES.items()}
        self.pad, self.bos, self.eos, self.unk = ids["pad"], ids["bos"], ids["eos"], ids["unk"]
        self.mask, self.cls, self.sep = ids["mask"], ids["cls"], ids["sep"]
        self.ids = ids
        self.sentinels = np.array([known[f"[SENTINEL_{n}]"] for n in range(sentinels(size))], dtype=np.int64)
        self.special = np.zeros(size, dtype=bool)
        self.special[[*ids.values(), *self.sentinels]] = True
        pieces = [tokenizer.id_to_token(number) for number in range(size)]
        self.special |= np.array([piece is None for piece in pieces])  # rows that only fill up
        self.ordinary = np.flatnonzero(~self.special)
        texts = [b"" if self.special[number] else as_bytes(tokenizer, piece) for number, piece in enumerate(pieces)]
        self.byte_lengths = np.array([len(text) for text in texts], dtype=np.int64)
        self.starts_word = np.array([text[:1].isspace() or not text[:1].isalnum() for text in texts]) & ~self.special
        self.ends_sentence = np.array([text.rstrip(b"\"')").endswith((b".", b"!", b"?")) for text in texts])
        self.fingerprint = sha256(tokenizer.to_str().encode() + str(size).encode()).hexdigest()

    def encode(self, text: str) -> np.ndarray:
        """[n] int64; no special token, whatever the text says."""
        return np.array(self.tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        encodings = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids; special tokens are left out."""
        return self.tokenizer.decode([int(number) for number in ids if not self.special[number]], skip_special_tokens=False)

    def piece(self, number: int) -> str:
        """One token as a person reads it: spaces and line ends visible."""
        if self.special[number]:
            return self.tokenizer.id_to_token(int(number)) or "[UNUSED]"
        return self.decode([number]).replace(" ", "·").replace("\n", "↵").replace("\t", "⇥")

    def save(self, folder: Path) -> None:
        self.tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
        (folder / "vocabulary.json").write_text(json.dumps({"size": self.size}))

    @classmethod
    def load(cls, folder: Path) -> "Vocabulary":
        return cls(read(folder / "tokenizer.json"), json.loads((folder / "vocabulary.json").read_text())["size"])


def read(path: Path) -> Tokenizer:
    """Raises LmxError for a file that is no tokenizer."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except BaseException as error:  # the library's panics are no Exceptions
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise LmxError(f"tokenizer.path must be a tokenizer.json, got {path}: {str(error).splitlines()[0]}.") from None
    tokenizer.encode_special_tokens = True  # in a text, the name of a special token is text
    return tokenizer


def as_bytes(tokenizer: Tokenizer, piece: str) -> bytes:
    """The UTF-8 bytes a piece stands for: byte-level alphabets exactly, others by what they decode to."""
    if isinstance(tokenizer.decoder, decoders.ByteLevel):
        return bytes(BYTE_OF[char] for char in piece if char in BYTE_OF)
    return piece.replace("▁", " ").removeprefix("##").encode()


def byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes: 33-126, 161-172 and 174-255 are themselves, the others follow from 256."""
    themselves = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in themselves]
    return {chr(byte): byte for byte in themselves} | {chr(256 + n): byte for n, byte in enumerate(others)}


BYTE_OF = byte_alphabet()


def byte_level(model: Any) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.encode_special_tokens = True
    return tokenizer


class BPE:
    """Byte-level BPE. `size` counts every row; None: the power of two nearest the square root of the training bytes."""

    def __init__(self, *, size: Annotated[int, Interval(ge=SMALLEST, le=LARGEST)] | None):
        self.size = size

    @property
    def key(self) -> str:
        return f"bpe {self.size}"

    def train(self, texts: Iterable[str], train_bytes: int) -> Vocabulary:
        size = self.size or 2 ** round(log2(max(train_bytes, 1)) / 2)
        size = min(max(size, SMALLEST), LARGEST)
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=specials(size),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer = byte_level(models.BPE())
        tokenizer.train_from_iterator(up_to(texts, TRAINING_BYTES), trainer)
        return Vocabulary(tokenizer, size)


def up_to(texts: Iterable[str], limit: int) -> Iterator[str]:
    for text in texts:
        if limit <= 0:
            return
        yield text
        limit -= len(text)


class Bytes:
    """The 256 byte values, nothing learned."""

    def __init__(self) -> None:
        self.key = "bytes"

    def train(self, texts: Iterable[str], train_bytes: int) -> Vocabulary:
        names = specials(0) + sorted(BYTE_OF)
        tokenizer = byte_level(models.BPE({name: number for number, name in enumerate(names)}, []))
        tokenizer.add_special_tokens(specials(0))
        return Vocabulary(tokenizer, -(-len(names) // MULTIPLE) * MULTIPLE)


class Pretrained:
    """A given tokenizer, extended by the special tokens that it lacks; its own are kept, and not parsed out of text."""

    def __init__(self, *, path: str):
        self.path = path

    @property
    def key(self) -> str:
        file = Path(self.path)
        return f"pretrained {sha256(file.read_bytes()).hexdigest() if file.is_file() else self.path}"

    def train(self, texts: Iterable[str], train_bytes: int) -> Vocabulary:
        tokenizer = read(Path(self.path)) if Path(self.path).exists() else from_hub(self.path)
        count = tokenizer.get_vocab_size(with_added_tokens=True)
        tokenizer.add_special_tokens(specials(count))
        tokenizer.encode_special_tokens = True
        return Vocabulary(tokenizer, -(-tokenizer.get_vocab_size(with_added_tokens=True) // MULTIPLE) * MULTIPLE)


def from_hub(name: str) -> Tokenizer:
    if name.endswith(".json"):
        raise LmxError(f"tokenizer.path must be an existing file, got {name}.")
    try:
        return Tokenizer.from_pretrained(name)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise DataError(
            f"tokenizer.path: {name} is neither a file nor to be had from the hub ({str(error).splitlines()[0]:.120}). "
            "Type tokenizer=bpe, or give the path of a tokenizer.json."
        ) from None

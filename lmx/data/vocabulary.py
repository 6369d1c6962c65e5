"""One vocabulary for every objective: text tokens, and every special token that any of them needs, declared once.

Special tokens come first, so that their ids do not depend on the text; they are never parsed out of text ("[MASK]" in a document
stays text) and never noised.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models

from lmx.errors import LmxError

NAMED = str.split(
    "pad bos eos unk mask cls sep r s x sop eop gmask dblock fim_prefix fim_suffix fim_middle bug fix user assistant system turn"
)
PIECES = {name: f"[{name.upper()}]" for name in NAMED}
HEX = re.compile(r"<0x([0-9A-F]{2})>")  # how sentencepiece falls back to bytes
CLOSING = " \n\"')]}”’»"  # may stand between the end of a sentence and the end of its token
SENTENCE_END = (".", "!", "?", "…", "。", "！", "？")  # the full-width ones are meant


def sentinels(size: int) -> int:
    """How many span sentinels a vocabulary of `size` rows gets: enough for T5 and UL2 at the lengths that go with it."""
    return 512 if size >= 16384 else 128


def specials(size: int) -> list[str]:
    """The special pieces in the order of their ids."""
    return [*PIECES.values(), *(sentinel(number) for number in range(sentinels(size)))]


def sentinel(number: int) -> str:
    return f"[SENTINEL_{number}]"


class Vocabulary:
    """A tokenizer and what objectives need to know about its pieces.

    `size` is the number of rows of an embedding; ids by name as below. Arrays [size]: `special` (also rows without a piece),
    `starts_word`, `ends_sentence` and `byte_lengths`. `ordinary` [n] are the ids that text is made of. `lossless`: the byte
    lengths of a document's tokens add up to its bytes, so that bits per byte are exact.
    """

    pad: int
    bos: int
    eos: int
    unk: int
    mask: int
    cls: int
    sep: int
    r: int
    s: int
    x: int
    sop: int
    eop: int
    gmask: int
    dblock: int
    fim_prefix: int
    fim_suffix: int
    fim_middle: int
    bug: int
    fix: int
    user: int
    assistant: int
    system: int
    turn: int

    def __init__(self, tokenizer: Tokenizer, size: int, lossless: bool = False):
        self.tokenizer, self.size, self.lossless = tokenizer, size, lossless
        known = tokenizer.get_vocab(with_added_tokens=True)
        self.ids = {name: known[piece] for name, piece in PIECES.items()}
        for name, number in self.ids.items():
            setattr(self, name, number)
        count = next(number for number in range(size) if sentinel(number) not in known)
        self.sentinels = np.array([known[sentinel(number)] for number in range(count)], dtype=np.int64)

        added = tokenizer.get_added_tokens_decoder()
        pieces = [tokenizer.id_to_token(number) or "" for number in range(size)]
        self.special = np.array([piece == "" for piece in pieces])
        self.special[
            [
                *self.ids.values(),
                *self.sentinels,
                *(number for number, token in added.items() if token.special),
            ]
        ] = True
        self.ordinary = np.flatnonzero(~self.special)

        self.texts = [b""] * size  # the bytes that each ordinary piece stands for
        self.starts_word = np.zeros(size, dtype=bool)
        byte_level = b'"ByteLevel"' in tokenizer.decoder.__getstate__() if tokenizer.decoder is not None else False
        model = tokenizer.model
        continues = model.continuing_subword_prefix if isinstance(model, models.WordPiece) else None
        for number in self.ordinary.tolist():
            piece = pieces[number] or ""
            text = as_bytes(piece, byte_level and number not in added, continues)
            self.texts[number] = text
            self.starts_word[number] = not piece.startswith(continues) if continues else starts_word(text)
        self.byte_lengths = np.array([len(text) for text in self.texts], dtype=np.int64)
        self.ends_sentence = np.array([ends_sentence(text) for text in self.texts])
        self.fingerprint = sha256(tokenizer.to_str().encode() + str(size).encode()).hexdigest()

    def __deepcopy__(self, memo: dict) -> "Vocabulary":
        return self  # read-only

    def encode(self, text: str) -> np.ndarray:
        """[n] int64; no special token, whatever the text says."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """One [n] int64 for each text."""
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids; special tokens are left out."""
        return self.tokenizer.decode(
            [int(number) for number in ids if not self.special[number]], skip_special_tokens=False
        )

    def piece(self, number: int) -> str:
        """One token as a person reads it: spaces and line ends visible, parts of a character as bytes."""
        if self.special[number]:
            return self.tokenizer.id_to_token(int(number)) or "[UNUSED]"
        try:
            text = self.texts[number].decode()
        except UnicodeDecodeError:
            return "".join(f"<{byte:02X}>" for byte in self.texts[number])
        return text.replace(" ", "·").replace("\n", "↵").replace("\t", "⇥")

    def save(self, folder: Path) -> None:
        self.tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
        (folder / "vocabulary.json").write_text(json.dumps({"size": self.size, "lossless": self.lossless}))

    @classmethod
    def load(cls, folder: Path) -> "Vocabulary":
        return cls(read(folder / "tokenizer.json"), **json.loads((folder / "vocabulary.json").read_text()))


def read(path: Path) -> Tokenizer:
    """Raises LmxError for a file that is no tokenizer."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library's panics are no Exceptions
        raise LmxError(f"tokenizer.path must be a tokenizer.json, got {path} ({first_line(error)}).") from None
    return as_text(tokenizer)


def first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:120]


def as_text(tokenizer: Tokenizer) -> Tokenizer:
    """What a file may ask for and a corpus must not have: texts cut or padded, special tokens read out of text."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def as_bytes(piece: str, byte_level: bool, continues: str | None) -> bytes:
    """The UTF-8 bytes a piece stands for: byte-level alphabets exactly, others by what they usually decode to."""
    if byte_level and all(char in BYTE_OF for char in piece):
        return bytes(BYTE_OF[char] for char in piece)
    if match := HEX.fullmatch(piece):
        return bytes.fromhex(match[1])
    return piece.removeprefix(continues or "").replace("▁", " ").encode()


def starts_word(text: bytes) -> bool:
    """Whether a piece begins with a space or another sign that is no part of a word."""
    if not text or 0x80 <= text[0] < 0xC0:  # the middle of a character
        return False
    first = text[:4].decode("utf-8", errors="ignore")[:1]
    return bool(first) and not first.isalnum() and not unicodedata.category(first).startswith("M")


def ends_sentence(text: bytes) -> bool:
    return text.decode("utf-8", errors="ignore").rstrip(CLOSING).endswith(SENTENCE_END)


def byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes: 33-126, 161-172 and 174-255 are themselves, the others follow from 256."""
    themselves = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in themselves]
    return {chr(byte): byte for byte in themselves} | {chr(256 + n): byte for n, byte in enumerate(others)}


BYTE_OF = byte_alphabet()

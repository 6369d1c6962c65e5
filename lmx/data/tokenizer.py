"""How text becomes tokens: byte-level BPE (Sennrich et al. 2016; Radford et al. 2019) trained here, bytes, or a given tokenizer.

The two of our own do not normalise, so decode(encode(x)) == x.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cached_property
from hashlib import sha256
from math import log2
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from lmx.data.readers import reachable
from lmx.data.vocabulary import BYTE_OF, Vocabulary, as_text, first_line, read, specials
from lmx.errors import DataError, LmxError

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # unset, it warns of every process started later

TRAINING_BYTES = 200_000_000  # of text that BPE is trained on; more changes merges hardly and time a lot
SMALLEST, LARGEST = 512, 65536
MULTIPLE = 64  # rows of a vocabulary that is not trained here, as matrix units like it
HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")


def byte_level(model: Any) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return as_text(tokenizer)


class BPE:
    """Byte-level BPE. `size` counts every row; None: the power of two nearest the square root of the training bytes."""

    def __init__(self, *, size: Annotated[int, Interval(ge=SMALLEST, le=LARGEST)] | None):
        self.size = size

    @property
    def key(self) -> str:
        return f"bpe {self.size}"

    def train(self, texts: Iterable[str], train_bytes: int) -> Vocabulary:
        """Trained on the first TRAINING_BYTES of the texts."""
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
    """Texts until they have `limit` bytes together."""
    for text in texts:
        if limit <= 0:
            return
        yield text
        limit -= len(text.encode())


class Bytes:
    """The 256 byte values, nothing learned."""

    def __init__(self) -> None:
        self.key = "bytes"

    def train(self, texts: Iterable[str], train_bytes: int) -> Vocabulary:
        names = specials(0) + sorted(BYTE_OF)
        tokenizer = byte_level(models.BPE({name: number for number, name in enumerate(names)}, []))
        tokenizer.add_special_tokens(specials(0))
        return Vocabulary(tokenizer, padded(len(names)))


class Pretrained:
    """A given tokenizer, extended by the special tokens that it lacks; its own are kept, and not parsed out of text."""

    def __init__(self, *, path: str):
        self.path = path

    @cached_property
    def file(self) -> Path | None:
        """None for a name on the hub. Raises LmxError for what is neither."""
        place = Path(self.path).expanduser()
        place = place / "tokenizer.json" if place.is_dir() else place
        if place.is_file():
            return place
        if self.path.endswith(".json") or not HUB_NAME.fullmatch(self.path):
            raise LmxError(f"tokenizer.path must be an existing tokenizer.json or a name on the hub, got {self.path}.")
        return None

    @property
    def key(self) -> str:
        return (
            f"pretrained {self.path!r}"
            if self.file is None
            else f"pretrained {sha256(self.file.read_bytes()).hexdigest()}"
        )

    def train(self, texts: Iterable[str], train_bytes: int) -> Vocabulary:
        """The texts are not looked at."""
        tokenizer = from_hub(self.path) if self.file is None else read(self.file)
        tokenizer.add_special_tokens(specials(rows(tokenizer)))
        return Vocabulary(tokenizer, padded(rows(tokenizer)))


def rows(tokenizer: Tokenizer) -> int:
    """One more than the largest id: ids may have holes."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1


def padded(size: int) -> int:
    return -(-size // MULTIPLE) * MULTIPLE


def from_hub(name: str) -> Tokenizer:
    """Raises DataError, within a second when the hub cannot be reached."""
    advice = "Type tokenizer=bpe, or tokenizer.path=… with the path of a tokenizer.json."
    if not reachable():
        if "huggingface_hub" in sys.modules and not os.environ.get(
            "HF_HUB_OFFLINE"
        ):  # too late to say so: it would try for long
            raise DataError(f"tokenizer.path: the hub cannot be reached for {name}. {advice}")
        os.environ["HF_HUB_OFFLINE"] = "1"  # then it serves what it has fetched before, or fails at once
    try:
        return as_text(Tokenizer.from_pretrained(name))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library's panics are no Exceptions
        raise DataError(
            f"tokenizer.path: no tokenizer {name} here or on the hub ({first_line(error)}). {advice}"
        ) from None

"""Typed texts as a corpus of their own whose tokens are words and signs: for looking at an objective, not for training."""

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from lmx.data.corpus import Corpus, Documents
from lmx.data.vocabulary import BYTE_OF, Vocabulary, as_text, specials

# One document more than was typed: random words come from it, and segments of another document.
OTHER = """Rain fell on the harbour all morning. A heron stood among the boats and waited. Nobody on the quay had seen it
arrive. Later the sun came out, and two children shared an orange under an old crane. Their dog slept. Somewhere a radio
played a song about winter, and the tide turned without a sound. When the ferry left, only gulls were there to watch it
go.""".replace("\n", " ")
SPACE = {byte: char for char, byte in BYTE_OF.items()}[ord(" ")]


def corpus_of_words(texts: Sequence[str]) -> Corpus:
    """Each text a document, OTHER the last one; every split is the same."""
    vocabulary = words([*texts, OTHER])
    pieces = [np.append(vocabulary.encode(text), vocabulary.eos) for text in (*texts, OTHER)]
    documents = Documents(
        tokens=np.concatenate(pieces).astype(np.uint32),
        offsets=np.cumsum([0, *map(len, pieces)]),
        bytes=np.array([len(text.encode()) for text in (*texts, OTHER)]),
    )
    return Corpus(
        train=documents, validation=documents, test=documents, vocabulary=vocabulary, fingerprint="typed/words"
    )


def words(texts: Sequence[str]) -> Vocabulary:
    """A row for each word of the texts, with the space before it and without; parts of words, which FIM cuts, are bytes."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    known = dict.fromkeys(piece for text in texts for piece, _ in split.pre_tokenize_str(text))
    bare = [piece.removeprefix(SPACE) for piece in known if piece != SPACE]  # where a turn of a conversation begins
    names = list(dict.fromkeys([*specials(0), *sorted(BYTE_OF), *known, *bare]))
    ids = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(ids, [], ignore_merges=True))
    tokenizer.pre_tokenizer, tokenizer.decoder = split, decoders.ByteLevel()
    tokenizer.add_special_tokens(specials(0))
    vocabulary = Vocabulary(as_text(tokenizer), len(names))
    vocabulary.ordinary = np.array(sorted(ids[name] for name in known))  # no random token is a byte
    return vocabulary

"""Is there anything in a text that tells the order of two segments? A rule that is not trained, on the pairs of `sop`.

    python -m tests.bench.segment_order --length 512 [overrides]

Segments in order touch where the first ends and the second begins; swapped, the text's ends touch, which are further apart. The
rule says "in order" where the first segment's end shares more words with the second's beginning than the second's end with the
first's beginning; an end is a quarter of the length, and rare words count more (cosine of their inverse document frequencies).
Half of the answers are right by chance. Printed are the share that is right and its 95 % interval, as one line of JSON.
"""

import argparse
import json
from math import log

import numpy as np

from lmx.batch import IGNORE
from lmx.build import build
from lmx.config import plain
from lmx.data.corpus import prepare
from lmx.experiment import new_learner, stream
from lmx.generate import quiet

Z = 1.96  # of a 95 % interval


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--length", type=int, default=512)
    known, more = parser.parse_known_args()
    config = plain(["objective=sop", "objective.short=0", "model=nano", f"length={known.length}", *more])
    corpus = prepare(build(config["data"]), build(config["tokenizer"]), quiet)
    learner = new_learner(config, corpus)
    samples = stream(config, corpus, learner, "validation")
    keys = samples.keys(0, len(samples))
    pairs = [
        learner.objective.pair(sample, corpus.validation, keys.generator(number, "pair"))
        for number, sample in enumerate(samples.read(0, len(samples)))
    ]
    pairs = [pair for pair in pairs if pair[2] != IGNORE]
    rarity = rare(np.asarray(corpus.train.tokens), known.length, corpus.vocabulary.size)
    end = known.length // 4

    def shared(one: np.ndarray, other: np.ndarray) -> float:
        """The cosine of two stretches' words"""
        one, other = np.unique(one), np.unique(other)
        both = np.intersect1d(one, other)
        squares = [float((rarity[words] ** 2).sum()) for words in (both, one, other)]
        return squares[0] / max(squares[1] * squares[2], 1e-9) ** 0.5

    right = [
        (shared(first[-end:], second[:end]) < shared(second[-end:], first[:end])) == relation
        for first, second, relation in pairs
    ]
    share = float(np.mean(right))
    more_or_less = Z * (share * (1 - share) / len(right)) ** 0.5
    told = {"length": known.length, "overrides": more, "pairs": len(right), "accuracy": share, "interval": more_or_less}
    print(json.dumps({key: round(value, 4) if isinstance(value, float) else value for key, value in told.items()}))


def rare(tokens: np.ndarray, length: int, size: int) -> np.ndarray:
    """[V] nats by which a stretch of `length` is surprised by a token"""
    stretches = [np.unique(tokens[place : place + length]) for place in range(0, len(tokens), length)]
    seen = np.bincount(np.concatenate(stretches), minlength=size)
    return log(len(stretches) + 1) - np.log(seen + 1)


if __name__ == "__main__":
    main()

"""Fill in the middle: the worked example of its docstring, a text cut inside of words, and what is left as it is."""

import numpy as np
import pytest

from lmx.batch import IGNORE, PADDING
from lmx.data.noise import Keys
from lmx.objectives import fim as module
from lmx.objectives.fim import FIM
from tests.conftest import sample, trunk

KEYS = Keys(seed=0, purpose="train", sample=np.arange(1))
_ = IGNORE
TEXT = "def f(a, b):\n    return a + b\n"


@pytest.fixture
def make(vocabulary, monkeypatch):
    """make((2, 3), spm=1.0, ...) -> FIM whose cuts are always those."""

    def make(places=(2, 3), **changes) -> FIM:
        monkeypatch.setattr(module, "cuts", lambda length, rng: places)
        knobs = {"length": 16, "rate": 1.0, "spm": 0.0, "level": "token", "loss": "all", "z_loss": 0.0}
        return FIM(model=trunk(), vocabulary=vocabulary, **knobs | changes)

    return make


@pytest.fixture
def ids(vocabulary):
    """P, S, M, E and five ordinary tokens."""
    v = vocabulary
    return (v.fim_prefix, v.fim_suffix, v.fim_middle, v.eos, *v.ordinary[:5].tolist())


def shown(batch) -> tuple[list[int], list[int]]:
    real = batch.document[0] != PADDING
    return batch.tokens[0][real].tolist(), batch.targets[0][real].tolist()


def test_prefix_suffix_middle(make, ids):
    p, s, m, e, a, b, c, d, f = ids
    batch = make().collate([sample([a, b, c, d, f, e])], KEYS)
    assert shown(batch) == ([p, a, b, s, d, f, m, c, e], [a, b, s, d, f, m, c, e, _])
    assert batch.order[0, :9].tolist() == batch.position[0, :9].tolist() == list(range(9))


def test_suffix_prefix_middle(make, ids):
    p, s, m, e, a, b, c, d, f = ids
    batch = make(spm=1.0).collate([sample([a, b, c, d, f, e])], KEYS)
    assert shown(batch) == ([p, s, d, f, m, a, b, c, e], [s, d, f, m, a, b, c, e, _])


@pytest.mark.parametrize("spm", [0.0, 1.0])
def test_only_the_middle_and_its_end_are_asked(make, ids, spm):
    p, s, m, e, a, b, c, d, f = ids
    tokens, targets = shown(make(spm=spm, loss="middle").collate([sample([a, b, c, d, f])], KEYS))
    assert targets == [_] * 6 + [c, e, _]
    assert tokens[6] == (b if spm else m)


def test_an_empty_middle_is_an_end(make, ids):
    p, s, m, e, a, b, c, d, f = ids
    tokens, targets = shown(make((2, 2), loss="middle").collate([sample([a, b, c])], KEYS))
    assert tokens == [p, a, b, s, c, m, e]
    assert targets == [_] * 5 + [e, _]


@pytest.mark.parametrize(
    ("spm", "row"),
    [
        (0.0, ["P", "def f(a, ", "S", "a + b\n", "M", "b):\n    return ", "E"]),
        (1.0, ["P", "S", "a + b\n", "M", "def f(a, ", "b):\n    return ", "E"]),
    ],
)
def test_cut_between_characters(make, vocabulary, ids, spm, row):
    marks = dict(zip("PSME", ids[:4], strict=True))
    expected = [t for part in row for t in ([marks[part]] if part in marks else vocabulary.encode(part).tolist())]
    text = [*vocabulary.encode(TEXT).tolist(), vocabulary.eos]
    batch = make((9, 24), spm=spm, level="character", length=64).collate([sample(text)], KEYS)
    assert shown(batch) == (expected, [*expected[1:], _])


def test_characters_are_never_cut(make, vocabulary, ids):
    """Two bytes a letter: a cut between bytes 2 and 4 of é é é would be one between characters 2 and 4."""
    text = vocabulary.encode("ééé").tolist()
    tokens, _targets = shown(make((1, 2), level="character").collate([sample(text)], KEYS))
    p, s, m, e = ids[:4]
    assert tokens == [p, *text[:2], s, *text[4:], m, *text[2:4], e]


def test_what_is_no_text_is_left_as_it_is(make, vocabulary):
    half = vocabulary.encode("éab").tolist()[1:]
    batch = make((1, 2), level="character").collate([sample(half)], KEYS)
    assert shown(batch) == (half, [*half[1:], _])


def test_a_text_that_is_not_transformed_ends_only_where_it_ended(make, ids):
    p, s, m, e, a, b, c, d, f = ids
    batch = make(rate=0.0).collate([sample([a, b, e], [c, d, f])], KEYS)
    assert shown(batch) == ([a, b, e, c, d, f], [b, e, _, d, f, _])
    assert batch.document[0, :6].tolist() == [0, 0, 0, 1, 1, 1]


def test_documents_that_run_on_are_told_apart(make, ids):
    """packing=concat: a text that reached over an end would have a middle of two documents."""
    p, s, m, e, a, b, c, d, f = ids
    batch = make((1, 2)).collate([sample([a, b, c, e, d, f])], KEYS)
    assert shown(batch)[0] == [p, a, s, c, m, b, e, p, d, s, m, f, e]
    assert batch.document[0, :13].tolist() == [0] * 7 + [1] * 6
    assert batch.targets[0, 6] == _


def test_the_last_text_is_shortened_until_it_fits(make, ids):
    p, s, m, e, a, b, c, d, f = ids
    batch = make((1, 2), length=12).collate([sample([a, b, e], [c, d, f, a, e])], KEYS)
    assert shown(batch)[0] == [p, a, s, m, b, e, p, c, s, m, d, e]


@pytest.mark.parametrize(("level", "length"), [("token", 124), ("character", 120)])
def test_lengths(make, level, length):
    assert make(level=level, length=128).raw_lengths(KEYS).tolist() == [length]

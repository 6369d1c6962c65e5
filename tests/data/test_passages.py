"""Long documents are read as passages: nothing is lost but blank lines, and only training documents are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmx.data.passages import passages

TEXTS = st.text(st.sampled_from("ab. \n\t"), min_size=1).filter(str.strip)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (None, ["One.\n\nTwo.\n\nThree."]),
        (100, ["One.\n\nTwo.\n\nThree."]),
        (10, ["One.\n\nTwo.", "Three."]),  # exactly ten
        (9, ["One.", "Two.", "Three."]),
        (1, ["One.", "Two.", "Three."]),  # a paragraph is never cut
    ],
)
def test_as_many_paragraphs_as_fit(size, expected):
    assert list(passages("One.\n\nTwo.\n\nThree.", size)) == expected


def test_blank_lines_may_hold_blanks_and_lines_within_a_paragraph_stay():
    assert list(passages("\n\nOne\nline.\n \t\n\nTwo.\n\n", 5)) == ["One\nline.", "Two."]


@given(TEXTS, st.integers(1, 30))
def test_every_word_is_in_one_passage_in_its_order(text, size):
    found = list(passages(text, size))
    assert " ".join(found).split() == text.split()
    assert all(passage.strip() for passage in found)


@given(TEXTS, st.integers(1, 30))
def test_a_passage_is_too_long_only_as_a_single_paragraph(text, size):
    for passage in passages(text, size):
        assert len(passage) <= size or len(list(passages(passage, 1))) == 1


@given(TEXTS, st.integers(1, 30))
def test_no_passage_could_take_the_first_paragraph_of_the_next(text, size):
    found = list(passages(text, size))
    starts = [text.index(passage, 0) for passage in found[:1]]
    for passage, following in pairwise(found):
        first = next(passages(following, 1))
        begin = text.index(passage, starts[-1])
        end = text.index(first, begin + len(passage)) + len(first)
        starts.append(begin + len(passage))
        assert end - begin > size

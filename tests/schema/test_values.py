"""Values, their types, and the words for both."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Interval, Le, Len, Lt, MultipleOf
from hypothesis import given
from hypothesis import strategies as st

from lmx.schema.values import Matches, Mismatch, conform, show, words

Share = Annotated[float, Interval(ge=0, le=1)]


@pytest.mark.parametrize(
    ("form", "good", "bad", "rule"),
    [
        (int, [0, -3, 10**30], [True, 1.5, "1", None, [1]], "a whole number"),
        (float, [0, 1.5, -2], [True, "1", None, float("nan"), float("inf")], "a number"),
        (bool, [True, False], [0, 1, "true", None], "true or false"),
        (str, ["", "x"], [1, None, True], "text"),
        (str | None, ["x", None], [1], "text or null"),
        (Annotated[int, Ge(1)], [1], [0], "a whole number at least 1"),
        (Annotated[float, Gt(0)], [0.1], [0], "a number above 0"),
        (Annotated[float, Le(1)], [1], [1.1], "a number at most 1"),
        (Annotated[float, Lt(1)], [0.9], [1], "a number below 1"),
        (Share, [0, 1], [-0.1, 1.1], "a number in [0, 1]"),
        (Annotated[float, Interval(gt=0, lt=1)], [0.5], [0, 1], "a number in (0, 1)"),
        (Annotated[int, MultipleOf(8)], [16], [12], "a whole number"),
        (Literal["a", "b", 3], ["a", 3], ["c", 3.5, "3"], "a, b or 3"),
        (bool | Literal["auto"], [True, "auto"], ["on", 1], "true, false or auto"),
        (Annotated[int, Ge(1)] | None, [2, None], [0, "x"], "a whole number at least 1 or null"),
        (list[int], [[], [1, 2]], [[1.5], "x", {1: 2}], "a list in [ ], each a whole number"),
        (
            Annotated[list[Share], Len(2, 2)],
            [[0, 1]],
            [[0], [0, 2]],
            "a list in [ ] of 2 elements, each a number in [0, 1]",
        ),
        (
            Annotated[list[int], Len(1)],
            [[1]],
            [[]],
            "a list in [ ] of at least 1 element, each a whole number",
        ),
        (list[list[int]], [[[1], []]], [[1]], "a list in [ ], each a list in [ ], each a whole number"),
        (Mapping[str, float], [{"a": 1}], [{"a": "x"}, [1]], "a mapping, as in {a: 1}"),
        (Annotated[str, Matches("a+", "be like aaa")], ["aa"], ["ab", "aa\n"], "text"),
        (Any, [1, None, "x", {"a": [1]}], [], "any value"),
    ],
)
def test_conform(form, good, bad, rule):
    assert words(form) == rule
    for value in good:
        assert conform(value, form) == value
    for value in bad:
        with pytest.raises(Mismatch):
            conform(value, form)


def test_numbers_become_what_is_wanted():
    assert type(conform(1, float)) is float
    assert type(conform(1e6, int)) is int
    assert type(conform(1, int | float)) is int
    assert [type(item) for item in conform([1, 2.5], list[float])] == [float, float]


def test_where_the_mistake_is():
    with pytest.raises(Mismatch) as caught:
        conform({"a": [0, 1, 7]}, dict[str, list[Share]])
    assert (caught.value.where, caught.value.rule, caught.value.value) == (".a[2]", "lie in [0, 1]", 7.0)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner)))
def test_show_is_short_and_printable(value):
    assert show(value).isprintable()
    assert len(show(value)) <= 61


def test_show_of_a_huge_number():
    assert show(10**5000) == "a number of thousands of digits"

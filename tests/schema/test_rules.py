"""Rules over several values: they are evaluated, and they can do nothing else."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmx.errors import LmxError
from lmx.schema.rules import check, evaluate

RULES = {"width % heads == 0": "model.width must be a multiple of model.heads"}


def test_broken_rule_names_the_values():
    check(RULES, {"width": 128, "heads": 4})
    with pytest.raises(LmxError, match=r"^model.width must be a multiple of model.heads, got width=130, heads=4\.$"):
        check(RULES, {"width": 130, "heads": 4})


def test_unknown_name_leaves_the_rule_for_later():
    check(RULES, {"width": 130})


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("a + b * 2 - 1", 10),
        ("a // b, a % b, a / 2, -a", (0, 3, 1.5, -3)),
        ("0 < a < b <= 4", True),
        ("a < b < a", False),
        ("a is None or a > 2", True),
        ("not a == 3 and missing", False),
        ("kind in ('one', 'two')", True),
        ("kind not in ('one', 'two')", False),
        ("b is not None", True),
        ("2**10", 1024),
    ],
)
def test_evaluate(rule, value):
    assert evaluate(ast.parse(rule, mode="eval").body, {"a": 3, "b": 4, "kind": "one"}) == value


@pytest.mark.parametrize(
    "rule",
    ["f()", "a.b", "a[0]", "[a for a in b]", "lambda: 1", "f'{a}'", "(a := 1)", "a if b else c", "a @ b"],
)
def test_nothing_else(rule):
    with pytest.raises(ValueError, match="a rule may not contain"):
        evaluate(ast.parse(rule, mode="eval").body, {"a": 1, "b": 1, "c": 1})


@given(st.integers(1, 50), st.integers(1, 50), st.integers(-9, 9))
def test_agrees_with_python(a, b, c):
    rules = {
        "a % b == 0": a % b == 0,
        "a - b * c < a // b": a - b * c < a // b,
        "a <= b or c >= 0": a <= b or c >= 0,
    }
    for rule, value in rules.items():
        assert evaluate(ast.parse(rule, mode="eval").body, {"a": a, "b": b, "c": c}) == value

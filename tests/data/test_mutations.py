"""Where bugs can be and what they can be; on Python's own library: they parse, differ, and change nothing else."""

import ast
import inspect
import textwrap
from collections import Counter

import numpy as np
import pytest

from lmx.data import mutations
from lmx.data.mutations import KINDS, Bug, Site, apply, mutate, parse, sites
from lmx.data.python import functions

EVENLY: dict[str, float] = dict.fromkeys(KINDS, 1.0)
OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "@", "<<", ">>", "|", "&", "^"]


def found(source: str, kind: str) -> dict[str, tuple[str, ...]]:
    """What stands at each site of a kind -> what can; `|` marks a place between two characters."""
    return {
        source[site.start : site.stop] or f"{source[: site.start]}|{source[site.stop :]}": site.choices
        for site in sites(source)
        if site.kind == kind
    }


def test_the_example_of_the_module():
    assert sites("return a - 2\n") == (
        Site("binary", 9, 10, tuple(one for one in OPERATORS if one != "-")),
        Site("literal", 11, 12, ("-2", "-1", "0", "1")),
    )


def test_a_comparison_has_five_others():
    assert found("if x < 3: pass\n", "comparison") == {"<": ("<=", ">", ">=", "==", "!=")}
    assert found("a not  in b\n", "comparison") == {"not  in": ("in",)}
    assert found("a is not b in c\n", "comparison") == {"is not": ("is",), "in": ("not in",)}


@pytest.mark.parametrize(
    ("source", "kind", "expected"),
    [
        ("(a) \\\n + (b)", "binary", {"+": tuple(OPERATORS[1:])}),
        ("f(a # a - b\n - b)", "binary", {"-": tuple(one for one in OPERATORS if one != "-")}),
        ("é = 'ü' % x", "binary", {"%": tuple(one for one in OPERATORS if one != "%")}),
        ("a and b or c", "boolean", {"and": ("or",), "or": ("and",)}),
        ("x = f(a and b, c)", "arguments", {"a and b, c": ("c, a and b",)}),
        ("f(a, a)", "arguments", {}),
        ("f(a, *b)", "arguments", {}),
        ("f((a), b)", "arguments", {"a), b": ("b), a",)}),
        ("if a: pass", "negation", {"if |a: pass": ("not ",)}),
        ("if not  a: pass", "negation", {"not  ": ("",)}),
        ("x = not a", "negation", {}),
        ("while f(x) and not y: pass", "negation", {"while |f(x) and not y: pass": ("not ",), "not ": ("",)}),
        ("x = 2, 3, -1, True, 1.0", "literal", {
            "2": ("-2", "-1", "0", "1"), "-1": ("-2", "0", "1", "2"), "True": ("False",),
        }),
        ("def f(a=1): return 0", "literal", {"0": ("-2", "-1", "1", "2")}),
        ("return-1", "literal", {}),
        ("1if a else 3", "literal", {}),
        ("f'{1 + 2}'", "binary", {}),
        ("x = = 1", "literal", {}),
        ("'''a + b'''  # c + d", "binary", {}),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::SyntaxWarning")  # of what Python may refuse one day
def test_sites(source, kind, expected):
    assert found(source, kind) == expected


def test_assignments():
    assert found("a += 1", "assignment")["+="] == (*(f"{one}=" for one in OPERATORS[1:]), "=")
    assert found("def f(b):\n  a = 1\n  b = 2\n  b.c = 3", "assignment") == {
        "=": tuple(f"{one}=" for one in OPERATORS),
    }, "only b is known"


METHOD = """
def f(self, a, limit=1):
    total = a + 1
    for item in total:
        later = [item + a for item in a]
        print(item, lambda a: total)
    return self.f(later)
"""


def test_variables_are_those_assigned_before():
    got = [(METHOD[site.start : site.stop], site.choices) for site in sites(METHOD) if site.kind == "variable"]
    assert got == [
        ("a", ("limit",)),
        ("total", ("a", "limit")),
        ("item", ("a", "limit", "total", "later")),
        ("later", ("a", "limit", "total", "item")),
    ]
    assert not found("a = 1\nb = 2\nprint(a)", "variable"), "a module's names are no locals"
    assert not found("def f(b):\n  global a\n  a = 1\n  return a, print", "variable")


def test_mutants_of_several_bugs():
    source = "if a < b and c: return d - 2\n"
    for seed in range(50):
        bugs = mutate(source, EVENLY, 3, 0, len(source), np.random.default_rng(seed))
        assert len(bugs) == 3
        assert all(one.site.apart(other.site) for one in bugs for other in bugs if one is not other)
        assert parse(apply(source, bugs)) is not None
        assert bugs == mutate(source, EVENLY, 3, 0, len(source), np.random.default_rng(seed))
    assert not mutate(source, EVENLY, 3, 4, 5, np.random.default_rng(0)), "a is no variable of a function"


def test_a_bug_lies_in_the_piece():
    source = "x = a + b\ny = c - d\n"
    assert {
        source[bug.site.start]
        for seed in range(20)
        for bug in mutate(source, EVENLY, 1, 10, len(source), np.random.default_rng(seed))
    } == {"-"}


def test_kinds_are_drawn_before_places():
    """Ten operators and one comparison: each kind half of the time. A weight of 0 leaves a kind out."""
    source = "x = " + " + ".join("abcdefghijk") + " < y\n"
    drawn = Counter(
        mutate(source, EVENLY, 1, 0, len(source), np.random.default_rng(seed))[0].site.kind for seed in range(400)
    )
    assert set(drawn) == {"binary", "comparison"}
    assert 160 < drawn["binary"] < 240  # 4 deviations
    weights = {"comparison": 1.0, "binary": 0.0}
    assert mutate(source, weights, 1, 0, len(source), np.random.default_rng(0))[0].site.kind == "comparison"


def test_what_does_not_parse_is_not_kept(monkeypatch):
    bad = Site("literal", 4, 5, ("(",))
    monkeypatch.setattr(mutations, "sites", lambda source: (bad,))
    assert mutate("x = 1\n", EVENLY, 1, 0, 6, np.random.default_rng(0)) == []


LIBRARY = [
    function
    for module in (textwrap, ast, inspect)
    for source in [inspect.getsource(module)]
    for function in functions(source, ast.parse(source))
]


def check(source: str, bug: Bug) -> None:
    """What a bug promises."""
    mutant = apply(source, [bug])
    tree = parse(mutant)
    assert tree is not None
    assert ast.dump(tree) != ast.dump(ast.parse(source))
    assert mutant[: bug.site.start] == source[: bug.site.start]
    assert mutant[bug.site.start + len(bug.choice) :] == source[bug.site.stop :]
    was = source[bug.site.start : bug.site.stop]
    back = apply(mutant, [Bug(Site("", bug.site.start, bug.site.start + len(bug.choice), (was,)), was)])
    assert back == source


def test_every_bug_of_a_library_parses_and_differs():
    assert len(LIBRARY) > 200
    kinds: Counter[str] = Counter()
    for number, source in enumerate(LIBRARY):
        rng = np.random.default_rng(number)
        for site in sites(source):
            if rng.random() < 0.15:
                check(source, Bug(site, site.choices[rng.integers(len(site.choices))]))
                kinds[site.kind] += 1
    assert set(kinds) == set(KINDS)
    assert min(kinds.values()) >= 5


SHIFTED = {
    "operator off by one": ("operator", lambda place: place and (place[0] + 1, place[1])),
    "columns are characters": ("start", lambda start: start + 1),
}


@pytest.mark.parametrize("bug", sorted(SHIFTED))
def test_seeded_bugs_are_caught(monkeypatch, bug):
    name, change = SHIFTED[bug]
    right = getattr(mutations.Text, name)
    monkeypatch.setattr(mutations.Text, name, lambda *arguments: change(right(*arguments)))
    sites.cache_clear()
    with pytest.raises(AssertionError):
        test_sites("x = a - 2, é % f(1, 2), a and b", "binary", {"-": tuple(one for one in OPERATORS if one != "-")})
    sites.cache_clear()

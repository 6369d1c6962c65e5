"""Small bugs in Python source: where one can be put, and what it can be (after BugLab, Allamanis et al. 2021, arXiv:2105.12787).

Places are found in the syntax tree and edits are made in the text, so that nothing but the bug changes. Of `return a - 2`:

    kind      start  stop   choices
    binary        9    10   + * / // % ** @ << >> | & ^
    literal      11    12   -2 -1 0 1
"""

import ast
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise

import numpy as np

KINDS = ("binary", "assignment", "boolean", "negation", "comparison", "literal", "variable", "arguments")
ARITHMETIC = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.MatMult: "@", ast.LShift: "<<", ast.RShift: ">>", ast.BitOr: "|", ast.BitAnd: "&", ast.BitXor: "^",
}  # fmt: skip
COMPARISON = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
    ast.In: "in", ast.NotIn: "not in", ast.Is: "is", ast.IsNot: "is not",
}  # fmt: skip
GROUPS = (("<", "<=", ">", ">=", "==", "!="), ("in", "not in"), ("is", "is not"))
BOOLEAN = {ast.And: "and", ast.Or: "or"}
LITERALS = range(-2, 3)
SCOPES = (
    ast.Lambda,
    ast.ClassDef,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
)  # with names of their own
BETWEEN = re.compile(rb"#[^\r\n]*|\\|\s+|[()]")  # what may stand between an operand and its operator
DEEPEST = 100  # levels of the tree; what is nested deeper are tables
LONGEST = 80  # characters that one edit may rewrite
MOST_ARGUMENTS = 6  # of a call whose arguments are swapped
TRIES = 8
NAME = "<text>"
warnings.filterwarnings(
    "ignore", module=re.escape(NAME)
)  # what Python has to say about the style of texts that are parsed


@dataclass(frozen=True)
class Site:
    """A stretch of the text, in characters, and what can stand there instead."""

    kind: str
    start: int
    stop: int
    choices: tuple[str, ...]

    def apart(self, other: "Site") -> bool:
        return self.stop < other.start or other.stop < self.start


@dataclass(frozen=True)
class Bug:
    """What stands in place of `site` in the mutant."""

    site: Site
    choice: str


def apply(source: str, bugs: Sequence[Bug]) -> str:
    """The source with bugs at sites that are apart."""
    for bug in sorted(bugs, key=lambda bug: -bug.site.start):
        source = source[: bug.site.start] + bug.choice + source[bug.site.stop :]
    return source


def parse(source: str) -> ast.Module | None:
    """The tree; None for a text that is no Python of this version, or is nested too deep."""
    try:
        return ast.parse(source, NAME)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


@lru_cache(maxsize=4096)  # about 10 kB each: functions that come again in the next epoch
def sites(source: str) -> tuple[Site, ...]:
    """Every place for a bug, in the order of the text; none in a text that does not parse."""
    tree = parse(source)
    if tree is None:
        return ()
    finder = Finder(Text(source))
    finder.visit(tree, 0)
    return tuple(sorted(set(finder.sites), key=lambda site: (site.start, site.stop, site.kind, site.choices)))


def mutate(
    source: str, kinds: Mapping[str, float], number: int, start: int, stop: int, rng: np.random.Generator
) -> list[Bug]:
    """At most `number` bugs between the characters `start` and `stop`, with which the source still parses.

    First a kind is drawn by its weight in `kinds`, of those that have a site left, then a site, then what stands there: were
    sites drawn first, most bugs would be of the kind that code has most places for.
    """
    free = [site for site in sites(source) if start <= site.start and site.stop <= stop and kinds.get(site.kind)]
    bugs: list[Bug] = []
    for _ in range(TRIES * number):
        there = [kind for kind in KINDS if any(site.kind == kind for site in free)]
        if len(bugs) == number or not there:
            break
        weights = np.array([kinds[kind] for kind in there])
        kind = there[rng.choice(len(there), p=weights / weights.sum())]
        places = [site for site in free if site.kind == kind]
        site = places[rng.integers(len(places))]
        bug = Bug(site, site.choices[rng.integers(len(site.choices))])
        if parse(apply(source, [*bugs, bug])) is not None:
            bugs.append(bug)
            free = [other for other in free if other.apart(site)]
    return bugs


class Text:
    """A source in bytes, as the tree counts columns in them."""

    def __init__(self, source: str):
        self.bytes = source.encode()
        self.plain = len(self.bytes) == len(source)
        self.lines = [0, *(match.end() for match in re.finditer(rb"\r\n|\r|\n", self.bytes))]

    def start(self, node: ast.expr) -> int:
        return self.lines[node.lineno - 1] + node.col_offset

    def stop(self, node: ast.expr) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.lines[node.end_lineno - 1] + node.end_col_offset

    def of(self, start: int, stop: int) -> str:
        return self.bytes[start:stop].decode()

    def operator(self, left: ast.expr, right: ast.expr, symbol: str) -> tuple[int, int] | None:
        """Where the symbol stands between two operands; `not in` is two words."""
        place, end = self.stop(left), self.start(right)
        while found := BETWEEN.match(self.bytes, place, end):
            place = found.end()
        found = re.compile(re.escape(symbol).replace("\\ ", r"\s+").encode()).match(self.bytes, place, end)
        return (place, found.end()) if found else None

    def site(self, kind: str, start: int, stop: int, choices: Sequence[str]) -> Site | None:
        """None where a choice would run into the word beside it, as in `return-1`, or would be what is there."""
        before, after = self.bytes[max(start - 1, 0) : start], self.bytes[stop : stop + 1]
        if any(word(before) and word(choice[:1].encode()) for choice in choices):
            return None
        if any(word(after) and word(choice[-1:].encode()) for choice in choices):
            return None
        was = self.of(start, stop)
        if not self.plain:
            start, stop = (len(self.bytes[:place].decode()) for place in (start, stop))
        others = tuple(choice for choice in choices if choice != was)
        return Site(kind, start, stop, others) if others and stop - start <= LONGEST else None


def word(character: bytes) -> bool:
    """Whether it may be part of a name or a number."""
    return character.isalnum() or character == b"_" or character >= b"\x80"


class Finder:
    """Visits a tree in the order of evaluation, so that a name is known from when it has been assigned."""

    def __init__(self, text: Text):
        self.text = text
        self.sites: list[Site] = []
        self.names: list[str] | None = (
            None  # of the function, assigned so far; None where it is not a function's own code
        )
        self.outer: set[str] = set()  # declared global or nonlocal

    def add(self, kind: str, place: tuple[int, int] | None, choices: Sequence[str]) -> None:
        site = self.text.site(kind, *place, choices) if place else None
        if site:
            self.sites.append(site)

    def visit(self, node: ast.AST, depth: int) -> None:
        if depth > DEEPEST or isinstance(node, ast.JoinedStr):  # whose parts had wrong columns before Python 3.12
            return
        self.here(node)
        names, outer = self.names, self.outer
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self.names, self.outer = parameters(node.args), set()
        elif isinstance(node, SCOPES):
            self.names = None
        for child in children(node):
            self.visit(child, depth + 1)
        self.names, self.outer = names, outer
        if isinstance(node, ast.Name):
            self.name(node)

    def here(self, node: ast.AST) -> None:
        """Sites of this node alone."""
        match node:
            case ast.BinOp():
                symbol = ARITHMETIC[type(node.op)]
                self.add("binary", self.text.operator(node.left, node.right, symbol), others(ARITHMETIC, symbol))
            case ast.AugAssign():
                symbol = ARITHMETIC[type(node.op)] + "="
                choices = [*(f"{other}=" for other in ARITHMETIC.values()), "="]
                self.add("assignment", self.text.operator(node.target, node.value, symbol), choices)
            case ast.Assign(targets=[ast.Name() as target]) if self.names and target.id in self.names:
                choices = [f"{other}=" for other in ARITHMETIC.values()]
                self.add("assignment", self.text.operator(target, node.value, "="), choices)
            case ast.BoolOp():
                symbol = BOOLEAN[type(node.op)]
                for left, right in pairwise(node.values):
                    self.add("boolean", self.text.operator(left, right, symbol), others(BOOLEAN, symbol))
                for value in node.values:
                    self.negation(value)
            case ast.If() | ast.While() | ast.IfExp():
                self.negation(node.test)
            case ast.Compare():
                for (left, right), op in zip(pairwise([node.left, *node.comparators]), node.ops, strict=True):
                    symbol = COMPARISON[type(op)]
                    group = next(group for group in GROUPS if symbol in group)
                    choices = [other for other in group if other != symbol]
                    self.add("comparison", self.text.operator(left, right, symbol), choices)
            case ast.Constant() | ast.UnaryOp(op=ast.USub(), operand=ast.Constant()):
                self.literal(node)
            case ast.Call():
                self.arguments(node.args)
            case ast.Global() | ast.Nonlocal():
                self.outer |= set(node.names)

    def negation(self, operand: ast.expr) -> None:
        start = self.text.start(operand)
        if isinstance(operand, ast.UnaryOp) and isinstance(operand.op, ast.Not):
            found = re.compile(rb"not\s*").match(self.text.bytes, start)
            assert found
            self.add("negation", found.span(), [""])
        elif isinstance(operand, ast.Name | ast.Call):
            self.add("negation", (start, start), ["not "])

    def literal(self, node: ast.Constant | ast.UnaryOp) -> None:
        value = value_of(node)
        if value is None:
            return
        values = (True, False) if isinstance(value, bool) else LITERALS
        choices = [str(other) for other in values if other != value]
        self.add("literal", (self.text.start(node), self.text.stop(node)), choices if value in values else [])

    def arguments(self, args: Sequence[ast.expr]) -> None:
        if len(args) > MOST_ARGUMENTS or any(isinstance(one, ast.Starred) for one in args):
            return
        for first, second in combinations(args, 2):
            (a, b), (c, d) = ((self.text.start(one), self.text.stop(one)) for one in (first, second))
            swapped = self.text.of(c, d) + self.text.of(b, c) + self.text.of(a, b)
            self.add("arguments", (a, d), [swapped])

    def name(self, node: ast.Name) -> None:
        """A read may be of another name; an assignment makes one known."""
        if self.names is None or node.id in self.outer:
            return
        if isinstance(node.ctx, ast.Store) and node.id not in self.names:
            self.names.append(node.id)
        elif isinstance(node.ctx, ast.Load) and node.id in self.names:
            choices = [name for name in self.names if name != node.id]
            self.add("variable", (self.text.start(node), self.text.stop(node)), choices)


def others(symbols: Mapping[type, str], symbol: str) -> list[str]:
    return [other for other in symbols.values() if other != symbol]


def value_of(node: ast.Constant | ast.UnaryOp) -> int | None:
    """Of True, False, an integer or a negative one."""
    if isinstance(node, ast.UnaryOp):
        assert isinstance(node.operand, ast.Constant)
        inner = node.operand.value
        return -inner if type(inner) is int else None
    return node.value if isinstance(node.value, int) else None


def parameters(args: ast.arguments) -> list[str]:
    """Names that a function knows from its first line, but not the object that it is a method of."""
    found = [*args.posonlyargs, *args.args, args.vararg, *args.kwonlyargs, args.kwarg]
    return [one.arg for one in found if one is not None and one.arg not in ("self", "cls")]


def children(node: ast.AST) -> Iterator[ast.AST]:
    """In the order of evaluation, and only what runs: no annotations, no parameters and their defaults, no signs of literals."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        return
    first = (
        ("value", "iter")
        if isinstance(node, ast.Assign | ast.NamedExpr | ast.AnnAssign | ast.For | ast.AsyncFor)
        else ()
    )
    left_out = ("annotation", "returns", "args") if not isinstance(node, ast.Call) else ()
    for field in [*first, *(field for field in node._fields if field not in (*first, *left_out))]:
        value = getattr(node, field, None)
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child

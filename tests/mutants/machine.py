"""Makes small changes to what decides what is asked, and says which of them no test notices.

python -m tests.mutants.machine [--count 200] [--seed 0] [--only lmx/objectives/fim.py]

Survivors that are no bugs are listed in survivors.md with the reason; one that is not is printed as an entry to explain there,
or, better, to kill by a test. What was killed is remembered in runs/mutants.jsonl while the source is the same, so that a run
goes on where it was stopped, and survivors meet the tests again.

Ours, since mutmut 3 passes over decorated functions, slices and constants of modules, and collects coverage of the whole suite to
choose tests; and cosmic-ray starts Python, and so torch, for each mutant.
"""

import argparse
import ast
import difflib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[2]
KNOWN = Path(__file__).with_name("survivors.md")
DONE = ROOT / "runs" / "mutants.jsonl"
SWAPS = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"), ast.FloorDiv: ("//", "/"),
    ast.Mod: ("%", "*"), ast.Pow: ("**", "*"), ast.BitAnd: ("&", "|"), ast.BitOr: ("|", "&"), ast.MatMult: ("@", "+"),
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"), ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="), ast.Is: ("is", "is not"), ast.IsNot: ("is not", "is"), ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"), ast.And: ("and", "or"), ast.Or: ("or", "and"),
}  # fmt: skip
UNARY = {ast.Not: "not", ast.Invert: "~", ast.USub: "-"}
SYMMETRIC = {"max", "maximum", "min", "minimum", "array_equal", "equal"}
PASSED_OVER = (ast.Assert, ast.JoinedStr, ast.Raise, ast.Import, ast.ImportFrom)
TYPES = {"Annotated", "Callable", "Literal", "Mapping", "Sequence", "TypeVar", "cast", "isinstance"}

# Where a mutant of a module shows first: the tests of the module, then those of all objectives whose names have one of the words.
EACH = ("tests/contract/test_objectives.py", "tests/evals/test_scoring.py", "tests/evals/test_write.py")
SHOWN = ("tests/evals/test_features.py", "tests/golden/test_shown.py")
WORDS = {
    "asking": "clm or mlm or span", "bart": "bart", "clm": "clm", "contrastive": "contrastive or simcse",
    "electra": "electra or gdes",
    "fim": "fim", "fix_the_bug": "fix_the_bug", "glm": "glm", "mixture": "ul2 or mixture or biphasic",
    "mlm": "bert or mlm or selection",
    "mlm_uniform": "mlm_uniform", "mtp": "mtp or draft", "objective": "clm or roberta or t5 or fim or nsp or contrastive",
    "prefix_lm": "prefix_lm", "retromae": "retromae", "segment_pair": "nsp or sop or segment_pair", "sft": "sft",
    "span": "span or t5",
    "text_to_text": "span or prefix_lm or bart", "writing": "clm or span", "xlnet": "xlnet",
}  # fmt: skip
OTHERS = {
    "lmx/batch.py": [
        "tests/nn", *(f"tests/golden/test_{name}.py" for name in ("clm", "xlnet", "contrastive")), "tests/train/test_flops.py",
        "tests/contract/test_objectives.py",
    ],
    "lmx/data/bins.py": ["tests/data/test_packing.py"],
    "lmx/data/loader.py": ["tests/train/test_trainer.py", "tests/data/test_loader.py"],
    "lmx/data/noise.py": ["tests/data/test_noise.py", "tests/props/test_selection.py", "tests/data/test_packing.py"],
    "lmx/data/packing.py": ["tests/data/test_packing.py"],
    "lmx/data/selection.py": ["tests/props/test_selection.py", "tests/golden/test_mlm.py", "tests/golden/test_whole_word.py"],
    "lmx/data/spans.py": ["tests/props/test_spans.py", "tests/golden/test_span.py"],
    "lmx/train/budget.py": ["tests/train/test_budget.py", "tests/train/test_trainer.py"],
    "lmx/train/trainer.py": ["tests/train/test_trainer.py"],
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    path: str
    start: int
    stop: int
    text: str  # instead of what stands from `start` to `stop`, in bytes

    def source(self) -> str:
        whole = (ROOT / self.path).read_bytes()
        return (whole[: self.start] + self.text.encode() + whole[self.stop :]).decode()

    def diff(self) -> str:
        """The changed lines alone."""
        before = (ROOT / self.path).read_text(encoding="utf-8").splitlines()
        lines = list(difflib.unified_diff(before, self.source().splitlines(), n=0, lineterm=""))[2:]
        return "\n".join(line for line in lines if not line.startswith("@@"))

    def job(self, name: str) -> dict:
        module = self.path.removesuffix(".py").replace("/", ".")
        return {"name": name, "module": module, "source": self.source(), "tests": tests(self.path)}

    @property
    def key(self) -> str:
        """The same while the lines around are the same, so that a sample is, too."""
        return sha256(f"{self.path}\n{self.diff()}".encode()).hexdigest()


class Mutations:
    """All mutants of a file."""

    def __init__(self, path: str):
        self.path, self.source = path, (ROOT / path).read_bytes()
        self.lines = [0]
        for line in self.source.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))
        self.found: dict[Mutant, None] = {}
        for node in ast.parse(self.source).body:
            self.visit(node)

    def visit(self, node: ast.AST) -> None:
        if self.passed_over(node):
            return
        for start, stop, text in self.changes(node):
            self.found[Mutant(self.path, start, stop, text)] = None
        for name, value in ast.iter_fields(node):
            if name not in ("annotation", "returns", "decorator_list", "bases"):
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, ast.AST):
                        self.visit(child)

    def passed_over(self, node: ast.AST) -> bool:
        """What is no behaviour: messages, types, documentation."""
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return True
        match node:
            case ast.Call(func=ast.Name(id=name)) | ast.Subscript(value=ast.Name(id=name)) if name in TYPES:
                return True
        return isinstance(node, PASSED_OVER)

    def place(self, node) -> tuple[int, int]:
        return self.lines[node.lineno - 1] + node.col_offset, self.lines[node.end_lineno - 1] + node.end_col_offset

    def text(self, node) -> str:
        start, stop = self.place(node)
        return self.source[start:stop].decode()

    def between(self, left, right, kind) -> Iterator[tuple[int, int, str]]:
        """The operator between two nodes."""
        start, stop = self.place(left)[1], self.place(right)[0]
        old, new = SWAPS.get(type(kind), ("", ""))
        at = self.source.find(old.encode(), start, stop) if old else -1
        if at >= 0:
            yield at, at + len(old), new

    def changes(self, node) -> Iterator[tuple[int, int, str]]:
        match node:
            case ast.BinOp():
                yield from self.between(node.left, node.right, node.op)
            case ast.Compare():
                for left, kind, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
                    yield from self.between(left, right, kind)
            case ast.BoolOp():
                for left, right in zip(node.values, node.values[1:], strict=False):
                    yield from self.between(left, right, node.op)
            case ast.UnaryOp(op=kind) if type(kind) in UNARY:
                start = self.place(node)[0]
                yield start, start + len(UNARY[type(kind)]), ""
            case ast.Constant(value=bool(value)):
                yield *self.place(node), str(not value)
            case ast.Constant(value=int(value)):
                yield *self.place(node), str(value + 1)
                if value > 0:
                    yield *self.place(node), str(value - 1)
            case ast.Constant(value=float(value)):
                yield *self.place(node), str(value * 2 + (value == 0))
            case ast.Slice():
                for bound in (node.lower, node.upper):
                    if bound is not None:
                        yield *self.place(bound), ""
            case ast.Call():
                yield from self.calls(node)
            case ast.IfExp() | ast.If():
                yield *self.place(node.test), f"not ({self.text(node.test)})"
            case ast.comprehension(ifs=[test, *_]):
                yield *self.place(test), "True"
            case ast.Return(value=ast.Tuple(elts=[first, second])):
                yield *self.place(node.value), f"{self.text(second)}, {self.text(first)}"
            case ast.Expr() | ast.Assign(targets=[ast.Subscript() | ast.Attribute()]):
                yield *self.place(node), "pass"
            case ast.AugAssign():
                yield *self.place(node), "pass"
                yield from self.between(node.target, node.value, node.op)

    def calls(self, node: ast.Call) -> Iterator[tuple[int, int, str]]:
        plain = [argument for argument in node.args if not isinstance(argument, ast.Starred)]
        for argument in plain[:3]:
            yield *self.place(node), f"({self.text(argument)})"
        if isinstance(node.func, ast.Attribute) and not isinstance(node.func.value, ast.Name):
            yield *self.place(node), f"({self.text(node.func.value)})"
        if len(plain) > 1 and plain == node.args and self.text(node.func).rpartition(".")[2] not in SYMMETRIC:
            (start, _), (_, stop) = self.place(plain[0]), self.place(plain[1])
            middle = self.source[self.place(plain[0])[1] : self.place(plain[1])[0]].decode()
            yield start, stop, f"{self.text(plain[1])}{middle}{self.text(plain[0])}"
        for keyword in node.keywords:
            if keyword.arg not in (None, "strict"):
                start, stop = self.place(keyword)
                after = self.source[stop:].lstrip()
                yield start, len(self.source) - len(after) + 1 if after.startswith(b",") else stop, ""


def modules() -> list[str]:
    objectives = [path.relative_to(ROOT).as_posix() for path in (ROOT / "lmx" / "objectives").glob("[a-z]*.py")]
    return sorted([*objectives, *OTHERS])


def tests(path: str) -> list[str]:
    """Arguments of pytest."""
    if path in OTHERS:
        return [name for name in OTHERS[path] if (ROOT / name).exists()]
    name = Path(path).stem
    own = [f"tests/{folder}/test_{file}.py" for folder in ("golden", "props") for file in (name, name + "s")]
    more = {"mlm": ["tests/props/test_selection.py"], "mixture": ["tests/golden/test_ul2.py"]}.get(name, [])
    words = WORDS[name]
    if name in ("objective", "text_to_text", "asking"):
        files = ("clm", "prefix_lm", "span", "fim", "segment_pair")
        more = [f"tests/golden/test_{file}.py" for file in files]
        words = " or ".join([words, *(f"test_{file}" for file in files)])
    return [
        *(file for file in own if (ROOT / file).exists()),
        *more,
        *EACH,
        *SHOWN,
        "-k",
        f"{words} or test_{name}",
    ]


def sample(count: int, seed: int, only: str | None) -> dict[str, Mutant]:
    """The first in an order that is the same for a mutant whatever the others are, by their keys."""
    found = {mutant.key: mutant for path in modules() if path == (only or path) for mutant in Mutations(path).found}
    first = sorted(found, key=lambda key: sha256(f"{seed}{key}".encode()).digest())[:count]
    return {key: found[key] for key in first}


def explained() -> set[str]:
    """The diffs of survivors.md, each under the path of its file."""
    found, path, diff = set(), "", None
    for line in KNOWN.read_text(encoding="utf-8").splitlines() if KNOWN.exists() else []:
        if line.startswith("### "):
            path = line.removeprefix("### ")
        elif line == "```diff":
            diff = []
        elif line == "```" and diff is not None:
            found.add("\n".join([path, *diff]))
            diff = None
        elif diff is not None:
            diff.append(line)
    return found


def forked(jobs: Sequence[dict]) -> Iterator[dict]:
    """What became of each, as they end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.mutants.fork"], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("".join(json.dumps(job) + "\n" for job in jobs))
    process.stdin.close()
    yield from map(json.loads, process.stdout)


def remembered(names: Collection[str]) -> dict[str, dict]:
    """Of these mutants those that were killed before."""
    lines = DONE.read_text(encoding="utf-8").splitlines() if DONE.exists() else []
    found = (json.loads(line) for line in lines)
    return {one["name"]: one for one in found if one["fate"] in ("killed", "import") and one["name"] in names}


def main() -> int:
    parser = argparse.ArgumentParser(description="Which small changes of lmx no test notices.")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=modules())
    options = parser.parse_args()
    mutants = sample(options.count, options.seed, options.only)
    done, known = remembered(mutants), explained()
    left = {name: mutant for name, mutant in mutants.items() if name not in done}
    fates, open_, passed = Counter(one["fate"] for one in done.values()), [], set()
    DONE.parent.mkdir(exist_ok=True)
    with DONE.open("a", encoding="utf-8") as file:
        for found in forked([mutant.job(name) for name, mutant in left.items()]):
            mutant, fate = mutants[found["name"]], found["fate"]
            print(json.dumps(found), file=file, flush=True)
            if fate == "survived":
                passed.add(mutant.path)
                fate = "explained" if f"{mutant.path}\n{mutant.diff()}" in known else fate
            if fate in ("survived", "error"):
                open_.append(f"### {mutant.path}\n```diff\n{mutant.diff()}\n```\n{fate} {found.get('said', '')}")
            fates[fate] += 1
            said = f"{fate:10} {mutant.path}  {' '.join(found['by'])}"
            print(f"{fates.total():4} of {len(mutants)}  {found['seconds']:6.2f} s  {said}", flush=True)
    paths = {mutant.path for mutant in left.values()} - passed  # where all were killed: by a test that fails anyway?
    for found in forked([{"name": path, "tests": tests(path)} for path in sorted(paths)]):
        if found["fate"] != "survived":
            sys.exit(f"{found['name']}: its tests fail as it is. Remove {DONE}.\n{found['said']}")
    print("\n\n".join(open_))
    print(", ".join(f"{number} {fate}" for fate, number in fates.most_common()))
    return min(len(open_), 1)


if __name__ == "__main__":
    sys.exit(main())

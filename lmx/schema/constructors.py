"""What the constructors of a config accept, read from their source: nothing is imported, so nothing heavy is loaded or run."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import annotated_types

from lmx.errors import LmxError
from lmx.schema import plugins
from lmx.schema.rules import evaluate
from lmx.schema.values import Part

SOURCE = Path(__file__).parents[2]  # the folder that holds the package lmx
FORMS: dict[str, Any] = {
    "typing.Annotated": Annotated,
    "typing.Any": Any,
    "typing.Literal": Literal,
    "typing.Mapping": dict,
    "typing.Sequence": list,
    "collections.abc.Mapping": dict,
    "collections.abc.Sequence": list,
}
MARKS = ("Ge", "Gt", "Interval", "Le", "Len", "Lt", "MultipleOf")
FORMS |= {f"annotated_types.{name}": getattr(annotated_types, name) for name in MARKS}
GENERIC: tuple[Any, ...] = (Annotated, list, tuple, dict)
BUILTINS: dict[str, Any] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "list": list,
    "tuple": tuple,
    "dict": dict,
}


class NoSuchTarget(Exception):
    """A `_target_` that is not a class defined in lmx or in a plug-in."""


@dataclass(frozen=True)
class Knob:
    form: Any  # a typing form, see lmx.schema.values
    keyword: bool  # keyword-only: set by the config; the others are handed over by the code
    default: bool


@dataclass(frozen=True)
class Target:
    """A class that a config may name."""

    knobs: Mapping[str, Knob]
    rules: Mapping[str, str]  # expression over the values -> message, see lmx.schema.rules
    summary: str  # first line of its docstring


class Module:
    """The names that a source file of `package` defines or imports at its top level."""

    def __init__(self, path: Path, package: str):
        self.classes: dict[str, ast.ClassDef] = {}
        self.imports: dict[str, str] = {}  # local name -> full name
        self.aliases: dict[str, ast.expr] = {}  # Share = Annotated[...]
        for node in parsed(path, path.stat().st_mtime_ns).body:
            match node:
                case ast.ClassDef():
                    self.classes[node.name] = node
                case ast.ImportFrom():
                    home = absolute(node, package)
                    self.imports |= {alias.asname or alias.name: f"{home}.{alias.name}" for alias in node.names}
                case ast.Import():
                    for alias in node.names:
                        whole = alias.name if alias.asname else alias.name.partition(".")[0]
                        self.imports[alias.asname or whole] = whole
                case (
                    ast.Assign(targets=[ast.Name(id=name)], value=value)
                    | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
                ):
                    self.aliases[name] = value
                case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
                    self.aliases |= {ast.unparse(name): value for name, value in zip(names, values, strict=False)}


@cache
def parsed(path: Path, changed: int) -> ast.Module:
    """A file as it is since `changed`. Raises LmxError for what is not Python, as a plug-in may be while it is written."""
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        raise LmxError(f"{path} must be Python, got {error}.") from None


def absolute(node: ast.ImportFrom, package: str) -> str:
    """The module that `from ..module import x` in a module of `package` means."""
    above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
    return ".".join([*above, *([node.module] if node.module else [])])


def read(path: Path, name: str) -> Module | None:
    """The module `name`, at `path` without its suffix, or the package of that name."""
    if path.with_suffix(".py").is_file():
        return Module(path.with_suffix(".py"), name.rpartition(".")[0])
    return Module(path / "__init__.py", name) if (path / "__init__.py").is_file() else None


class Constructors:
    """Targets by full name. `source` is the folder that holds the package lmx; beside it there are the plug-ins."""

    def __init__(self, source: Path = SOURCE):
        self.homes = {"lmx": source / "lmx"} | plugins.folders()
        self.modules: dict[str, Module | None] = {}
        self.targets: dict[str, Target] = {}

    def target(self, name: str) -> Target:
        """Raises NoSuchTarget unless `name` is a class defined in lmx or a plug-in."""
        if name not in self.targets:
            self.targets[name] = self.describe(name)
        return self.targets[name]

    def describe(self, name: str) -> Target:
        module, _, short = name.rpartition(".")
        found = self.module(module)
        if found is None or short not in found.classes:
            raise NoSuchTarget(name)
        lineage = list(self.lineage(name))
        knobs = nearest_of(self.knobs(module, node) for module, node in lineage)
        rules = nearest_of(rules_of(node) for _, node in lineage)
        docstring = ast.get_docstring(found.classes[short]) or ""
        return Target(knobs=knobs, rules=rules, summary=docstring.partition("\n")[0])

    def descends(self, name: str, ancestor: str) -> bool:
        """Whether the class `name` is `ancestor` or derives from it, within lmx and plug-ins."""
        return any(f"{module}.{node.name}" == ancestor for module, node in self.lineage(name))

    def module(self, name: str) -> Module | None:
        """None for what is not a module of lmx or a plug-in."""
        if name not in self.modules:
            first, *rest = name.split(".")
            known = first in self.homes and all(part.isidentifier() for part in rest)
            self.modules[name] = read(self.homes[first].joinpath(*rest), name) if known else None
        return self.modules[name]

    def lineage(self, name: str) -> Iterator[tuple[str, ast.ClassDef]]:
        """(module, class) of a class and its ancestors within lmx and plug-ins, nearest first."""
        module, _, short = self.origin(name).rpartition(".")
        found = self.module(module)
        if found is None or short not in found.classes:
            return
        yield module, found.classes[short]
        for base in found.classes[short].bases:
            yield from self.lineage(self.full(module, ast.unparse(base)))

    def full(self, module: str, name: str) -> str:
        """The full name of what a module calls `name`."""
        first, dot, rest = name.partition(".")
        found = self.module(module)
        return (found.imports.get(first, f"{module}.{first}") if found else first) + dot + rest

    def origin(self, name: str) -> str:
        """Where a name is defined: follows `from ... import`."""
        module, _, short = name.rpartition(".")
        found = self.module(module)
        return self.origin(found.imports[short]) if found and short in found.imports else name

    def knobs(self, module: str, node: ast.ClassDef) -> dict[str, Knob] | None:
        """The parameters of a class's own constructor, or None when it inherits one."""
        for item in node.body:
            if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                return self.parameters(module, item.args)
        return self.fields(module, node) if is_dataclass(node) else None

    def parameters(self, module: str, args: ast.arguments) -> dict[str, Knob]:
        handed = (args.posonlyargs + args.args)[1:]  # without self
        first = len(handed) - len(args.defaults)
        knobs = {arg.arg: self.knob(module, arg.annotation, False, i >= first) for i, arg in enumerate(handed)}
        for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
            knobs[arg.arg] = self.knob(module, arg.annotation, True, default is not None)
        return knobs

    def fields(self, module: str, node: ast.ClassDef) -> dict[str, Knob]:
        """Of a dataclass, its ancestors' first; without those that `field(init=False)` keeps out of the constructor."""
        knobs = {}
        for base in node.bases:
            for home, parent in self.lineage(self.full(module, ast.unparse(base))):
                knobs |= self.fields(home, parent) if is_dataclass(parent) else {}
        for item in node.body:
            if (
                isinstance(item, ast.AnnAssign)
                and isinstance(item.target, ast.Name)
                and "init=False" not in ast.unparse(item)
            ):
                knobs[item.target.id] = self.knob(module, item.annotation, True, item.value is not None)
        return knobs

    def knob(self, module: str, annotation: ast.expr | None, keyword: bool, default: bool) -> Knob:
        return Knob(form=self.form(module, annotation), keyword=keyword, default=default)

    def form(self, module: str, node: ast.expr | None) -> Any:
        """An annotation as a typing form; a class of anywhere as a Part."""
        match node:
            case None:
                return Any
            case ast.Constant(value=str(text)):
                return self.form(module, ast.parse(text, mode="eval").body)
            case ast.Constant(value=value):
                return value
            case ast.BinOp(op=ast.BitOr()):
                return Union[self.form(module, node.left), self.form(module, node.right)]  # noqa: UP007
            case ast.Subscript():
                inner = self.form(module, node.value)
                parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
                if inner is Literal:
                    return Literal[tuple(ast.literal_eval(part) for part in parts)]
                if inner not in GENERIC:  # a class: what it is made of does not matter here
                    return inner
                return inner[tuple(self.form(module, part) for part in parts)]
            case ast.Call():
                values = [self.constant(module, value) for value in node.args]
                named = {str(word.arg): self.constant(module, word.value) for word in node.keywords}
                return self.form(module, node.func)(*values, **named)
        return self.named(module, ast.unparse(node))

    def constant(self, module: str, node: ast.expr) -> Any:
        """The end of a range: a number, 2**20, or the name of a constant."""
        names = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
        found = {name: self.alias(self.origin(self.full(module, name))) for name in names}
        return evaluate(node, {name: self.constant(*alias) for name, alias in found.items() if alias})

    def alias(self, full: str) -> tuple[str, ast.expr] | None:
        """(module, expression) of a name that is assigned at the top level of a module."""
        home, _, short = full.rpartition(".")
        found = self.module(home)
        return (home, found.aliases[short]) if found and short in found.aliases else None

    def named(self, module: str, name: str) -> Any:
        if name in BUILTINS:
            return BUILTINS[name]
        full = self.origin(self.full(module, name))
        if full in FORMS:
            return FORMS[full]
        alias = self.alias(full)
        return self.form(*alias) if alias else Annotated[dict, Part(full)]


def nearest_of(found: Iterable[dict[str, Any] | None]) -> dict[str, Any]:
    """What the nearest class of a lineage that has it says."""
    return next((item for item in found if item is not None), {})


def rules_of(node: ast.ClassDef) -> dict[str, str] | None:
    """The class attribute RULES, a literal."""
    for item in node.body:
        if isinstance(item, ast.Assign) and ast.unparse(item.targets[0]) == "RULES":
            return ast.literal_eval(item.value)
    return None


def is_dataclass(node: ast.ClassDef) -> bool:
    return any(ast.unparse(decorator).partition("(")[0].endswith("dataclass") for decorator in node.decorator_list)

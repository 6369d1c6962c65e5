"""Rules over several values, such as `width % heads == 0`: arithmetic and comparisons, and nothing else."""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from lmx.errors import LmxError
from lmx.schema.values import show

OPERATIONS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
}


def check(rules: Mapping[str, str], values: Mapping[str, Any]) -> None:
    """Raises LmxError for the first rule that does not hold. A rule about a name that is not known yet is left for later."""
    for rule, message in rules.items():
        tree = ast.parse(rule, mode="eval").body
        names = list(dict.fromkeys(node.id for node in ast.walk(tree) if isinstance(node, ast.Name)))
        if all(name in values for name in names) and not evaluate(tree, values):
            got = ", ".join(f"{name}={show(values[name])}" for name in names)
            raise LmxError(f"{message}, got {got}.")


def evaluate(tree: ast.expr, values: Mapping[str, Any]) -> Any:
    """The value of an expression. Raises ValueError for what a rule may not contain."""
    match tree:
        case ast.Constant():
            return tree.value
        case ast.Name():
            return values[tree.id]
        case ast.Tuple():
            return tuple(evaluate(item, values) for item in tree.elts)
        case ast.UnaryOp(op=ast.Not()):
            return not evaluate(tree.operand, values)
        case ast.UnaryOp(op=ast.USub()):
            return -evaluate(tree.operand, values)
        case ast.BoolOp(op=ast.And()):
            return all(evaluate(item, values) for item in tree.values)
        case ast.BoolOp(op=ast.Or()):
            return any(evaluate(item, values) for item in tree.values)
        case ast.BinOp() if type(tree.op) in OPERATIONS:
            return OPERATIONS[type(tree.op)](evaluate(tree.left, values), evaluate(tree.right, values))
        case ast.Compare() if all(type(op) in OPERATIONS for op in tree.ops):
            sides = [evaluate(side, values) for side in (tree.left, *tree.comparators)]
            pairs = zip(tree.ops, sides, sides[1:], strict=False)
            return all(OPERATIONS[type(op)](left, right) for op, left, right in pairs)
    raise ValueError(f"a rule may not contain {ast.unparse(tree)}")

"""What a value must be: types and ranges as `Annotated[float, Interval(ge=0, le=1)]`, checked and put into words."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from re import Pattern, fullmatch
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Interval, Le, Len, Lt, MultipleOf

from lmx.errors import nearest

SHOWN = 60  # characters of a wrong value that a message repeats
WORDS = {int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class Part:
    """Marks `Annotated[dict, Part(...)]`: an object that its own node of the config describes."""

    name: str  # of its class, in full


@dataclass(frozen=True)
class Matches:
    """Marks text that must match a regular expression, which `rule` puts into words."""

    pattern: Pattern[str] | str
    rule: str


class Mismatch(Exception):
    """`<where> must <rule>, got <value>`; `close`: the type is right and the range is not."""

    def __init__(self, rule: str, value: Any, where: str = "", close: bool = False, hint: str = ""):
        super().__init__(rule)
        self.rule, self.value, self.where, self.close, self.hint = rule, value, where, close, hint


def conform(value: Any, form: Any) -> Any:
    """The value as `form` wants it: 1 becomes 1.0 for a float, 1e6 becomes 1000000 for an int. Raises Mismatch."""
    base, marks = (get_args(form)[0], get_args(form)[1:]) if get_origin(form) is Annotated else (form, ())
    origin = get_origin(base) or base
    if origin in (Union, UnionType):
        result = either(value, get_args(base))
    elif origin is Literal:
        result = literal(value, base)
    elif origin in (list, tuple, Sequence):
        result = elements(value, form, get_args(base))
    elif origin in (dict, Mapping):
        result = entries(value, form, get_args(base))
    else:
        result = scalar(value, form, base)
    for mark in marks:
        restrict(result, mark)
    return result


def either(value: Any, forms: Sequence[Any]) -> Any:
    """The first form that fits. The error of a form whose type was right says more than the list of all."""
    misses = []
    for form in forms:
        try:
            return conform(value, form)
        except Mismatch as miss:
            misses.append(miss)
    close = [miss for miss in misses if miss.close]
    raise close[0] if close else Mismatch(f"be {words(Union[tuple(forms)])}", value, hint=guess(value, forms))  # noqa: UP007


def literal(value: Any, form: Any) -> Any:
    for option in get_args(form):
        if option == value and type(option) is type(value):
            return value
    raise Mismatch(f"be {words(form)}", value, hint=guess(value, [form]))


def guess(value: Any, forms: Iterable[Any]) -> str:
    options = [option for form in forms if get_origin(form) is Literal for option in get_args(form)]
    return nearest(str(value), map(str, options))


def elements(value: Any, form: Any, inner: Sequence[Any]) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise Mismatch(f"be {words(form)}", value)
    return [within(f"[{number}]", item, inner[0] if inner else Any) for number, item in enumerate(value)]


def entries(value: Any, form: Any, inner: Sequence[Any]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Mismatch(f"be {words(form)}", value)
    return {str(key): within(f".{key}", item, inner[1] if inner else Any) for key, item in value.items()}


def within(where: str, value: Any, form: Any) -> Any:
    try:
        return conform(value, form)
    except Mismatch as miss:
        raise Mismatch(miss.rule, miss.value, where + miss.where, close=True, hint=miss.hint) from None


def scalar(value: Any, form: Any, base: Any) -> Any:
    """A bool is not a number here, and infinity is neither."""
    if base is Any or (base in (None, type(None)) and value is None):
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    if base is float and number:
        return float(value)
    if base is int and number and value == int(value):
        return int(value)
    if base in (bool, str) and isinstance(value, base):
        return value
    raise Mismatch(f"be {words(form)}", value)


def restrict(value: Any, mark: Any) -> None:
    """Raises Mismatch where a value of the right type breaks a mark."""
    if isinstance(mark, Ge | Gt | Le | Lt | Interval):
        if not inside(value, mark):
            raise Mismatch(limits(mark)[1], value, close=True)
    elif isinstance(mark, MultipleOf) and value % mark.multiple_of:
        raise Mismatch(f"be a multiple of {mark.multiple_of}", value, close=True)
    elif isinstance(mark, Len) and not mark.min_length <= len(value) <= (mark.max_length or math.inf):
        raise Mismatch(f"have {length(mark)}", value, close=True)
    elif isinstance(mark, Matches) and not fullmatch(mark.pattern, value):
        raise Mismatch(mark.rule, value, close=True)


def inside(value: Any, mark: Any) -> bool:
    ge, gt, le, lt = (getattr(mark, name, None) for name in ("ge", "gt", "le", "lt"))
    low = (ge is None or value >= ge) and (gt is None or value > gt)
    return low and (le is None or value <= le) and (lt is None or value < lt)


def limits(mark: Any) -> tuple[str, str]:
    """A range as an attribute of a noun (`at least 1`) and as what a value must do (`be at least 1`)."""
    ge, gt, le, lt = (getattr(mark, name, None) for name in ("ge", "gt", "le", "lt"))
    low, high = ge if ge is not None else gt, le if le is not None else lt
    if low is not None and high is not None:
        interval = f"{'(' if ge is None else '['}{low}, {high}{')' if le is None else ']'}"
        return f"in {interval}", f"lie in {interval}"
    phrase = f"at least {ge}" if ge is not None else f"above {gt}" if gt is not None else ""
    phrase = phrase or (f"at most {le}" if le is not None else f"below {lt}")
    return phrase, f"be {phrase}"


def length(mark: Len) -> str:
    low, high = mark.min_length, mark.max_length
    count = str(low) if low == high else f"at least {low}" if high is None else f"{low} to {high}"
    return f"{count} element{'s' if max(low, high or 0) != 1 else ''}"


def words(form: Any) -> str:
    """`a whole number of at least 1 or null`, `true, false or auto`."""
    *others, last = options(form)
    return f"{', '.join(others)} or {last}" if others else last


def options(form: Any) -> list[str]:
    base, marks = (get_args(form)[0], get_args(form)[1:]) if get_origin(form) is Annotated else (form, ())
    origin, inner = get_origin(base) or base, get_args(base)
    if origin in (Union, UnionType):
        return [option for one in inner for option in options(one)]
    if origin is Literal:
        return [str(option) for option in inner]
    if base is bool:
        return ["true", "false"]
    if base in (None, type(None)):
        return ["null"]
    ranges = [limits(mark)[0] for mark in marks if isinstance(mark, Ge | Gt | Le | Lt | Interval)]
    extra = [f"of {length(mark)}" for mark in marks if isinstance(mark, Len)]
    if origin in (list, tuple, Sequence):
        each = [f"each {words(inner[0])}"] if inner else []
        return [", ".join([" ".join(["a list in [ ]", *extra]), *each])]
    if origin in (dict, Mapping):
        return ["a group of keys" if any(isinstance(mark, Part) for mark in marks) else "a mapping, as in {a: 1}"]
    return [" ".join([WORDS.get(base, "any value"), *ranges])]


def show(value: Any) -> str:
    """A value as a message repeats it."""
    text = {None: "null", True: "true", False: "false"}.get(value) if value is None or isinstance(value, bool) else None
    try:
        text = text or (repr(value) if not isinstance(value, str) else f"'{value}'")
    except ValueError:  # an integer beyond sys.get_int_max_str_digits()
        text = "a number of thousands of digits"
    return clean(text)


def clean(text: str) -> str:
    """Text of anybody, safe in a message: short, on one line, without control characters."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text[: SHOWN + 1])
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"

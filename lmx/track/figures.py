"""Figures of a run in words: short enough for one line of a terminal."""

from itertools import pairwise
from typing import Any

TICKS = "▁▂▃▄▅▆▇█"


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def short(number: float) -> str:
    """34200 -> 34.2 k"""
    for limit, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= limit:
            return f"{number / limit:.3g} {unit}"
    return f"{number:.3g}"


def number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3f}"


def quality(line: dict[str, Any]) -> str:
    """Beside a validation loss: bits per byte where they exist, what counting words would reach, and the other terms."""
    return " · ".join([native(line), *(further(line, key) for key in terms(line))])


def native(line: dict[str, Any]) -> str:
    if line.get("bits_per_byte") is None:
        return f"nats (unigram {line['unigram_nats']:.3f})"
    baselines = f"unigram {line['unigram_bits_per_byte']:.3f}, bigram {line['bigram_bits_per_byte']:.3f}"
    return f"nats · {line['bits_per_byte']:.3f} bits/byte ({baselines})"


def terms(line: dict[str, Any]) -> list[str]:
    """Keys of what an objective says of itself, besides the loss that is named like it."""
    return [key for key in line if key.startswith(("loss/", "share/")) and key not in ("loss/loss", "loss/z")]


def further(line: dict[str, Any], key: str) -> str:
    name = key.partition("/")[2]
    constant = line.get(f"constant/{name}")
    value = line[key]
    shown = "–" if value is None else f"{value:.3f}"
    return f"{name} {shown}" + (f" (constant {constant:.3f})" if constant is not None else "")


def own(line: dict[str, Any]) -> float | None:
    """The mean nats of what the vocabulary head is asked, which the unigram's figure belongs to."""
    return line.get("loss/loss", line["loss"])


def speed(line: dict[str, Any]) -> list[str]:
    """Tokens a second first."""
    share = [f"{line['peak_share']:.0%} of peak"] if line.get("peak_share") else []
    return [f"{short(line['tokens_per_second'] or 0)} tokens/s", *share, f"lr {line['lr']:.2g}"]


def spent(line: dict[str, Any]) -> list[str]:
    """Tokens first."""
    skipped = [f"{line['skipped']} steps skipped"] if line["skipped"] else []
    return [
        f"{short(line['tokens'])} tokens",
        f"{line['epoch']:.2f} epochs",
        f"{short(line['flops'])}FLOPs",
        *skipped,
    ]


def curve(values: list[float], width: int = 24) -> str:
    """The course of a loss in one line of block characters, each the mean of its share of the values."""
    if len(values) < 2:
        return ""
    columns = min(width, len(values))
    edges = [len(values) * column // columns for column in range(columns + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    return "".join(TICKS[round(7 * (value - low) / max(high - low, 1e-9))] for value in means)


def flat(text: str) -> str:
    """On one line, control characters visible."""
    shown = (char if char.isprintable() else " " if char.isspace() else repr(char)[1:-1] for char in text)
    return " ".join("".join(shown).split())

"""Two ways to hold an encoder-decoder against a stack of L blocks (Raffel et al. 2020, arXiv:1910.10683, section 3.2.2).

With L blocks on each side it has twice the parameters and about the FLOPs a token; with L/2 on each side about the parameters
and half of the FLOPs a token. Either alone flatters somebody, so a comparison has both, unless one of them was typed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lmx.compare.arms import arm

TOLD = {
    "full": "encoder and decoder of L blocks each: twice the parameters of a stack of L (2P) at about its FLOPs a token",
    "half": "encoder and decoder of L/2 blocks each: about the parameters of a stack of L (P) at half of its FLOPs a token",
    "shared": "one stack of L blocks encodes and decodes: about its parameters (P) at about its FLOPs a token",
}
KEY = "objective.decoder"


def convention(config: Mapping[str, Any]) -> str | None:
    """In words; None for what has no decoder of its own."""
    objective = config["objective"]
    return TOLD[objective["decoder"]] if objective.get("layout") == "encoder_decoder" else None


def with_both(words: Sequence[str], shared: Sequence[str]) -> list[str]:
    """Arms as typed, each encoder-decoder of L + L blocks followed by one of L/2 + L/2; a stack of odd depth has no half."""
    found = []
    for word in words:
        found.append(word)
        typed = any(setting.startswith(f"{KEY}=") for setting in [*shared, *word.split()])
        (config,) = arm(word, shared, [0]).configs
        if not typed and convention(config) == TOLD["full"] and config["model"]["depth"] % 2 == 0:
            found.append(f"{word} {KEY}=half")
    return found

"""What `lmx show` draws of every objective, as committed in tests/golden/shown/: change them with LMX_WRITE_SHOWN=1 and look."""

import os
from pathlib import Path

import pytest

from lmx.config import choices, plain
from lmx.example import example
from lmx.report.page import document
from lmx.report.terminal import draw

SHOWN = Path(__file__).parent / "shown"
TEXT = "The quick brown fox jumped over the lazy dog. It slept. Nobody saw it, and the rain went on."
TEXTS = {"fix_the_bug": "def area(width, height):\n    if width < 0:\n        return 0\n    return width * height\n"}


def shown(name: str, texts: list[str], noise=(), *overrides: str) -> list[dict]:
    config = plain([f"objective={name}", "model=nano", *overrides])
    return [example(config, texts, noise, words=True, fit=True)]


def drawn(examples: list[dict], width: int = 100) -> str:
    return "".join(f"{line.plain.rstrip()}\n" for line in draw(examples, width))


@pytest.mark.parametrize("name", sorted(choices("objective")))
def test_every_objective(name):
    told = drawn(shown(name, [TEXTS.get(name, TEXT)]))
    path = SHOWN / f"{name}.txt"
    if os.environ.get("LMX_WRITE_SHOWN"):
        path.write_text(told, encoding="utf-8")
    assert told == path.read_text(encoding="utf-8")


def test_t5s_own_example():
    """The figure of Raffel et al. 2020, in sentinels that count up; its last sentinel is asked for by its own knob."""
    text = "Thank you for inviting me to your party last week"
    (told,) = shown("span", [text], [2, 3, 8], "objective.final_sentinel=true")
    (row,) = told["rows"]
    source = [token["piece"] for token in row["source"]["tokens"]]
    target = [token["target"] for token in row["tokens"]]
    assert source == ["Thank", "you", "[SENTINEL_0]", "me", "to", "your", "party", "[SENTINEL_1]", "week", "[EOS]"]
    assert target == ["[SENTINEL_0]", "for", "inviting", "[SENTINEL_1]", "last", "[SENTINEL_2]", "[EOS]"]
    assert [token["piece"] for token in row["tokens"]] == ["[PAD]", *target[:-1]]


def test_packed_documents_do_not_see_each_other():
    (told,) = shown("clm", ["Two documents.", "In one row."], (), "packing=docmask")
    assert "within each document" in drawn([told])
    assert "│" in drawn([told])
    (row,) = told["rows"]
    documents = [token["document"] for token in row["tokens"]]
    for query, sees in enumerate(row["visible"]):
        assert sees == [int(key <= query and documents[key] == documents[query]) for key in range(len(documents))]


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_nothing_is_wider_than_the_terminal(width):
    examples = [*shown("ul2", [TEXT]), *shown("clm", [TEXT]), *shown("glm", [TEXT])]
    assert max(map(len, drawn(examples, width).splitlines())) <= width


def test_a_page_is_whole_and_escaped():
    page = document(shown("mlm", ["</span><script>alert(1)</script> & so on"]))
    assert "<script" not in page
    assert "&lt;script&gt;" in page or "&lt;" in page
    assert not [
        word
        for word in ("http://", "https://", "src=", "@import", "url(")
        if word in page.replace("http://www.w3.org", "")
    ]

"""What `lmx show` draws of every objective, as committed in tests/golden/shown/: change them with LMX_WRITE_SHOWN=1 and look."""

import os
from pathlib import Path

import pytest

from lmx.config import choices, plain
from lmx.example import example
from lmx.report.page import document
from lmx.report.sheet import sheet
from lmx.report.terminal import draw

SHOWN = Path(__file__).parent / "shown"
TEXT = "The quick brown fox jumped over the lazy dog. It slept. Nobody saw it, and the rain went on."
TEXTS = {"fix_the_bug": "def area(width, height):\n    if width < 0:\n        return 0\n    return width * height\n"}
OVERRIDES = {"fim": ["objective.rate=1"]}  # the others show what they do at their defaults


def shown(name: str, texts: list[str], noise=(), *overrides: str) -> list[dict]:
    config = plain([f"objective={name}", "model=nano", *overrides])
    return [example(config, texts, noise, words=True, fit=True)]


def drawn(examples: list[dict], width: int = 100) -> str:
    return "".join(f"{line.plain.rstrip()}\n" for line in draw(examples, width))


@pytest.mark.parametrize("name", sorted(choices("objective")))
def test_every_objective(name):
    told = drawn(shown(name, [TEXTS.get(name, TEXT)], (), *OVERRIDES.get(name, [])))
    path = SHOWN / f"{name}.txt"
    if os.environ.get("LMX_WRITE_SHOWN"):
        path.write_text(told, encoding="utf-8")
    assert told == path.read_text(encoding="utf-8")


def test_spans_as_text_books_draw_them():
    """The <X> jumped over the <Y> dog: no sentinel after the last span; T5's target has one where a text ends unhidden."""
    text = "The quick brown fox jumped over the lazy dog"
    (told,) = shown("span", [text], [1, 2, 3, 7])
    (row,) = told["rows"]
    source = [token["piece"] for token in row["source"]["tokens"]]
    target = [token["target"] for token in row["tokens"]]
    assert source == ["The", "[SENTINEL_0]", "jumped", "over", "the", "[SENTINEL_1]", "dog", "[EOS]"]
    assert target == ["[SENTINEL_0]", "quick", "brown", "fox", "[SENTINEL_1]", "lazy", "[EOS]"]
    assert "objective.final_sentinel=true" in drawn([told], 200)
    (told,) = shown("span", [text], [1, 2, 3, 7], "objective.final_sentinel=true")
    assert [token["target"] for token in told["rows"][0]["tokens"]] == [*target[:-1], "[SENTINEL_2]", "[EOS]"]


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


def test_the_readme_shows_what_is_shown():
    told = shown("span", ["The quick brown fox jumped over the lazy dog"], [1, 2, 3, 7], "objective.layout=prefix")
    assert drawn(told, 128) in (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_packed_documents_do_not_see_each_other():
    (told,) = shown("clm", ["Two documents.", "In one row."], (), "packing=docmask")
    assert "within each document" in drawn([told])
    assert "│" in drawn([told])
    (row,) = told["rows"]
    documents = [token["document"] for token in row["tokens"]]
    for query, sees in enumerate(row["visible"]):
        assert sees == [int(key <= query and documents[key] == documents[query]) for key in range(len(documents))]


@pytest.mark.parametrize("name", ["span", "ul2", "xlnet", "electra"])
def test_packed_documents_are_all_there(name):
    """A row is as long as all need, and the names of what they see stay true of each."""
    (told,) = shown(name, ["The quick brown fox.", "Two."], (), "packing=docmask")
    assert told["documents_left_out"] == told["left_out"] == 0
    notes = [grid.note for grid in sheet(told).grids]
    assert all(note.endswith("within each document") for note in notes), notes


def test_what_does_not_fit_is_said():
    (told,) = shown("simcse", ["The quick brown fox.", "Two."], (), "packing=docmask")
    assert "1 of the documents is not in this row." in drawn([told])
    config = plain(["objective=mlm", "model=nano", "length=8"])
    told = example(config, [TEXT], (), words=True, fit=False)
    assert "18 tokens of the text are left out: length=8 holds no more." in drawn([told])


@pytest.mark.parametrize("width", [60, 80, 99, 200])
def test_nothing_is_wider_than_the_terminal(width):
    """Trailing spaces count: a terminal breaks the line for them, too."""
    examples = [told for name in ("ul2", "clm", "glm", "electra", "span") for told in shown(name, [TEXT])]
    assert max(line.cell_len for line in draw(examples, width)) <= width
    assert max(line.cell_len for one in examples for line in draw([one], width)) <= width


def test_a_page_is_whole_and_escaped():
    (told,) = shown("mlm", ["a text of words"])
    hostile = "<script>alert(1)</script>"
    (row,) = told["rows"]
    for token in row["tokens"]:
        token |= {"piece": hostile, "target": token["target"] and hostile}
    told |= {"objective": hostile, "class": hostile, "tokenizer": hostile, "pieces": [hostile], "counts": {hostile: 1}}
    row["facts"] = [hostile]
    page = document([told])
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > len(row["tokens"])
    assert not [word for word in ("://", "src=", "@import", "url(") if word in page]

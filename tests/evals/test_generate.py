"""What a model of each objective answers to a prompt: a text goes on, gaps are filled where they are, mistakes are named."""

import pytest

from lmx.errors import LmxError
from lmx.generate import Author

HOW = {"tokens": 3, "temperature": 0.8, "top_k": 40, "top_p": 1.0, "seed": 0, "speculative": False}


@pytest.fixture
def told(new_subject):
    """told("mlm", "a [MASK]", tokens=2): the answer of a model with random weights."""

    def ask(objective: str, prompt: str, *settings: str, **how):
        return Author(new_subject(objective, *settings, length=64), HOW | how).answer(prompt, 0)

    return ask


def kinds(answer):
    return [piece["kind"] for piece in answer["pieces"]]


def given(answer):
    return [piece["text"] for piece in answer["pieces"] if piece["kind"] == "prompt"]


@pytest.mark.parametrize("objective", ["clm", "prefix_lm", "mtp", "deepseek_mtp", "xlnet", "fim", "mixture"])
def test_a_text_goes_on(told, objective):
    answer = told(objective, "the state of")
    assert answer["kind"] == "text"
    assert given(answer) == ["the state of"]
    assert kinds(answer) in (["prompt", "written"], ["prompt"])  # an end at once is an answer, too
    assert answer["tokens"] <= 3


@pytest.mark.parametrize("objective", ["span", "ul2", "glm"])
@pytest.mark.parametrize("prompt", ["the [MASK] of [MASK] is", "[MASK] of [MASK]"])
def test_gaps_are_filled_where_they_are(told, objective, prompt):
    answer = told(objective, prompt)
    assert answer["kind"] == "text"
    parts = prompt.split("[MASK]")
    assert "".join(given(answer)) == "".join([*(part.rstrip(" ") for part in parts[:-1]), parts[-1]])
    assert answer["tokens"] <= 2 * 3
    if "written" in kinds(answer):
        assert kinds(answer).index("written") <= prompt.startswith("the")


def test_a_middle_stands_between_its_sides(told):
    answer = told("fim", "the state [MASK] is strong")
    assert kinds(answer)[0] == kinds(answer)[-1] == "prompt"
    assert given(answer) == ["the state", " is strong"]


def test_each_mask_is_one_token_with_what_else_could_stand_there(told):
    answer = told("mlm", "the [MASK] of [MASK]", temperature=0)
    assert answer["kind"] == "fill"
    assert kinds(answer) == ["prompt", "written", "prompt", "written"]
    assert answer["tokens"] == len(answer["candidates"]) == 2
    for written, others in zip(answer["pieces"][1::2], answer["candidates"], strict=True):
        shares = [other["share"] for other in others]
        assert shares == sorted(shares, reverse=True)
        best = others[0]["piece"].replace("·", " ").replace("↵", "\n")
        assert written["text"] == ("�" if best.startswith("<") else best)  # half a character is no text


def test_a_whole_text_is_written_again(told):
    for objective, prompt in (("bart", "the [MASK] of"), ("fix_the_bug", "a = b")):
        answer = told(objective, prompt)
        assert given(answer) == []


def test_an_answer_is_another_turn(told):
    answer = told("sft", "what is it?")
    assert answer["kind"] == "answer"
    assert given(answer) == ["what is it?"]


def test_every_token_is_marked(told):
    answer = told("electra", "the state of")
    assert answer["kind"] == "marks"
    assert "".join(given(answer)) == "the state of"
    assert all(0 <= piece["replaced"] <= 1 for piece in answer["pieces"])


def test_drafts_write_the_same(told):
    plain = told("mtp", "the state of", tokens=12, temperature=0)
    drafted = told("mtp", "the state of", tokens=12, temperature=0, speculative=True)
    assert plain["pieces"] == drafted["pieces"]
    assert drafted["forwards"] <= plain["forwards"]


@pytest.mark.parametrize(("objective", "prompt"), [("clm", "the state"), ("span", "the [MASK] state"), ("sft", "who")])
def test_the_space_before_what_is_written_is_written(told, objective, prompt):
    """Its token stands before a word of its own in no text."""
    spaced = prompt.replace(" [", "  [") if "[" in prompt else prompt + " "
    assert told(objective, spaced)["pieces"] == told(objective, prompt)["pieces"]


@pytest.mark.parametrize(
    ("objective", "prompt", "how", "said"),
    [
        ("clm", "  ", {}, "--prompt must have a word, got an empty text."),
        ("clm", "a" * 61, {}, "--prompt must have at most 60 tokens with this model's length, got 61."),
        ("clm", "a [MASK] b", {}, "--prompt must have no gap for CLM, which continues a text, got 1."),
        (
            "clm",
            "a",
            {"speculative": True},
            "--speculative must go with an objective that drafts, such as mtp, got CLM.",
        ),
        ("mtp", "a", {"speculative": True}, "--speculative must go with --temperature 0, got 0.8."),
        ("mtp", "a [MASK]", {"speculative": True, "temperature": 0}, "--prompt must have no gap for MTP"),
        ("mlm", "a b", {}, "--prompt must have a gap for MLM, which fills gaps, got none. Type e.g."),
        ("fim", "a [MASK] b [MASK] c", {}, "--prompt must have at most one gap for FIM, got 2."),
        ("electra", "a [MASK]", {}, "--prompt must have no gap for a detector, which marks what is there, got 1."),
        ("sft", "a [MASK]", {}, "--prompt must have no gap for SFT, which continues a text, got 1."),
        ("fix_the_bug", "a [MASK]", {}, "--prompt must have no gap for FixTheBug, which reads code, got 1."),
        ("simcse", "a", {}, "RUN must be of an objective that writes text, got Contrastive"),
    ],
)
def test_mistakes(told, objective, prompt, how, said):
    with pytest.raises(LmxError) as error:
        told(objective, prompt, **how)
    assert str(error.value).startswith(said)

"""Questions have one right answer, belong to one split, and are the same for a seed."""

from collections import Counter

import numpy as np
import pytest

from lmx.data.conversations import read
from lmx.data.instructions import SYSTEM, TEMPLATES, WORDS, Instructions, check, template_of
from tests.data.conftest import read as prepared


def make(**settings) -> Instructions:
    return Instructions(
        **{"number": 2000, "turns": 3, "seed": 0, "validation": 0.05, "test": 0.05, "max_tokens": None} | settings
    )


ANSWERS = {
    "add": ("What is 17 plus 5?", "22"),
    "subtract": ("What is 3 minus 20?", "-17"),
    "multiply": ("What is 12 times 11?", "132"),
    "larger": ("Which is larger, 99 or 102?", "102"),
    "continue": ("Which number comes next: 3, 7, 11, 15?", "19"),
    "copy": ("Repeat these words: fox, apple.", "fox, apple"),
    "reverse": ("Write stone backwards, then the number 7.", "enots 7"),
    "uppercase": ("Write red fox in capital letters.", "RED FOX"),
    "count": ("How many times does the letter t occur in letter?", "2"),
    "sort": ("Sort these words by the alphabet: fox, apple, dog.", "apple, dog, fox"),
    "first": ("Which word is the first of fox, apple, dog?", "fox"),
    "last": ("Which word is the last of fox, apple, dog?", "dog"),
    "member": ("Is fox one of apple, foxglove, dog?", "no"),
}


def test_each_template_has_an_answer_worked_out_by_hand():
    assert set(ANSWERS) == set(TEMPLATES)


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_answer(name):
    prompt, answer = ANSWERS[name]
    assert check(name, prompt) == answer
    assert template_of(prompt) == name


def test_a_question_of_another_template():
    with pytest.raises(ValueError, match="no question of add: 'What is 3 minus 20\\?'"):
        check("add", "What is 3 minus 20?")
    with pytest.raises(ValueError, match="no question of any template"):
        template_of("Who are you?")


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_what_is_drawn_is_what_is_answered(name):
    """The answer comes from the question's text alone, so a field that the pattern misreads would change it."""
    template, rng = TEMPLATES[name], np.random.default_rng(0)
    for _ in range(200):
        fields = template.draw(rng)
        prompt = template.question.format(**fields)
        assert check(name, prompt) == template.solve(**fields)
        assert template_of(prompt) == name


def questions(source) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for split, text in source.read():
        found.setdefault(split, []).extend(said for role, said in read(text) if role == "user")
    return found


def test_every_answer_is_right_and_no_question_is_in_two_splits():
    source = make()
    kinds: Counter[str] = Counter()
    for _, text in source.read():
        turns = read(text)
        talk = turns[1:] if turns[0] == ("system", SYSTEM) else turns
        assert [role for role, _ in talk] == ["user", "assistant"] * (len(talk) // 2)
        assert 1 <= len(talk) // 2 <= 3
        for (_, prompt), (_, answer) in zip(talk[::2], talk[1::2], strict=True):
            assert check(template_of(prompt), prompt) == answer
            kinds[template_of(prompt)] += 1
    assert set(kinds) == set(TEMPLATES)
    assert max(kinds.values()) < 2 * min(kinds.values())
    asked = questions(source)
    assert min(len(asked["validation"]), len(asked["test"])) > 100
    assert not set(asked["train"]) & (set(asked["validation"]) | set(asked["test"]))
    assert not set(asked["validation"]) & set(asked["test"])


def test_both_answers_are_as_likely():
    answers = [check("member", prompt) for prompt in questions(make())["train"] if template_of(prompt) == "member"]
    assert 0.4 < answers.count("yes") / len(answers) < 0.6


def test_seed_and_settings():
    assert make().key == make().key
    assert len({make(**change).key for change in ({}, {"seed": 1}, {"turns": 1}, {"number": 1000}, {"test": 0.1})}) == 5
    assert list(make(number=200).read()) == list(make(number=200).read())
    one = [read(text) for _, text in make(number=200, turns=1).read()]
    assert all(sum(role == "user" for role, _ in turns) == 1 for turns in one)
    assert sum(turns[0][0] == "system" for turns in one) / 200 == pytest.approx(0.25, abs=0.1)


def test_tiny_shares_end():
    assert {split for split, _ in make(number=100, validation=1e-9, test=1e-9).read()} == {
        "train",
        "validation",
        "test",
    }


def test_a_corpus_of_it():
    corpus = prepared(make(number=400))
    assert (len(corpus.validation), len(corpus.test)) == (20, 20)
    assert read(corpus.vocabulary.decode(corpus.train[0]))
    assert len(set(WORDS)) == len(WORDS)

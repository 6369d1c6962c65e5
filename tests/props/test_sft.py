"""Each token of the assistant is asked exactly once and nothing else, and the bugs that would break this are caught."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lmx.batch import IGNORE
from lmx.data.conversations import write
from lmx.data.packing import Samples
from lmx.data.tokenizer import Bytes
from lmx.objectives import sft as module
from lmx.objectives.sft import SFT, Conversation
from tests.conftest import trunk
from tests.data.conftest import documents

VOCABULARY = Bytes().train([], 0)
SAID = st.text(st.sampled_from("ab \n#\\:é"), max_size=8) | st.sampled_from(["### User: ", "x\n### Assistant: y"])
TALKS = st.lists(
    st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), SAID), min_size=1, max_size=5),
    min_size=1,
    max_size=6,
)
PACKINGS = ("concat", "docmask", "bestfit")


def reference(number, talk) -> tuple[list[int], list[bool]]:
    """Tokens and which are the assistant's, written down once more."""
    tokens: list[int] = []
    answer: list[bool] = []
    for place, (role, said) in enumerate(talk):
        content = VOCABULARY.encode(f"{number}." + said if place == 0 else said).tolist()
        tokens += [VOCABULARY.ids[role], *content, VOCABULARY.turn]
        answer += [False] + [role == "assistant"] * (len(content) + 1)
    return [*tokens, VOCABULARY.eos], [*answer, talk[-1][0] == "assistant"]


def check(talks, length, packing):
    """Conversation n says n first, so that it is found again in a row."""
    talks = [*talks, [("assistant", "at least one answer")]]
    texts = [
        write([(role, f"{number}." + said if place == 0 else said) for place, (role, said) in enumerate(talk)])
        for number, talk in enumerate(talks)
    ]
    encoded = [[*VOCABULARY.encode(text).tolist(), VOCABULARY.eos] for text in texts]
    split = documents([len(text) for text in encoded])
    split.tokens[:] = np.concatenate(encoded)
    corpus: Any = SimpleNamespace(train=split)
    objective = SFT(
        length=length,
        model=trunk(),
        vocabulary=VOCABULARY,
        corpus=corpus,
        ask="completions",
        prompt_weight=0.0,
        z_loss=0.0,
    )
    stream = Samples(split, objective.raw_lengths, 0, seed=0, packing=packing, purpose="train", shuffle=False)
    batch = objective.collate(stream.read(0, len(stream)), stream.keys(0, len(stream)))
    asked: Counter[tuple[int, int]] = Counter()
    reads: Counter[int] = Counter()
    for row in range(len(batch.tokens)):
        for document in sorted(set(batch.document[row].tolist()) - {-1}):
            here = batch.document[row] == document
            tokens, targets = batch.tokens[row][here].tolist(), batch.targets[row][here].tolist()
            number = int(VOCABULARY.decode(tokens).partition(".")[0])
            wanted, answer = reference(number, talks[number])
            assert tokens == wanted[: len(tokens)]
            reads[number] += 1
            for place, target in enumerate(targets):
                following = place + 1 < len(wanted) and answer[place + 1]
                assert target == (wanted[place + 1] if following else IGNORE)
                asked[number, place] += target != IGNORE
    assert max(asked.values()) == 1
    assert max(reads.values()) == 1
    if packing == "bestfit" and length >= max(map(len, encoded)):
        total = sum(sum(reference(number, talk)[1]) for number, talk in enumerate(talks))
        assert sum(asked.values()) == total


@settings(max_examples=100, deadline=None)
@example(talks=[[("user", "a"), ("assistant", "b"), ("assistant", "")]], length=300, packing="bestfit")
@given(talks=TALKS, length=st.integers(60, 300), packing=st.sampled_from(PACKINGS))
def test_answers_are_asked_once(talks, length, packing):
    check(talks, length, packing)


def posing(change):
    """SFT.pose with its row changed."""
    pose = SFT.pose

    def wrong(self, conversations):
        row = pose(self, conversations)
        return row | {"targets": change(row, conversations)[: len(row["targets"])]}

    return "pose", wrong


def rendering(change):
    """SFT.render with its conversation changed."""
    render = SFT.render

    def wrong(self, text):
        one = render(self, text)
        return Conversation(**{"tokens": one.tokens, "answer": one.answer} | change(one))

    return "render", wrong


def hidden(ids):
    return lambda row, _: np.where(np.isin(row["targets"], ids), IGNORE, row["targets"])


def answers(conversations):
    return np.concatenate([one.answer for one in conversations])


BUGS = {
    "ends hidden by id": posing(hidden([VOCABULARY.eos])),
    "ends of turns hidden": posing(hidden([VOCABULARY.turn])),
    "no shift": posing(lambda row, _: np.where(row["targets"] != IGNORE, row["tokens"], IGNORE)),
    "shifted twice": posing(lambda row, _: np.append(row["targets"][1:], IGNORE)),
    "mask not shifted": posing(
        lambda row, talks: np.where(answers(talks)[: len(row["tokens"])], np.append(row["tokens"][1:], IGNORE), IGNORE)
    ),
    "all is asked": posing(lambda row, _: np.append(row["tokens"][1:], IGNORE)),
    "end dropped": rendering(lambda one: {"tokens": one.tokens[:-1], "answer": one.answer[:-1]}),
    "end not asked": rendering(lambda one: {"answer": np.append(one.answer[:-1], False)}),
    "role asked": rendering(
        lambda one: {"answer": one.answer | (one.tokens == VOCABULARY.assistant)},
    ),
}


@pytest.mark.parametrize("bug", sorted(BUGS))
def test_seeded_bugs_are_caught(monkeypatch, bug):
    talks: Any = [[("user", "ab"), ("assistant", "cd"), ("user", "e"), ("assistant", "f")]]
    check(talks, 128, "bestfit")
    name, wrong = BUGS[bug]
    monkeypatch.setattr(SFT, name, wrong)
    with pytest.raises(AssertionError):
        check(talks, 128, "bestfit")


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_rest_that_is_trained_on_is_caught(monkeypatch, packing):
    talks: Any = [[("user", "ab " * 30), ("assistant", "cd")]]
    check(talks, 60, packing)
    monkeypatch.setattr(module, "whole", lambda piece, document: piece)
    with pytest.raises((AssertionError, ValueError)):
        check(talks, 60, packing)


def test_neighbours_change_nothing():
    """Neither what a conversation is asked nor where its positions begin."""
    objective = SFT(
        length=64, model=trunk(), vocabulary=VOCABULARY, corpus=None, ask="completions", prompt_weight=0.0, z_loss=0.0
    )
    one, two, other = (Conversation(tokens=np.arange(size), answer=np.arange(size) % 3 == 1) for size in (5, 7, 9))
    alone = objective.pose([one])
    for pack in ([two, one], [other, one], [one, two], [other, one, two]):
        row = objective.pose(pack)
        here = row["document"] == [talk is one for talk in pack].index(True)
        assert row["targets"][here].tolist() == alone["targets"].tolist()

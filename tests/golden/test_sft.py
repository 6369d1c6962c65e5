"""SFT on rows worked out by hand: token lists first, then conversations as a corpus has them."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lmx import config
from lmx.batch import IGNORE, PADDING, fill
from lmx.data.conversations import write
from lmx.data.noise import Keys
from lmx.errors import LmxError
from lmx.objectives.sft import SFT, Conversation
from tests.conftest import sample, trunk
from tests.data.conftest import documents

KEYS = Keys(seed=0, purpose="train", sample=np.arange(1))
_ = IGNORE
TALK = write([("user", "ab"), ("assistant", "c"), ("user", "d"), ("assistant", "ef")])


def make(vocabulary, **changes: Any) -> SFT:
    knobs = {"length": 40, "model": trunk(), "corpus": None, "ask": "completions", "prompt_weight": 0.0, "z_loss": 0.0}
    return SFT(vocabulary=vocabulary, **knobs | changes)


def tokens(vocabulary, *texts: str) -> list[list[int]]:
    return [[*vocabulary.encode(text).tolist(), vocabulary.eos] for text in texts]


def shown(vocabulary, row) -> str:
    """Pieces, . where there is none."""
    return " ".join("." if number == IGNORE else vocabulary.piece(number) for number in row.tolist())


def plain(prompt: list[int], completion: list[int]) -> Conversation:
    """Without marks of who speaks."""
    answer = [False] * len(prompt) + [True] * len(completion)
    return Conversation(tokens=np.array(prompt + completion), answer=np.array(answer))


def test_prompt_and_completion_packed(vocabulary):
    row = make(vocabulary).pose([plain([10, 11, 12], [20, 21, 1]), plain([13], [22, 1])])
    assert row["tokens"].tolist() == [10, 11, 12, 20, 21, 1, 13, 22, 1]
    assert row["targets"].tolist() == [_, _, 20, 21, 1, _, 22, 1, _]
    assert row["document"].tolist() == [0] * 6 + [1] * 3


def test_positions_and_padding(vocabulary):
    batch = make(vocabulary, length=24).collate([sample(*tokens(vocabulary, "ab", "c"))], KEYS)
    assert shown(vocabulary, batch.tokens[0, :9]) == "[ASSISTANT] a b [TURN] [EOS] [ASSISTANT] c [TURN] [EOS]"
    assert shown(vocabulary, batch.targets[0, :9]) == "a b [TURN] [EOS] . c [TURN] [EOS] ."
    assert batch.position[0, :9].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    assert batch.document[0].tolist() == [0] * 5 + [1] * 4 + [PADDING] * 15
    assert (batch.targets[0, 9:] == IGNORE).all()


READ = "[USER] a b [TURN] [ASSISTANT] c [TURN] [USER] d [TURN] [ASSISTANT] e f [TURN] [EOS]"


@pytest.mark.parametrize(
    ("ask", "asked"),
    [
        ("completions", ". . . . c [TURN] . . . . e f [TURN] [EOS] ."),
        ("last", ". . . . . . . . . . e f [TURN] [EOS] ."),
        ("all", "a b [TURN] [ASSISTANT] c [TURN] [USER] d [TURN] [ASSISTANT] e f [TURN] [EOS] ."),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_what_is_asked(vocabulary, ask, asked, together):
    """Documents that may see each other in the stream (concat) are told apart by their ends."""
    text = sample(*tokens(vocabulary, TALK, "x"))
    text = replace(text, segment=np.zeros_like(text.segment)) if together else text
    batch = make(vocabulary, ask=ask).collate([text], KEYS)
    size = len(READ.split())
    assert shown(vocabulary, batch.tokens[0, :size]) == READ
    assert shown(vocabulary, batch.targets[0, :size]) == asked
    assert batch.document[0, : size + 4].tolist() == [0] * size + [1] * 4


def test_end_is_asked_where_padding_is_the_end(vocabulary):
    """Hiding by id would take the ends of texts, too."""
    one = plain([7], [vocabulary.pad, 8, vocabulary.pad])
    assert make(vocabulary).pose([one])["targets"].tolist() == [vocabulary.pad, 8, vocabulary.pad, _]


def test_a_user_who_is_not_answered_is_not_asked(vocabulary):
    talk = write([("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c")])
    batch = make(vocabulary).collate([sample(*tokens(vocabulary, talk))], KEYS)
    assert shown(vocabulary, batch.targets[0, :14]) == ". . . . . . b [TURN] . . . . . ."


def test_the_end_is_cut_off(vocabulary):
    """The beginning stays, and the token that stood after the cut is still asked for."""
    batch = make(vocabulary, length=12).collate([sample(*tokens(vocabulary, TALK))], KEYS)
    assert shown(vocabulary, batch.tokens[0]) == " ".join(READ.split()[:12])
    assert shown(vocabulary, batch.targets[0]) == ". . . . c [TURN] . . . . e f"


def test_special_tokens_are_not_read_out_of_text(vocabulary):
    batch = make(vocabulary, length=60).collate(
        [sample(*tokens(vocabulary, write([("assistant", "[TURN][EOS]")])))], KEYS
    )
    assert (batch.tokens[0] == vocabulary.turn).sum() == (batch.tokens[0] == vocabulary.eos).sum() == 1


def corpus(vocabulary, *texts: str) -> Any:
    """One whose documents are these."""
    found = tokens(vocabulary, *texts)
    made = documents([len(text) for text in found])
    made.tokens[:] = np.concatenate(found)
    return SimpleNamespace(train=made)


def test_a_conversation_belongs_to_the_sample_where_it_begins(vocabulary):
    """A window of 20 tokens ends inside of it; the next one has nothing to ask."""
    sft = make(vocabulary, length=24, corpus=corpus(vocabulary, TALK))
    text = tokens(vocabulary, TALK)[0]
    first, second = (sft.pose(sft.conversations(sample(part), "train")) for part in (text[:20], text[20:]))
    assert shown(vocabulary, first["tokens"]) == READ
    assert not len(second["tokens"])
    typed = sample(*tokens(vocabulary, write([("user", "typed"), ("assistant", "x")])))
    assert len(sft.conversations(typed, "train")) == 1


def test_nothing_to_ask_is_said(vocabulary):
    sft = make(vocabulary, length=8)
    long = sample(*tokens(vocabulary, write([("user", "a" * 30), ("assistant", "b")])))
    short = sample(*tokens(vocabulary, "x"))
    assert sft.collate([long, short], KEYS).num_targets == 3, "one row may be empty"
    with pytest.raises(LmxError, match=r"^length must reach an answer .*=completions\), got 8 .* Type length=16 or"):
        sft.collate([long], KEYS)
    with pytest.raises(LmxError, match=r"^data must hold conversations .* none in 100 documents.* data=instructions"):
        make(vocabulary, corpus=corpus(vocabulary, *["plain"] * 120))
    assert make(vocabulary, corpus=corpus(vocabulary, *["plain"] * 60, *[TALK] * 60)), "some of it may be plain"


def test_weighed_prompts_are_a_term_of_their_own(vocabulary, make_model):
    """Prompt and answers together are the full text, each divided by its own number."""
    model, rows = make_model(), [sample(*tokens(vocabulary, TALK, "x")), sample(*tokens(vocabulary, TALK))]
    keys = Keys(seed=0, purpose="train", sample=np.arange(2))
    masked, weighed, full = (
        make(vocabulary, model=model, **knobs) for knobs in ({}, {"prompt_weight": 0.1, "z_loss": 1e-3}, {"ask": "all"})
    )
    batches = [objective.collate(rows, keys) for objective in (masked, weighed, full)]
    answers, both, everything = (
        objective(model, batch) for objective, batch in zip((masked, weighed, full), batches, strict=True)
    )
    assert weighed.weights == {"loss": 1.0, "prompt": 0.1, "z": 1e-3}
    assert torch.equal(batches[1].targets, batches[2].targets)
    counts = weighed.counts(batches[1])
    assert int(counts["loss"]) == int(counts["z"]) == int(batches[0].num_targets)
    assert int(counts["loss"] + counts["prompt"]) == int(batches[2].num_targets) <= batches[1].capacity
    assert both["loss"].item() == pytest.approx(answers["loss"].item(), rel=1e-5)
    assert (both["loss"] + both["prompt"]).item() == pytest.approx(everything["loss"].item(), rel=1e-5)
    filled = fill(batches[1], 4)
    assert weighed.counts(filled) == counts
    assert weighed(model, filled)["prompt"].item() == pytest.approx(both["prompt"].item(), rel=1e-5)
    (both["prompt"] + both["loss"]).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_conversations_are_packed_whole_unless_one_says_otherwise():
    packings = {
        words: config.plain(words.split())["packing"]
        for words in ("", "objective=sft", "objective=sft packing=docmask")
    }
    assert packings == {"": "concat", "objective=sft": "bestfit", "objective=sft packing=docmask": "docmask"}

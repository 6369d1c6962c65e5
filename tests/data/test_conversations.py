"""Conversations as text: what is written is read again, whatever is said in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmx.data.conversations import Turn, read, write

LINES = ["### User: ", "\\### Assistant: x", "\\\\### System: ", "### User:", "", " a ", "é", "#", "### user: "]
SAID = st.text() | st.lists(st.sampled_from(LINES)).map("\n".join)


def test_written_out():
    turns: list[Turn] = [("system", "short"), ("user", "one\ntwo"), ("assistant", "### User: me")]
    text = "### System: short\n### User: one\ntwo\n### Assistant: \\### User: me"
    assert write(turns) == text
    assert read(text) == turns


@given(turns=st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), SAID)))
def test_what_is_written_is_read(turns):
    assert read(write(turns)) == turns


@pytest.mark.parametrize("text", ["", "plain", "first\n### User: a", " ### User: a", "### Users: a", "### User"])
def test_no_conversation(text):
    assert read(text) == []

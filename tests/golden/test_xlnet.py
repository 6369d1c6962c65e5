"""XLNet: the worked example of its module, that no query sees its own token or a later one, and its spans."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lmx.batch import IGNORE, visible
from lmx.data.noise import Keys
from lmx.errors import LmxError
from lmx.objectives import xlnet
from lmx.objectives.objective import stack
from lmx.objectives.xlnet import XLNet
from tests.conftest import sample, texts
from tests.golden.test_mlm import fake_tokenizer

_ = IGNORE
KNOBS = {"length": 48, "rate": 1 / 6, "context": 6.0, "z_loss": 0.0}
ASKED = np.array([0, 1, 0, 1, 1, 0], dtype=bool)
SPECIAL = np.array([0, 0, 0, 0, 0, 1], dtype=bool)
RANKS = np.array([4, 2, 0, 5, 1, 3])


@pytest.fixture
def make(make_model, vocabulary):
    return lambda **changes: XLNet(model=make_model(), vocabulary=vocabulary, **KNOBS | changes)


def test_who_sees_whom():
    order = xlnet.order(ASKED, SPECIAL, RANKS)
    assert order.tolist() == [0, 3, 0, 6, 2, 4]
    batch = stack([{"tokens": np.arange(21, 27), "targets": np.where(ASKED, np.arange(21, 27), _), "order": order}], 6)
    query, content = visible(batch, strict=True)[0, 0], visible(batch)[0, 0]
    wanted = {1: {0, 2, 4}, 3: {0, 1, 2, 4, 5}, 4: {0, 2}}
    for place, keys in wanted.items():
        assert set(query[place].nonzero()[:, 0].tolist()) == keys
        assert set(content[place].nonzero()[:, 0].tolist()) == keys | {place}
    assert set(content[0].nonzero()[:, 0].tolist()) == {0, 2}
    assert set(content[5].nonzero()[:, 0].tolist()) == {0, 1, 2, 4, 5}


@pytest.mark.parametrize("seed", range(5))
def test_no_query_sees_its_token_or_a_later_one(make, make_model, vocabulary, seed):
    """Another token at an asked place changes, exactly, only what is asked after it in the random order."""
    objective, model = make(), make_model(depth=2)
    keys = Keys(seed=seed, purpose="train", sample=np.arange(1))
    batch = objective.collate(texts(vocabulary, 1, 46, seed), keys)
    places = batch.query[0][batch.answer[0] != _]
    with torch.no_grad():
        before = objective.query(model, batch)[0]
        for place in places.tolist():
            other = batch.tokens.clone()
            other[0, place] = vocabulary.ordinary[(int(other[0, place]) + 1) % 50]
            moved = (objective.query(model, replace(batch, tokens=other))[0] - before).abs().amax(-1)[: len(places)]
            later = batch.order[0, places] > batch.order[0, place]
            assert (moved[~later] == 0).all()
            assert (moved[later] > 0).all()


def test_only_the_asked_rows_are_run_and_answered(make, vocabulary):
    objective = make()
    batch = objective.collate(texts(vocabulary, 3, 46), Keys(seed=0, purpose="train", sample=np.arange(3)))
    assert batch.query.shape == (3, 8)
    for row in range(3):
        asked = batch.answer[row] != _
        assert int(asked.sum()) == 8
        assert torch.equal(batch.tokens[row, batch.query[row]], batch.answer[row])
        assert torch.equal(batch.targets[row, batch.query[row]], batch.answer[row])
    assert batch.tokens[:, -2:].tolist() == [[vocabulary.sep, vocabulary.cls]] * 3
    strict = visible(batch, strict=True)[:, 0]
    assert batch.pairs("query") == int(strict[batch.targets != _].sum())


def test_special_tokens_are_not_asked_and_spans_stay_in_their_document(make, vocabulary):
    objective = make()
    rng = np.random.default_rng(0)
    for number in range(200):
        one, two = (list(rng.choice(vocabulary.ordinary, size=size)) for size in (20, 24))
        text = sample([*one, vocabulary.eos], [*two, vocabulary.eos])
        row = objective.pose(text, np.random.default_rng(number))
        asked = row["targets"] != _
        assert asked.sum() == 8
        assert not vocabulary.special[row["targets"][asked]].any()


def test_spans_have_the_mean_of_their_distribution(make, vocabulary):
    """1 to 5 words with P(n) ~ 1/n: 2.19 words; here every token is a word."""
    words = vocabulary.ordinary[vocabulary.starts_word[vocabulary.ordinary]]
    objective, lengths = make(length=4096), []
    text = np.random.default_rng(0).choice(words, size=4096)
    for seed in range(12):
        chosen = objective.choose(text, np.zeros(4096, dtype=int), np.random.default_rng(seed))[:3000]
        edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(int), [0]])))
        lengths += (edges[1::2] - edges[::2]).tolist()
    assert np.mean(lengths) == pytest.approx(2.19, abs=0.25)  # neighbouring spans run together now and then
    assert max(lengths) >= 5


def test_visibility_agrees_with_transformers(vocabulary):
    """DataCollatorForPermutationLanguageModeling, whose special tokens everything may see and whose targets are shown as [MASK]:
    with its targets in its order, every row of its permutation mask is what `visible` says."""
    collator = pytest.importorskip("transformers").DataCollatorForPermutationLanguageModeling
    tokenizer = fake_tokenizer(vocabulary)
    torch.manual_seed(0)
    rows = [{"input_ids": item.tokens.tolist()} for item in texts(vocabulary, 8, 32)]
    theirs = collator(tokenizer)(rows)
    hidden = theirs["perm_mask"].bool()  # [B, q, k]: q may not see k
    for row in range(8):
        asked = theirs["labels"][row] != _  # its target_mapping has a row for every position
        rank = (~hidden[row])[:, asked].sum(1)  # targets that each position sees come before it
        order = torch.where(asked, rank + 1, 0)[None]
        tokens = torch.tensor(rows[row]["input_ids"])[None]
        batch = stack([{"tokens": tokens[0].numpy(), "targets": tokens[0].numpy(), "order": order[0].numpy()}], 32)
        strict = visible(batch, strict=True)[0, 0]
        assert torch.equal(strict[asked], ~hidden[row][asked])
        assert torch.equal(visible(batch)[0, 0][~asked], ~hidden[row][~asked])


def test_what_transformers_does_otherwise(make, vocabulary):
    """Its collator shows [MASK] for what is asked, which two streams make needless (transformers #22435), and refuses an odd
    length (#7341), though only XLNet's memory has halves (#14367)."""
    collator = pytest.importorskip("transformers").DataCollatorForPermutationLanguageModeling(
        fake_tokenizer(vocabulary)
    )
    theirs = collator([{"input_ids": texts(vocabulary, 1, 32)[0].tokens.tolist()}])
    assert (theirs["input_ids"][theirs["labels"] >= 0] == vocabulary.mask).all()
    with pytest.raises(ValueError, match="even"):
        collator([{"input_ids": texts(vocabulary, 1, 31)[0].tokens.tolist()}])
    batch = make(length=33).collate(texts(vocabulary, 1, 31), Keys(seed=0, purpose="train", sample=np.arange(1)))
    asked = batch.targets != IGNORE
    assert asked.any()
    assert torch.equal(batch.tokens[asked], batch.targets[asked])


def test_spans_are_of_whole_words(make, vocabulary):
    """Words of three tokens: what is asked begins with a word and ends with one, but for the very last."""
    starts = vocabulary.ordinary[vocabulary.starts_word[vocabulary.ordinary]]
    inner = vocabulary.ordinary[~vocabulary.starts_word[vocabulary.ordinary]]
    text = np.stack([np.resize(starts, 1365), np.resize(inner, 1365), np.resize(inner[1:], 1365)], axis=1).ravel()
    chosen = make(length=4096, rate=1 / 20).choose(text, np.zeros(len(text), dtype=int), np.random.default_rng(0))
    words = chosen.reshape(-1, 3).sum(1)
    words = words[: np.flatnonzero(words)[-1]]
    assert (words == 3).sum() > 50
    assert set(words.tolist()) == {0, 3}


def test_a_query_knows_its_position(make, make_model, vocabulary):
    """Two queries that see the same keys have the same state unless they are told where they stand."""
    objective, model = make(), make_model()
    a, b = vocabulary.ordinary[:2].tolist()
    asked = np.array([0, 0, 1, 1], dtype=bool)
    row = {"tokens": np.array([a, b, a, a]), "targets": np.where(asked, a, _), "order": np.array([0, 0, 1, 1])}
    with torch.no_grad():
        states = objective.query(model, objective.queried([row], 4, 2))[0]
    assert (states[0] - states[1]).abs().max() > 1e-4


def test_given_places(make, vocabulary):
    objective = make()
    objective.fix([1, 3])
    batch = objective.collate(texts(vocabulary, 1, 46), Keys(seed=0, purpose="train", sample=np.arange(1)))
    assert (batch.targets[0] != _).nonzero()[:, 0].tolist() == [1, 3]
    with pytest.raises(LmxError, match="--noise must name at most 8 tokens at objective.rate=0.166667, got 9"):
        objective.fix(range(9))


def test_texts_are_read_as_they_end_in_training(make, vocabulary):
    text = vocabulary.ordinary[:3]
    batch = make().reading([text])
    assert batch.tokens.tolist() == [[*text, vocabulary.sep, vocabulary.cls]]
    assert batch.targets.tolist() == [[*text, _, _]]

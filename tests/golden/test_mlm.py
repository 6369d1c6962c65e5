"""MLM: the worked examples of BERT's masking, and agreement with transformers' collator where that is right."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lmx.batch import IGNORE
from lmx.data import selection
from lmx.data.noise import Keys
from lmx.objectives.mlm import MLM
from tests.conftest import sample, texts, trunk

_ = IGNORE
KNOBS = {
    "length": 128, "model": trunk(), "select": "fixed_round",
    "rate": 0.15, "last_rate": None, "predict": 1.0, "mask": 0.8, "swap": 0.1,
    "evaluate_rate": 0.15, "wrap": True, "shift": False, "max_targets": None, "z_loss": 0.0,
}  # fmt: skip


class Scripted:
    """A generator that gives prepared numbers."""

    def __init__(self, uniform, integers):
        self.uniform, self.whole = uniform, integers

    def random(self, size):
        return np.array(self.uniform[:size])

    def integers(self, most, size):
        return np.array(self.whole[:size])


def corrupted(vocabulary, shift):
    mlm = MLM(vocabulary=vocabulary, **KNOBS | {"shift": shift, "length": 6})
    cls, sep, swap = vocabulary.cls, vocabulary.sep, vocabulary.ordinary[7]
    a, b, c, d = vocabulary.ordinary[:4]
    mlm.choose = lambda text, rate, rng: np.isin(np.arange(len(text)), [1, 3, 4])
    row = mlm.pose(sample([a, b, c, d]), 0.15, Scripted([0, 0.1, 0, 0.85, 0.95, 0], [0, 0, 0, 7, 0, 0]))
    return row, (cls, a, b, c, d, sep, swap, vocabulary.mask)


def test_mask_swap_keep(vocabulary):
    row, (cls, a, b, c, d, sep, swap, mask) = corrupted(vocabulary, shift=False)
    assert row["tokens"].tolist() == [cls, mask, b, swap, d, sep]
    assert row["targets"].tolist() == [_, a, _, c, d, _]
    assert not row["order"].any()


def test_shifted_by_one(vocabulary):
    row, (cls, a, b, c, d, sep, swap, mask) = corrupted(vocabulary, shift=True)
    assert row["tokens"].tolist() == [cls, mask, b, swap, d]
    assert row["targets"].tolist() == [a, _, c, d, _]


@pytest.mark.parametrize(
    ("luck", "shown"),
    [(0.7993, "mask"), (0.8007, "swap"), (0.8993, "swap"), (0.9007, "keep"), (0.9993, "keep")],
)
def test_one_draw_decides(vocabulary, luck, shown):
    """u < 0.12 hides, < 0.135 swaps, < 0.15 keeps, for a rate of 0.15: here as shares of the rate."""
    mlm = MLM(vocabulary=vocabulary, **KNOBS)
    text = vocabulary.ordinary[:1]
    got = mlm.corrupt(text, np.array([True]), Scripted([luck], [9]))
    assert got[0] == {"mask": vocabulary.mask, "swap": vocabulary.ordinary[9], "keep": text[0]}[shown]


@pytest.mark.parametrize(("sequence", "chosen"), [([1, 0, 2], [1, 2]), ([0, 1, 2], [0, 3])])
def test_whole_words_that_fit(sequence, chosen):
    """Words [0] [1 2] [3] and room for two: a word that would overflow is passed over."""
    groups = selection.words(np.ones(4, bool), np.array([True, True, False, True]))
    assert [list(group) for group in groups] == [[0], [1, 2], [3]]
    assert np.flatnonzero(selection.fit(groups, np.array(sequence), 4, 2)).tolist() == chosen


def test_bert_counts_special_tokens_in_the_budget():
    assert selection.budget(128, 0.15, None) == 19
    assert selection.budget(128, 0.15, 20) == 19
    assert selection.budget(512, 0.15, 20) == 20
    assert selection.budget(2, 0.15, None) == 1


def test_shares_agree_with_transformers(vocabulary):
    """Rates of selection and of mask / swap / keep, over 200 k tokens, against DataCollatorForLanguageModeling."""
    collator = pytest.importorskip("transformers").DataCollatorForLanguageModeling
    tokenizer = fake_tokenizer(vocabulary)
    torch.manual_seed(0)
    rows = [{"input_ids": list(map(int, s.tokens))} for s in texts(vocabulary, 1600, 126)]
    theirs = collator(tokenizer, mlm_probability=0.15, seed=0)(rows)
    before = torch.tensor([row["input_ids"] for row in rows])
    ours = MLM(vocabulary=vocabulary, **KNOBS | {"select": "bernoulli", "wrap": False, "length": 126})
    keys = Keys(seed=0, purpose="train", sample=np.arange(1600))
    batch = ours.collate(texts(vocabulary, 1600, 126), keys)
    a = shares(theirs["input_ids"], theirs["labels"], before, vocabulary)
    b = shares(batch.tokens, batch.targets, before, vocabulary)
    assert np.allclose(a, b, atol=0.012), (a, b)
    assert np.allclose(b, [0.15, 0.8, 0.1], atol=0.012), b


def test_transformers_swaps_in_special_tokens(vocabulary):
    """Its collator draws from the whole vocabulary, kept on purpose (transformers #15342); here no special token is drawn."""
    collator = pytest.importorskip("transformers").DataCollatorForLanguageModeling
    rows = [{"input_ids": s.tokens.tolist()} for s in texts(vocabulary, 200, 126)]
    theirs = collator(fake_tokenizer(vocabulary), mlm_probability=0.5, mask_replace_prob=0, random_replace_prob=1)(rows)
    ours = MLM(vocabulary=vocabulary, **KNOBS | {"wrap": False, "length": 126, "rate": 0.5, "mask": 0.0, "swap": 1.0})
    batch = ours.collate(texts(vocabulary, 200, 126), Keys(seed=0, purpose="train", sample=np.arange(200)))
    assert vocabulary.special[theirs["input_ids"]].any()
    assert not vocabulary.special[batch.tokens].any()


def shares(tokens, targets, before, vocabulary):
    asked = targets != IGNORE
    assert torch.equal(targets[asked], before[asked])
    assert torch.equal(tokens[~asked], before[~asked])
    masked = tokens[asked] == vocabulary.mask
    swapped = ~masked & (tokens[asked] != before[asked])
    return [float(x.float().mean()) for x in (asked, masked, swapped)]


def fake_tokenizer(vocabulary):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    names = {f"t{i}": i for i in range(vocabulary.size)}
    names["[MASK]"] = names.pop(f"t{vocabulary.mask}")
    names["[PAD]"] = names.pop(f"t{vocabulary.pad}")
    inner = Tokenizer(models.WordLevel(names, unk_token="[PAD]"))
    return PreTrainedTokenizerFast(tokenizer_object=inner, mask_token="[MASK]", pad_token="[PAD]")


def test_a_word_ends_where_something_special_stands():
    """A piece that continues a word, behind a [SEP], does not continue the word before it."""
    groups = selection.words(np.array([1, 1, 0, 1, 1], bool), np.array([1, 0, 0, 0, 1], bool))
    assert [group.tolist() for group in groups] == [[0, 1], [3], [4]]


def test_words_of_several_tokens_are_hidden_whole(vocabulary):
    """Also where packed documents meet within what would be a word. A token is a byte here, and a space begins a word."""
    first, second = vocabulary.encode(" one two").tolist(), vocabulary.encode("ly three").tolist()
    mlm = MLM(vocabulary=vocabulary, **KNOBS | {"length": 16, "select": "whole_word", "wrap": False, "rate": 0.5})
    keys = Keys(seed=0, purpose="train", sample=np.arange(60))
    hidden = (mlm.collate([sample(first, second)] * 60, keys).targets != IGNORE).numpy()
    words = np.split(hidden, [4, 8, 10], axis=1)
    assert all((word.all(1) | ~word.any(1)).all() for word in words)
    assert all(word.any() and not word.all() for word in words)
    assert (words[1][:, 0] != words[2][:, 0]).any(), "not one word over the border"


def test_the_rate_follows_the_budget(vocabulary):
    mlm = MLM(vocabulary=vocabulary, **KNOBS | {"rate": 0.3, "last_rate": 0.1})
    keys = Keys(seed=0, purpose="train", sample=np.arange(1))
    assert [mlm.rate_of(replace(keys, progress=progress)) for progress in (0.0, 0.5, 1.0)] == pytest.approx(
        [0.3, 0.2, 0.1]
    )


def test_hidden_tokens_are_asked_in_their_places(vocabulary):
    """With shift, at the place before."""
    a, b, c = text = vocabulary.ordinary[:3]
    cls, sep, mask, eos = vocabulary.cls, vocabulary.sep, vocabulary.mask, vocabulary.eos
    hide = [np.array([True, False, True])]
    batch = MLM(vocabulary=vocabulary, **KNOBS).hiding([text], hide)
    assert batch.tokens.tolist() == [[cls, mask, b, mask, sep]]
    assert batch.targets.tolist() == [[_, a, _, c, _]]
    batch = MLM(vocabulary=vocabulary, **KNOBS | {"shift": True, "wrap": False}).hiding([text], hide)
    assert batch.tokens.tolist() == [[eos, mask, b, mask]]
    assert batch.targets.tolist() == [[a, _, c, _]]

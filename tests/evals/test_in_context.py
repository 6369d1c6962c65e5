"""The ICL score and copying: what knows nothing gains nothing, losses are those of naive loops, a copier is seen."""

import numpy as np
import pytest
import torch

from lmx.batch import IGNORE
from lmx.data.noise import generator
from lmx.data.selection import without_replacement
from lmx.evals.in_context import InContext, askers, restored
from lmx.evals.texts import longest, passages, symbols

KNOBS = {"passages": 6, "early": 50, "late": 500, "window": 2, "repeated": 8, "copies": 4}


@pytest.mark.parametrize("objective", ["clm", "mlm", "mlm_uniform", "prefix_lm", "span", "glm", "ul2"])
def test_who_knows_nothing_gains_nothing(ignorant, silent, objective):
    subject = ignorant(objective)
    rows = InContext(**KNOBS)(subject, silent)
    assert {row.metric for row in rows} == {"icl_score", "copy_gain"}
    assert [row.value for row in rows] == pytest.approx([0.0] * len(rows))
    assert all(row.task == "scaled" for row in rows if row.metric == "icl_score")


def test_who_cannot_be_asked_has_no_rows(new_subject, silent):
    assert not InContext(**KNOBS)(new_subject("electra"), silent)


def test_places():
    assert InContext(**KNOBS).places(502) == ("", [49, 50], [499, 500])
    assert InContext(**KNOBS).places(100) == ("scaled", [8, 9], [89, 90])
    assert InContext(**KNOBS).places(20) == ("scaled", [2], [18])


@torch.no_grad()
def test_losses_are_those_of_one_question_at_a_time(new_subject, silent):
    """From left to right, and with the place and all to its right hidden."""
    for objective, name in (("clm", "causal"), ("mlm", "l2r_fill")):
        subject = new_subject(objective, *(["objective.wrap=false"] if objective == "mlm" else []))
        texts, model, mask = passages(subject, 3, 12), subject.learner.model, subject.corpus.vocabulary.mask
        found = askers(subject)[name](texts, [2, 9], silent)
        for number, text in enumerate(texts):
            for column, place in enumerate((2, 9)):
                asker = subject.learner.objective
                if name == "causal":
                    batch = asker.following([text[: place + 1]], [place])
                    logits = asker.logits(model, model(batch)[0, -1])
                else:
                    batch = asker.hiding([text], [np.arange(12) >= place])
                    assert (batch.tokens[0, place:] == mask).all()
                    logits = asker.logits(model, model(batch))[0, place]
                expected = -float(logits.log_softmax(-1)[text[place]])
                assert found[number, column] == pytest.approx(expected, rel=1e-6)


def test_a_copier_gains(new_subject, silent, monkeypatch):
    """A model that knows a token for certain once it is shown anywhere before (or, hidden, anywhere at all)."""
    vocabulary = new_subject("clm").corpus.vocabulary

    def copier(model, batch):
        nats = torch.full(batch.targets.shape, float(np.log(vocabulary.size)))
        for row, targets in enumerate(batch.targets):
            for place in (targets != IGNORE).nonzero()[:, 0]:
                shown = batch.tokens[row, : place + 1] if batch.pattern == "causal" else batch.tokens[row]
                if targets[place] in shown:
                    nats[row, place] = 0
        return nats * (batch.targets != IGNORE)

    for objective in ("clm", "mlm"):
        subject = new_subject(objective)
        monkeypatch.setattr(subject.learner.objective, "nats", copier)
        rows = InContext(**KNOBS | {"repeated": 4})(subject, silent)
        gain = next(row for row in rows if row.metric == "copy_gain")
        assert gain.value > 0.8 * np.log(vocabulary.size)
        assert gain.better == "higher"


@torch.no_grad()
def test_restored_is_of_the_second_copy(new_subject, silent):
    """One token of ten is hidden, in both copies or in the second alone, where it is asked for."""
    subject = new_subject("mlm", "objective.wrap=false")
    asks, model = subject.learner.objective, subject.learner.model
    text = np.tile(symbols(subject)[:5], 2)
    place = 5 + int(np.flatnonzero(without_replacement(np.ones(5, dtype=bool), 1, generator(0, "hidden", 0)))[0])
    losses = []
    for hidden in ((place - 5, place), (place,)):
        batch = asks.hiding([text], [np.isin(np.arange(10), hidden)])
        losses.append(-float(asks.logits(model, model(batch))[0, place].log_softmax(-1)[text[place]]))
    assert restored(subject, [text], silent)[0] == pytest.approx(losses[0] - losses[1], rel=1e-6)


def test_texts(new_subject):
    subject = new_subject("clm")
    found = passages(subject, 5, 1000)
    assert [len(text) for text in found] == [longest(subject)] * 5
    chosen = symbols(subject)
    assert not subject.corpus.vocabulary.special[chosen].any()
    assert len(set(chosen)) == len(chosen) > 100


def test_the_same_twice(new_subject, silent):
    subject = new_subject("ul2")
    assert InContext(**KNOBS)(subject, silent) == InContext(**KNOBS)(subject, silent)

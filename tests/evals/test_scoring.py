"""Every objective's questions ask for exactly what they should, are normalised and leak nothing; scorers add up as defined."""

import numpy as np
import pytest
import torch

from lmx.batch import IGNORE, trimmed
from lmx.build import build
from lmx.config import choices, load
from lmx.evals.scoring import Bound, Detector, Following, LeftToRight, WordByWord, scorers
from lmx.evals.yardstick import Subject
from lmx.train.learner import Learner

LENGTH = 32
SMALL = [
    "model=nano",
    "model.width=32",
    "model.heads=2",
    "model.kv_heads=1",
    "model.mlp=48",
    "model.depth=2",
    f"length={LENGTH}",
]
TEXTS = ["We are strong.", "The state of the union", "No one"]
MAKES_NO_TEXT = {"contrastive", "simcse"}
FOLLOWERS = {  # asked for a text from left to right
    "bart", "biphasic", "clm", "deepseek_mtp", "fim", "glm", "mixture", "mtp", "prefix_lm", "sft", "span", "t5", "ul2", "ul2r",
    "xlnet",
}  # fmt: skip
HIDERS = {  # asked for hidden tokens
    "bart", "bert", "biphasic", "glm", "mixture", "mlm", "mlm_uniform", "modernbert", "nsp", "princeton40", "retromae",
    "roberta", "segment_pair", "sop", "span", "spanbert", "t5", "ul2", "ul2r",
}  # fmt: skip


@pytest.fixture(scope="module")
def make(vocabulary, small_corpus):
    """make("mlm", "objective.wrap=true") -> a Subject with random weights."""

    def subject(objective: str, *more: str) -> Subject:
        node = load([f"objective={objective}", *SMALL, *more])
        torch.manual_seed(0)
        model = build(node["model"], vocabulary_size=vocabulary.size)
        made = build(node["objective"], length=LENGTH, model=model, vocabulary=vocabulary, corpus=small_corpus)
        learner = Learner(model, made).double().eval()
        device = torch.device("cpu")
        return Subject(
            learner=learner, corpus=small_corpus, device=device, length=LENGTH, seed=0, untrained=lambda: learner
        )

    return subject


def silent(phase: str, share: float | None) -> None:
    pass


LAYOUTS = [
    *((name, ()) for name in sorted(choices("objective"))),
    ("mlm", ("objective.wrap=true",)),
    ("mlm", ("objective.shift=true", "objective.wrap=false")),
    ("span", ("objective.final_sentinel=true",)),
    *((name, (f"objective.layout={layout}",)) for name in ("span", "bart") for layout in ("causal", "encoder_decoder")),
    ("prefix_lm", ("objective.layout=encoder_decoder",)),
    ("ul2", ("objective.layout=encoder_decoder",)),
]  # fmt: skip


def called(layout: tuple[str, tuple[str, ...]]) -> str:
    return " ".join([layout[0], *layout[1]])


def of(names: set[str]) -> pytest.MarkDecorator:
    """A test of these objectives alone."""
    there = [layout for layout in LAYOUTS if layout[0] in names]
    return pytest.mark.parametrize("subject", there, ids=called, indirect=True)


@pytest.fixture(scope="module", params=LAYOUTS, ids=called)
def subject(request, make) -> Subject:
    return make(request.param[0], *request.param[1])


def nats(subject: Subject, batch) -> torch.Tensor:
    with torch.no_grad():
        return subject.learner.objective.nats(subject.learner.model, trimmed(batch))


def text(vocabulary, written: str) -> np.ndarray:
    return vocabulary.encode(written)


def test_who_is_asked_how(subject, request):
    """So that no test below passes an objective over in silence; a new one is named above."""
    objective, name = subject.learner.objective, request.node.callspec.params["subject"][0]
    assert (bool(objective.follows), bool(objective.hides)) == (name in FOLLOWERS, name in HIDERS)


@of(FOLLOWERS)
@pytest.mark.parametrize("given", [0, 1, 3])
def test_following_asks_for_the_rest(subject, vocabulary, given):
    objective = subject.learner.objective
    texts = [text(vocabulary, one) for one in TEXTS]
    batch = trimmed(objective.following(texts, [given] * 3))
    for row, one in zip(batch.targets, texts, strict=True):
        assert row[row != IGNORE].tolist() == one[given:].tolist()
    assert int(batch.num_targets) <= batch.capacity


@of(FOLLOWERS)
@pytest.mark.parametrize("given", [0, 2])
def test_following_is_a_distribution(subject, vocabulary, given):
    """Over all tokens that can stand there, probabilities add up to one: the answer is not in the question."""
    objective = subject.learner.objective
    context = text(vocabulary, "We a")[:given]
    every = [np.append(context, token) for token in range(vocabulary.size)]
    if objective.follows == "infill":  # special tokens of its targets are never asked
        every = [one for one in every if not vocabulary.special[one[-1]]]
    found = nats(subject, objective.following(every, [given] * len(every))).sum(1)
    if objective.follows == "infill":
        assert 0.4 < float((-found).exp().sum()) < 1
        assert float((-found).exp().max()) < 0.2
    else:
        assert float((-found).exp().sum()) == pytest.approx(1, abs=1e-6)


@of(FOLLOWERS)
def test_following_does_not_see_the_future(subject, vocabulary):
    objective = subject.learner.objective
    one, other = text(vocabulary, "We are strong"), text(vocabulary, "We are strife")
    same = int((one == other).argmin())
    rows = []
    for written in (one, other):
        batch = trimmed(objective.following([written], [1]))
        found = nats(subject, batch)
        rows.append(found[batch.targets != IGNORE])
    assert torch.equal(rows[0][: same - 1], rows[1][: same - 1])
    assert not torch.allclose(rows[0][same:], rows[1][same:])


@of(HIDERS)
def test_hiding_asks_for_what_is_hidden(subject, vocabulary):
    objective = subject.learner.objective
    texts = [text(vocabulary, one) for one in TEXTS]
    hidden = [np.isin(np.arange(len(one)), (0, 1, 4, len(one) - 1)) for one in texts]
    batch = trimmed(objective.hiding(texts, hidden))
    for row, one, hide in zip(batch.targets, texts, hidden, strict=True):
        assert row[row != IGNORE].tolist() == one[hide].tolist()
    assert int(batch.num_targets) <= batch.capacity


@of(HIDERS)
def test_hiding_leaks_nothing(subject, vocabulary):
    """The first hidden token's nats are those of a distribution: over all tokens, they add up to one."""
    objective = subject.learner.objective
    written = text(vocabulary, "We are strong")
    hide = np.isin(np.arange(len(written)), (3, 4, 8))
    every = []
    for token in vocabulary.ordinary:
        changed = written.copy()
        changed[3] = token
        every.append(changed)
    batch = trimmed(objective.hiding(every, [hide] * len(every)))
    found = nats(subject, batch)
    first = torch.stack([row[asked][0] for row, asked in zip(found, batch.targets != IGNORE, strict=True)])
    rest = 1 - float((-first).exp().sum())  # what special tokens have
    assert 0 <= rest < 0.6
    with torch.no_grad():
        shares = (-first).exp() / (-first).exp().sum()
    assert shares.max() < 0.2


def test_whoever_trains_on_text_can_be_asked(make):
    for name in choices("objective"):
        found = [scorer.name for scorer in scorers(make(name), whole=True)]
        assert found or name in MAKES_NO_TEXT | {"replace_mlm", "fix_the_bug"}, name


def test_causal_is_the_chain_rule(make, vocabulary):
    """Against the model itself, one prefix at a time."""
    subject = make("clm")
    one = text(vocabulary, "We are")
    total = 0.0
    for place in range(2, len(one)):
        batch = subject.learner.objective.following([one[: place + 1]], [place])
        with torch.no_grad():
            last = subject.learner.objective.logits(subject.learner.model, subject.learner.model(batch)[:, -1])
        total -= float(last.log_softmax(-1)[0, one[place]])
    assert Following(subject)([one], [2], silent)[0] == pytest.approx(total, rel=1e-6)


def test_scores_do_not_depend_on_company(subject, vocabulary):
    texts = [text(vocabulary, one) for one in TEXTS]
    for scorer in scorers(subject, whole=False):
        together = scorer.score(texts, [1, 2, 1], silent)
        alone = scorer.score(texts[1:2], [2], silent)
        if scorer.name != "bound":  # its noise is a function of the place
            assert together[1] == pytest.approx(alone[0], rel=1e-5)
        assert (together > 0).all()


def test_word_by_word_is_the_naive_loop(make, vocabulary):
    """One token at a time, the rest of its word hidden with it, in fp32 to 1e-5 nats."""
    subject = make("mlm", "objective.wrap=false")
    subject.learner.float()
    written = "We meet here tonight"
    one = text(vocabulary, written)
    model, mask, total = subject.learner.model, vocabulary.mask, 0.0
    spaces = [place for place, char in enumerate(written) if char == " "] + [len(one)]
    for place in range(len(one)):
        end = next(space for space in spaces if space > place)
        shown = one.copy()
        shown[place:end] = mask
        batch = subject.learner.objective.hiding([one], [shown == mask])
        assert batch.tokens[0].tolist() == shown.tolist()
        with torch.no_grad():
            logits = subject.learner.objective.logits(model, model(batch))
        total -= float(logits[0, place].log_softmax(-1)[one[place]])
    assert WordByWord(subject)([one], [0], silent)[0] == pytest.approx(total, abs=1e-5)


def test_left_to_right_fill(make, vocabulary):
    subject = make("mlm", "objective.wrap=false")
    one = text(vocabulary, "We are")
    parts = []
    for place in (4, 5):
        hidden = np.arange(len(one)) >= place
        parts.append(float(nats(subject, subject.learner.objective.hiding([one], [hidden]))[0, place]))
    assert LeftToRight(subject)([one], [4], silent)[0] == pytest.approx(sum(parts))


def test_the_bound_of_a_model_that_knows_nothing(make, vocabulary):
    """Where all tokens cost the same, the bound is exact: n / k x k predictions."""
    subject = make("mlm_uniform")
    torch.nn.init.zeros_(subject.learner.model.embedding.weight)
    one = text(vocabulary, "The state of the union")
    assert Bound(subject)([one], [4], silent)[0] == pytest.approx((len(one) - 4) * np.log(vocabulary.size))


def test_detector(make, vocabulary):
    subject = make("electra")
    one = text(vocabulary, "We are")
    batch = subject.learner.objective.hiding([one], [np.zeros(len(one), dtype=bool)])
    with torch.no_grad():
        logits = subject.learner.objective.suspicion(subject.learner.model, batch)
    begin = batch.tokens[0].tolist().index(one[0])
    expected = -torch.log(1 - logits[0, begin + 2 : begin + len(one)].sigmoid()).sum()
    assert Detector(subject)([one], [2], silent)[0] == pytest.approx(float(expected), rel=1e-5)

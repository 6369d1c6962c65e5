"""Writing with a cache is writing without one; sampling has the distribution it says; drafts change no token."""

import numpy as np
import pytest
import torch

from lmx.batch import IGNORE
from lmx.build import build
from lmx.config import choices, load
from lmx.data.tokenizer import Vocabulary
from lmx.errors import LmxError
from lmx.evals.write import Place, Reader, Sampler, fill, speculate, write
from lmx.objectives.mtp import DeepBatch, Drafts
from lmx.objectives.objective import Prediction, stack

LENGTH = 64
SMALL = [
    "model=nano",
    "model.width=32",
    "model.heads=2",
    "model.kv_heads=1",
    "model.mlp=48",
    "model.depth=2",
    f"length={LENGTH}",
]
ENCODED = "objective.layout=encoder_decoder"
WRITERS = {  # objective and settings -> how many parts its prompt has
    "clm": 1, "mtp": 1, "deepseek_mtp": 1, "fim": 2, "sft data=sotu": 1, "prefix_lm": 1, f"prefix_lm {ENCODED}": 1,
    "span": 3, "span objective.layout=prefix": 3, "span objective.layout=causal": 2, "t5": 1, "bart": 2,
    "bart objective.layout=prefix": 2, "glm": 3, "ul2": 3, f"ul2 {ENCODED}": 1, "ul2r": 1,
}  # fmt: skip
SAMPLED = [
    words for words in WRITERS if WRITERS[words] == 1 and not words.startswith(("sft", "t5"))
]  # scored as they write
PARTS = ["We meet", " here ", "night"]


def make(words: str, vocabulary, corpus):
    objective, *more = words.split()
    node = load([f"objective={objective}", *SMALL, *more])
    torch.manual_seed(0)
    model = build(node["model"], vocabulary_size=vocabulary.size)
    made = build(node["objective"], length=LENGTH, model=model, vocabulary=vocabulary, corpus=corpus)
    return made.double().eval(), model.double().eval()


def greedy(vocabulary: Vocabulary, **changes) -> Sampler:
    knobs = {"temperature": 0.0, "top_k": None, "top_p": 1.0, "generator": torch.Generator().manual_seed(0)}
    return Sampler(special=torch.from_numpy(vocabulary.special), **knobs | changes)


def parts(vocabulary, number: int) -> list[np.ndarray]:
    return [vocabulary.encode(part) for part in PARTS[:number]]


def whole(objective, batch, further):
    """The batch of an opening and of all that was read after it, at once."""
    columns = {
        name: np.concatenate([getattr(one, name)[0].numpy() for one in (batch, *further)])
        for name in ("tokens", "position", "order", *(["block"] if hasattr(batch, "block") else []))
    }
    columns["targets"] = np.full(len(columns["tokens"]), IGNORE)
    kind, fills = (type(batch), {"block": 0}) if hasattr(batch, "block") else (type(batch), {})
    return stack([columns], len(columns["tokens"]), kind, fills, source=batch.source)


@pytest.mark.parametrize("words", WRITERS)
@torch.no_grad()
def test_a_cache_changes_nothing(words, vocabulary, small_corpus):
    objective, model = make(words, vocabulary, small_corpus)
    opening = objective.opening(parts(vocabulary, WRITERS[words]))
    reader = Reader(objective, model, objective.writer(model, opening.batch))
    place, last, read = Place(opening.batch), reader(opening.batch), []
    for gap in opening.gaps:
        tokens = [*([] if gap.first is None else [gap.first]), *vocabulary.encode("ab").tolist()]
        for step, token in enumerate(tokens, start=int(gap.first is None)):
            read.append(place.next(token, gap, step))
            last = reader(read[-1])
            everything = whole(objective, opening.batch, read)
            again = objective.logits(model, objective.hidden(model, everything)[:, -1])
            torch.testing.assert_close(last, again, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("words", [*SAMPLED, "xlnet"])
@torch.no_grad()
def test_an_opening_is_what_training_shows(words, vocabulary, small_corpus):
    """What is written token by token after an opening is scored as `following` scores it at once."""
    objective, model = make(words, vocabulary, small_corpus)
    text, more = vocabulary.encode("We meet"), vocabulary.ordinary[[0, 5, 3]]
    nats = objective.nats(model, objective.following([np.append(text, more)], [len(text)]))
    opening = objective.opening([text])
    reader, place = Reader(objective, model, objective.writer(model, opening.batch)), Place(opening.batch)
    last = reader(opening.batch)
    (gap,) = opening.gaps
    last = last if gap.first is None else reader(place.next(gap.first, gap, 0))
    found = []
    for step, token in enumerate(more.tolist(), start=1):
        found.append(-float(last.log_softmax(-1)[0, token]))
        last = reader(place.next(token, gap, step))
    assert found == pytest.approx(nats[nats != 0].tolist(), rel=1e-4)


@pytest.mark.parametrize("words", WRITERS)
def test_gaps_are_written(words, vocabulary, small_corpus):
    objective, model = make(words, vocabulary, small_corpus)
    opening = objective.opening(parts(vocabulary, WRITERS[words]))
    done = write(objective, model, opening, greedy(vocabulary), 5, LENGTH)
    assert len(done.gaps) == len(opening.gaps)
    assert all(len(gap) <= 5 and not vocabulary.special[gap].any() for gap in done.gaps)
    again = write(objective, model, objective.opening(parts(vocabulary, WRITERS[words])), greedy(vocabulary), 5, LENGTH)
    assert done.gaps == again.gaps


def test_positions_end_at_the_length(vocabulary, small_corpus):
    objective, model = make("clm", vocabulary, small_corpus)
    opening = objective.opening(parts(vocabulary, 1))
    done = write(objective, model, opening, greedy(vocabulary), 1000, LENGTH)
    assert len(done.gaps[0]) <= LENGTH - opening.batch.tokens.shape[1] + 1


@pytest.mark.parametrize("name", sorted(choices("objective")))
def test_whoever_does_not_write_says_so(name, vocabulary, small_corpus):
    objective, _ = make(name, vocabulary, small_corpus)
    if objective.follows or name == "fix_the_bug":
        assert objective.opening(parts(vocabulary, 1)).gaps
    else:
        says = "--prompt must have a gap" if objective.fills else "RUN must be of an objective that writes text"
        with pytest.raises(LmxError, match=says):
            objective.opening(parts(vocabulary, 1))


@pytest.mark.parametrize("kind", ["parallel", "linear", "sequential"])
@pytest.mark.parametrize("ahead", [2, 4])
def test_drafts_change_no_token(kind, ahead, vocabulary, small_corpus):
    words = f"mtp objective.kind={kind} objective.ahead={ahead}"
    objective, model = make(words, vocabulary, small_corpus)
    text = np.append(vocabulary.eos, vocabulary.encode("We meet here"))
    sampler, stops = greedy(vocabulary), [vocabulary.eos]
    plain = write(objective, model, objective.opening([text[1:]]), sampler, 30, 10**6).gaps[0]
    drafted, forwards = speculate(objective, model, text, stops, sampler, 30, 10**6)
    assert drafted == plain
    assert 30 / ahead <= forwards <= 31


@pytest.mark.parametrize("kind", ["parallel", "linear", "sequential"])
@torch.no_grad()
def test_drafts_are_what_each_depth_predicts(kind, vocabulary, small_corpus):
    """With what was kept, after some drafts were right and some were not, as without."""
    objective, model = make(f"mtp objective.kind={kind} objective.ahead=4", vocabulary, small_corpus)
    tokens = np.append(vocabulary.eos, vocabulary.encode("We meet here")).tolist()
    drafts, read, told = objective.drafts(model), 0, []

    def choose(logits):
        told.append(logits[0])
        return logits.argmax(-1).tolist()

    for right in (0, 2, 1, 3, 0):
        drafts.read(tokens[read:-1])
        read = len(tokens) - 1
        drafts.keep(read)
        told.clear()
        found = drafts.draft(tokens, choose)
        known = np.array([*tokens, *found])
        later = np.stack([known[2 + depth :][:read] for depth in range(3)], axis=-1)
        row = {"tokens": known[:read], "targets": known[1 : read + 1], "order": np.arange(read)}
        batch = stack([row], read, DeepBatch, later=torch.from_numpy(later)[None])
        for depth, state in enumerate(objective.states(model, batch)[1:], start=1):
            part = objective.parts[depth - 1]
            weight = part.weight if kind == "linear" else objective.output_weight(model)
            torch.testing.assert_close(told[depth - 1], state[0, -1] @ weight.T, atol=1e-6, rtol=1e-6)
        drafts.read([tokens[-1], *found])
        drafts.keep(read)
        tokens += [*found[:right], int(vocabulary.ordinary[9])]


def test_drafts_end_where_the_length_does(vocabulary, small_corpus):
    objective, model = make("mtp", vocabulary, small_corpus)
    text = np.append(vocabulary.eos, vocabulary.encode("We meet here"))
    plain = write(objective, model, objective.opening([text[1:]]), greedy(vocabulary), 1000, LENGTH).gaps[0]
    assert speculate(objective, model, text, [vocabulary.eos], greedy(vocabulary), 1000, LENGTH)[0] == plain


def test_right_drafts_save_forwards(vocabulary, small_corpus, monkeypatch):
    objective, model = make("mtp objective.ahead=4 objective.kind=parallel", vocabulary, small_corpus)
    text = np.append(vocabulary.eos, vocabulary.encode("We meet here"))
    sampler = greedy(vocabulary)
    plain = write(objective, model, objective.opening([text[1:]]), sampler, 24, 10**6).gaps[0]
    told = [*text.tolist(), *plain, *[0] * 8]

    def right(drafts, tokens, choose):
        return told[len(tokens) : len(tokens) + 3]

    monkeypatch.setattr(Drafts, "draft", right)
    drafted, forwards = speculate(objective, model, text, [vocabulary.eos], sampler, 24, 10**6)
    assert drafted == plain
    assert forwards == 1 + -(-23 // 4)


def test_what_is_drawn(vocabulary):
    """Temperature, top-k and top-p against frequencies of 20,000 draws."""
    shares = torch.tensor([0.4, 0.3, 0.2, 0.1])
    places = torch.from_numpy(vocabulary.ordinary[:4])
    logits = torch.full((1, vocabulary.size), -torch.inf)
    logits[0, places] = shares.log()
    for changes, expected in (
        ({"temperature": 1.0}, shares),
        ({"temperature": 0.5}, shares**2 / (shares**2).sum()),
        ({"temperature": 1.0, "top_k": 2}, torch.tensor([4 / 7, 3 / 7, 0, 0])),
        ({"temperature": 1.0, "top_p": 0.65}, torch.tensor([4 / 7, 3 / 7, 0, 0])),
        ({"temperature": 1.0, "top_p": 0.3}, torch.tensor([1.0, 0, 0, 0])),
    ):
        drawn = torch.tensor(greedy(vocabulary, **changes)(logits.expand(20_000, -1)))
        found = torch.stack([(drawn == place).float().mean() for place in places])
        torch.testing.assert_close(found, expected.float(), atol=0.015, rtol=0)


def test_special_tokens_only_end(vocabulary):
    logits = torch.zeros(1, vocabulary.size)
    logits[0, vocabulary.eos] = 9.0
    assert greedy(vocabulary)(logits)[0] in vocabulary.ordinary
    assert greedy(vocabulary)(logits, [vocabulary.eos]) == [vocabulary.eos]


def test_masks_are_filled_the_surest_first(vocabulary, small_corpus):
    objective, model = make("mlm objective.wrap=false", vocabulary, small_corpus)
    assert isinstance(objective, Prediction)
    text = vocabulary.encode("We meet here")
    hidden = np.isin(np.arange(len(text)), (2, 5, 6))
    filled, candidates, forwards = fill(objective, model, text, hidden, greedy(vocabulary))
    assert forwards == 3
    assert (filled[~hidden] == text[~hidden]).all()
    assert not vocabulary.special[filled].any()
    assert [one[0].token for one in candidates] == filled[hidden].tolist()
    batch = objective.hiding([text], [hidden])
    with torch.no_grad():
        logits = objective.logits(model, objective.hidden(model, batch)[0, hidden])
    logits[:, vocabulary.special] = -torch.inf
    surest = int(logits.softmax(-1).amax(-1).argmax())
    assert filled[np.flatnonzero(hidden)[surest]] == int(logits[surest].argmax())

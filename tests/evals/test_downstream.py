"""Probes find what is there and nothing that is not; fine-tuning leaves the model alone; retrieval finds equals; all repeat."""

import json

import numpy as np
import pytest
import torch

from lmx.build import build
from lmx.config import load
from lmx.data.corpus import Corpus
from lmx.errors import LmxError
from lmx.evals import classify
from lmx.evals.embeddings import alone, corrected, paired, ranks, recall, reciprocal, spearman
from lmx.evals.features import Items
from lmx.evals.finetune import summary
from lmx.evals.yardstick import Row, Subject
from lmx.train.learner import Learner
from tests.conftest import documents

LENGTH = 32
SMALL = ["model=nano", "model.width=32", "model.heads=2", "model.kv_heads=1", "model.mlp=48", "model.depth=2"]


def silent(phase: str, share: float | None) -> None:
    pass


def yardstick(name: str, *more: str):
    return build(
        load([f"eval.yardsticks.{name}={name}", *(f"eval.yardsticks.{name}.{one}" for one in more)])["eval"][
            "yardsticks"
        ][name]
    )


@pytest.fixture(scope="module")
def corpus(vocabulary) -> Corpus:
    train, validation, test = (documents(vocabulary, number, 200, seed) for seed, number in enumerate((20, 6, 6)))
    return Corpus(train=train, validation=validation, test=test, vocabulary=vocabulary, fingerprint="random/words")


@pytest.fixture(scope="module")
def make(vocabulary, corpus):
    def subject(objective: str, *more: str) -> Subject:
        node = load([f"objective={objective}", *SMALL, f"length={LENGTH}", *more])

        def learner(seed: int = 0) -> Learner:
            torch.manual_seed(seed)
            model = build(node["model"], vocabulary_size=vocabulary.size)
            made = build(node["objective"], length=LENGTH, model=model, vocabulary=vocabulary, corpus=corpus)
            return Learner(model, made).eval()

        return Subject(
            learner=learner(),
            corpus=corpus,
            device=torch.device("cpu"),
            length=LENGTH,
            seed=0,
            untrained=lambda: learner(1),
        )

    return subject


def planted(folder, vocabulary, shuffled: bool, number: int = 240) -> str:
    """Random words; the class says which of two words, in which no other differs, is among them."""
    rng = np.random.default_rng(0)
    labels = np.arange(number) % 2
    rows = []
    for label in labels:
        words = ["".join(rng.choice(list("abcdefgh"), size=2)) for _ in range(5)]
        words[int(rng.integers(5))] = "xx" if label else "zz"
        rows.append(" ".join(words))
    labels = rng.permutation(labels) if shuffled else labels
    path = folder / "planted.jsonl"
    path.write_text("".join(json.dumps({"text": a, "label": int(b)}) + "\n" for a, b in zip(rows, labels, strict=True)))
    return str(path)


def by_metric(rows: list[Row]) -> dict[str, Row]:
    return {row.metric: row for row in rows}


@pytest.mark.parametrize("objective", ["clm", "mlm", "electra", "span"])
def test_a_probe_finds_a_planted_word(make, vocabulary, tmp_path, objective):
    subject, measure = make(objective), yardstick("probe", f"path={planted(tmp_path, vocabulary, False)}")
    rows = measure(subject, silent)
    assert by_metric(rows)["accuracy"].value > 0.95
    assert [row.value for row in measure(subject, silent)] == [row.value for row in rows], "deterministic"


def test_a_probe_is_at_chance_on_shuffled_labels(make, vocabulary, tmp_path):
    path = planted(tmp_path, vocabulary, True, number=600)
    row = by_metric(yardstick("probe", f"path={path}")(make("mlm"), silent))["accuracy"]
    assert abs(row.value - 0.5) < 3.5 * (0.25 / row.items) ** 0.5
    assert row.error == pytest.approx((0.25 / row.items) ** 0.5, rel=0.1)


def test_the_floor_is_the_highest(make, vocabulary, tmp_path):
    row = by_metric(yardstick("probe", f"path={planted(tmp_path, vocabulary, False)}")(make("clm"), silent))["accuracy"]
    assert row.floor_name in ("bag of words", "untrained")
    assert row.floor is not None
    assert row.floor > 0.95


def test_the_layer_is_chosen_on_the_development_split():
    """A layer that is perfect only on the test split is not chosen."""
    rng = np.random.default_rng(0)
    labels = [np.arange(60) % 2 for _ in range(3)]
    noise = [torch.from_numpy(rng.normal(size=(60, 4))).float() for _ in range(3)]
    told = [x + 9 * torch.from_numpy(y)[:, None] for x, y in zip(noise, labels, strict=True)]
    found = classify.probe([told[0], noise[1], told[2]], labels, 2, (1.0, 0.1))
    assert found.accuracy < 0.8
    assert classify.probe(told, labels, 2, (1.0, 0.1)).accuracy == 1


def test_logistic_regression_is_at_its_minimum():
    rng = np.random.default_rng(1)
    x, y = torch.from_numpy(rng.normal(size=(80, 5))).float(), torch.from_numpy(rng.integers(3, size=80))
    weights = classify.fit(x, y, torch.zeros(6, 3), 0.1).requires_grad_()
    loss = torch.nn.functional.cross_entropy(x @ weights[:-1] + weights[-1], y) + 0.05 * weights[:-1].pow(2).sum()
    (slope,) = torch.autograd.grad(loss, weights)
    assert slope.abs().max() < 1e-3


def test_scores_by_hand():
    labels, predicted = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0])
    assert classify.accuracy(predicted, labels) == pytest.approx(3 / 5)
    assert classify.macro_f1(predicted, labels) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert classify.mcc(predicted, labels) == pytest.approx((2 * 1 - 1 * 1) / (3 * 3 * 2 * 2) ** 0.5)
    assert classify.mcc(np.zeros(5, dtype=int), labels) == 0
    apart, together = classify.error(predicted, labels, np.arange(5)), classify.error(predicted, labels, np.zeros(5))
    assert apart == pytest.approx((0.6 * 0.4 / 4) ** 0.5)
    assert together is None


@pytest.mark.parametrize("objective", ["clm", "mlm"])
def test_finetuning_learns_changes_nothing_and_repeats(make, vocabulary, tmp_path, objective):
    subject = make(objective)
    before = {name: value.clone() for name, value in subject.learner.state_dict().items()}
    knobs = [f"path={planted(tmp_path, vocabulary, False)}", "items=120", "epochs=8", "seeds=2", "lr=3e-3"]
    measure = yardstick("finetune", *knobs)
    with torch.no_grad():  # as in lmx evaluate
        rows, again = ([row.value for row in measure(subject, silent)] for _ in range(2))
    assert rows == again
    assert rows[0] > 0.8
    after = subject.learner.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(value.grad is None for value in subject.learner.parameters())
    assert not subject.learner.training


def test_summaries(vocabulary, make):
    hidden = torch.arange(2 * 4 * 1.0).view(2, 4, 1)
    learner = make("mlm", "objective.wrap=true").learner
    batch = learner.objective.reading([np.array([60, 61]), np.array([60])])  # [CLS] a b [SEP], [CLS] a [SEP]
    own = batch.targets >= 0
    assert summary(hidden, batch, own, "last")[:, 0].tolist() == [3, 6]
    assert summary(hidden, batch, own, "first")[:, 0].tolist() == [0, 4]
    assert summary(hidden, batch, own, "mean")[:, 0].tolist() == [1.5, 5]


def test_retrieval_is_perfect_of_equals_and_fair_to_constants():
    rng = np.random.default_rng(0)
    half = torch.from_numpy(rng.normal(size=(20, 8)))
    items = alone([(np.array([1]), np.array([1]))] * 20, np.arange(20), list(range(20)))
    assert recall(torch.stack([half, half], 1), items).tolist() == [1] * 20
    assert ranks(torch.ones(20, 2, 8), items).tolist() == [10.5] * 20, "a constant finds nothing"
    found = ranks(torch.stack([half, torch.from_numpy(rng.normal(size=(20, 8)))], 1), items)
    assert 5 < found.mean() < 15
    assert reciprocal(torch.stack([half, half], 1), items).mean() == 1


def test_the_yardstick_finds_duplicated_passages(make, corpus, monkeypatch):
    """Where each passage's neighbour is the passage itself, every model finds it."""
    from lmx.evals import embeddings

    whole = embeddings.passages
    monkeypatch.setattr(embeddings, "passages", lambda *a: [(group, (first, first)) for group, (first, _) in whole(*a)])
    rows = yardstick("embeddings", "items=16", "tokens=12")(make("clm"), silent)
    assert {row.scorer for row in rows} == {"mean", "mean_corrected"}
    assert [row.value for row in rows if row.metric in ("recall@1", "mrr")] == [1.0] * 4


def test_random_neighbours_are_not_found(make):
    rows = yardstick("embeddings", "items=40", "tokens=12", "every_layer=true")(make("mlm"), silent)
    found = {row.name: row for row in rows}
    assert found["retrieval/recall@1/mean"].value < 0.3
    assert {f"retrieval/layer {layer}/mrr/mean" for layer in range(3)} < set(found)


def test_correction_removes_mean_and_direction():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(50, 2, 6))).float()
    x[..., 0] = x[..., 0] * 20 + 7
    flat = corrected(x, x, 1).flatten(0, 1)
    assert flat.mean(0).abs().max() < 1e-4
    assert flat[:, 0].var() < 1
    assert corrected(x, x, 0).flatten(0, 1)[:, 0].var() > 100


def test_spearman_by_hand():
    labels = np.array([1.0, 2.0, 2.0, 4.0])
    angles = torch.tensor([1.2, 0.9, 0.4, 0.1])  # cosine grows as the angle falls
    vectors = torch.stack([torch.tensor([[1.0, 0.0]]).expand(4, 2), torch.stack([angles.cos(), angles.sin()], 1)], 1)
    items = alone([(np.array([1]), np.array([1]))] * 4, labels, [0, 1, 2, 3])
    a, b = np.array([1, 2, 3, 4]), np.array([1, 2.5, 2.5, 4])
    assert spearman(vectors, items)[0] == pytest.approx(np.corrcoef(a, b)[0, 1])


def test_similarity_from_a_file(make, tmp_path, vocabulary):
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(150):
        words = ["".join(rng.choice(list("abcdefgh"), size=3)) for _ in range(6)]
        kept = int(rng.integers(7))
        other = words[:kept] + ["".join(rng.choice(list("rstuvwxyz"), size=3)) for _ in range(6 - kept)]
        rows.append({"sentence1": " ".join(words), "sentence2": " ".join(other), "score": kept})
    path = tmp_path / "sts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = by_metric(yardstick("embeddings", f"path={path}")(make("mlm"), silent))
    assert found["spearman"].value > 0.6
    with pytest.raises(LmxError, match="embeddings.label must name a field of numbers"):
        yardstick("embeddings", f"path={path}", "label=sentence1")(make("mlm"), silent)


def test_the_default_tasks_have_rows(make):
    subject = make("clm")
    names = {row.task for row in yardstick("probe", "items=24", "tokens=16")(subject, silent)}
    assert names <= {"sentence_order", "next_passage"}, "the corpus is not the embedded one"
    assert "next_passage" in names


def test_pairs_and_items_agree():
    items = alone([(np.array([1, 2]), np.array([3]))], np.array([5]), [0])
    assert isinstance(items, Items)
    assert paired(torch.arange(2.0).view(1, 2, 1, 1)).shape == (1, 1, 2, 1)

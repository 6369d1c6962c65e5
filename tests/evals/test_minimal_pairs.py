"""The embedded pairs have no shortcut; a causal score is what transformers computes; files, ties and the mean of phenomena."""

import json
import re
from collections import Counter

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lmx.build import build
from lmx.config import choices, load
from lmx.data.noise import generator
from lmx.data.sources import Sotu
from lmx.data.tokenizer import BPE
from lmx.errors import DataError
from lmx.evals.grammar import TEMPLATES, Pair, embedded
from lmx.evals.minimal_pairs import MinimalPairs, error, mean, wins
from lmx.evals.scoring import Following
from lmx.evals.yardstick import Subject
from lmx.train.learner import Learner

PAIRS = list(embedded(40))
SMALL = [
    "model=nano",
    "model.width=32",
    "model.heads=4",
    "model.kv_heads=2",
    "model.mlp=48",
    "model.depth=2",
    "length=128",
]


def silent(phase: str, share: float | None) -> None:
    pass


def yardstick(**knobs) -> MinimalPairs:
    return MinimalPairs(**{"path": None, "split": "train", "phenomenon": "linguistics_term", "pairs": 4} | knobs)


@pytest.fixture
def make(vocabulary, small_corpus):
    def subject(objective: str, *more: str) -> Subject:
        torch.manual_seed(0)
        node = load([f"objective={objective}", *SMALL, *more])
        model = build(node["model"], vocabulary_size=vocabulary.size)
        made = build(node["objective"], length=128, model=model, vocabulary=vocabulary, corpus=small_corpus)
        learner = Learner(model, made).eval()
        return Subject(
            learner=learner, corpus=small_corpus, device=torch.device("cpu"), length=128, seed=0,
            untrained=lambda: learner,
        )  # fmt: skip

    return subject


def by_phenomenon() -> dict[str, list[Pair]]:
    return {name: [pair for pair in PAIRS if pair.phenomenon == name] for name in TEMPLATES}


def test_the_grammar_is_varied_and_always_the_same():
    assert list(embedded(40)) == PAIRS
    assert Counter(pair.phenomenon for pair in PAIRS) == dict.fromkeys(TEMPLATES, 40)
    assert len({(pair.good, pair.bad) for pair in PAIRS}) == len(PAIRS)
    for pair in PAIRS:
        assert pair.good != pair.bad
        assert re.fullmatch(r"[A-Z][A-Za-z ]+[.?]", pair.good), "a slot was not filled"
        assert re.fullmatch(r"[A-Z][A-Za-z ]+[.?]", pair.bad)
        assert "  " not in pair.good + pair.bad
        assert not re.search(r"\ba [aeiou]", pair.good)


def test_its_words_are_known_to_the_embedded_corpus():
    source = Sotu(validation=0.05, test=0.05, passage=None, max_tokens=None)
    known = Counter(word for _, text in source.read() for word in re.findall(r"\w+", text))
    used = {word for pair in embedded(100) for word in re.findall(r"\w+", pair.good)}
    assert not [word for word in used if not known[word] + known[word.capitalize()]]


@pytest.mark.parametrize("seed", range(3))
def test_the_frequency_of_words_tells_nothing(vocabulary, seed):
    """Whatever the frequencies, the vocabulary, and the phenomenon."""
    pieces = BPE(size=768).train([pair.good for pair in PAIRS], 10_000)
    for one in (vocabulary, pieces):
        nats = generator(seed, "test").exponential(size=one.size)
        for name, pairs in by_phenomenon().items():
            sums = [[nats[one.encode(text)].sum() for text in (pair.good, pair.bad)] for pair in pairs]
            ahead = np.array([bad - good for good, bad in sums])
            assert wins(ahead).mean() == 0.5, name
            assert ahead.mean() == pytest.approx(0, abs=1e-9)


def test_length_tells_nothing(vocabulary):
    pieces = BPE(size=768).train([pair.good for pair in PAIRS], 10_000)
    for size in (len, lambda text: len(pieces.encode(text)), lambda text: len(text.split())):
        for name, pairs in by_phenomenon().items():
            assert wins(np.array([size(pair.bad) - size(pair.good) for pair in pairs])).mean() == 0.5, name


def test_parity_with_transformers(make, vocabulary):
    """-log p of whole sentences after end of text, the same weights, 1e-4 nats (BLiMP as the field computes it)."""
    subject = make("clm", "model.embedding_norm=false")
    ours, objective = subject.learner.model, subject.learner.objective
    with torch.no_grad():
        for parameter in subject.learner.parameters():
            parameter.normal_(std=0.2)
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary.size,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=48,
            rms_norm_eps=1e-6,
            rope_theta=10000.0,
            tie_word_embeddings=False,
        )
    ).eval()
    theirs.load_state_dict(llama(ours, objective, heads=4, kv_heads=2))
    texts = [vocabulary.encode(text) for pair in PAIRS[::20] for text in (pair.good, pair.bad)]
    found = Following(subject)(texts, [0] * len(texts), silent)
    for nats, text in zip(found, texts, strict=True):
        tokens = torch.from_numpy(np.append(vocabulary.eos, text))
        with torch.no_grad():
            logs = theirs(tokens[None]).logits[0, :-1].double().log_softmax(-1)
        assert nats == pytest.approx(float(-logs.gather(1, tokens[1:, None]).sum()), abs=1e-4)


def llama(model, objective, *, heads: int, kv_heads: int) -> dict[str, torch.Tensor]:
    """Our weights under the names of LlamaForCausalLM."""
    own = {
        "model.embed_tokens.weight": model.embedding.weight,
        "model.norm.weight": model.norm.weight,
        "lm_head.weight": objective.output_weight(model),
    }
    for number, block in enumerate(model.blocks):
        here, width = f"model.layers.{number}", model.width // heads
        q, k, v = block.attention_in.weight.split([heads * width, kv_heads * width, kv_heads * width])
        gate, up = block.mlp_in.weight.chunk(2)
        own |= {
            f"{here}.input_layernorm.weight": block.attention_norm.weight,
            f"{here}.post_attention_layernorm.weight": block.mlp_norm.weight,
            f"{here}.self_attn.q_proj.weight": q,
            f"{here}.self_attn.k_proj.weight": k,
            f"{here}.self_attn.v_proj.weight": v,
            f"{here}.self_attn.o_proj.weight": block.attention_out.weight,
            f"{here}.mlp.gate_proj.weight": gate,
            f"{here}.mlp.up_proj.weight": up,
            f"{here}.mlp.down_proj.weight": block.mlp_down.weight,
        }
    return own


@pytest.mark.parametrize("objective", ["clm", "mlm", "mlm_uniform", "electra", "ul2"])
def test_rows_of_each_scorer(make, objective):
    subject = make(objective)
    found = yardstick()(subject, silent)
    assert found == yardstick()(subject, silent), "deterministic"
    for scorer in {row.scorer for row in found}:
        rows = {(row.task, row.metric): row for row in found if row.scorer == scorer}
        assert set(rows) == {(task, metric) for task in ("", *TEMPLATES) for metric in ("accuracy", "margin")}
        assert rows["", "accuracy"].items == 4 * len(TEMPLATES)
        assert (rows["", "accuracy"].floor, rows["", "accuracy"].floor_name) == (0.5, "chance")
        parts = [rows[task, "accuracy"].value for task in TEMPLATES]
        assert rows["", "accuracy"].value == pytest.approx(np.mean(parts))


def test_a_model_of_equal_chances_is_at_the_floor(make):
    subject = make("clm")
    torch.nn.init.zeros_(subject.learner.objective.head.weight)
    rows = yardstick()(subject, silent)
    assert {row.value for row in rows if row.metric == "accuracy"} == {0.5}


def test_who_knows_grammar_is_right(make, vocabulary, monkeypatch):
    subject = make("clm")
    good = {vocabulary.encode(pair.good).tobytes() for pair in embedded(4)}
    monkeypatch.setattr(
        Following,
        "__call__",
        lambda self, texts, contexts, report: np.array([5.0 - 3 * (text.tobytes() in good) for text in texts]),
    )
    rows = yardstick()(subject, silent)
    assert {row.metric: row.value for row in rows} == {"accuracy": 1, "margin": 3}


def blimp(path, rows) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def row(good: str, bad: str, **more) -> dict[str, str]:
    return {"sentence_good": good, "sentence_bad": bad, **more}


def test_files(tmp_path, make):
    """Groups by field or file; floors that see a shortcut; files that are something else are passed over."""
    blimp(tmp_path / "islands.jsonl", [row("Go on.", "Go on there.")] * 3)
    blimp(tmp_path / "mixed.jsonl", [row("A b c.", "A b.", linguistics_term="order")] * 9)
    blimp(tmp_path / "summary.jsonl", [{"score": 1}])
    one = yardstick(path=str(tmp_path))
    assert {name: len(pairs) for name, pairs in one.chosen().items()} == {"islands": 3, "order": 4}
    rows = {(row.task, row.metric): row for row in one(make("clm"), silent)}
    assert (rows["islands", "accuracy"].floor, rows["order", "accuracy"].floor) == (1.0, 0.5)
    assert rows["", "accuracy"].items == 7


def test_too_long_for_the_model(tmp_path, make):
    path = blimp(tmp_path / "long.jsonl", [row("word " * 40, "word " * 41), row("Short.", "Shore.")])
    assert {row.items for row in yardstick(path=path)(make("clm"), silent)} == {1}


@pytest.mark.parametrize(
    ("rows", "said"),
    [([{"good": "x"}], "no field 'sentence_good'"), ([row("x", 3)], "'sentence_bad' must be text")],
)
def test_no_pairs(tmp_path, make, rows, said):
    path = blimp(tmp_path / "wrong.jsonl", rows)
    with pytest.raises(DataError, match=f"line 1: .*{said}"):
        yardstick(path=path)(make("clm"), silent)


def test_nothing_there(tmp_path, make):
    with pytest.raises(DataError, match=r"^minimal_pairs\.path must be a file, folder or glob that exists"):
        yardstick(path=str(tmp_path / "none"))(make("clm"), silent)
    with pytest.raises(DataError, match=r"^minimal_pairs\.path must be null or local where .* got hub:nyu-mll/blimp"):
        yardstick(path="hub:nyu-mll/blimp")(make("clm"), silent)


def test_means_of_means():
    values = {"a": np.array([1.0, 1, 1, 0]), "b": np.array([0.0, 1])}
    assert mean(["a", "b"], values) == pytest.approx((0.75 + 0.5) / 2)
    assert error(["a", "b"], values) == pytest.approx(np.sqrt(0.25 / 4 + 0.5 / 2) / 2)
    assert error(["a"], {"a": np.ones(1)}) is None
    assert wins(np.array([2.0, 1e-6, -1e-6, -2.0])).tolist() == [1, 0.5, 0.5, 0]


def test_it_is_listed():
    assert "minimal_pairs" in choices("eval/yardstick")

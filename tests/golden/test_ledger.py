"""What a sample of 512 positions buys under each objective, against figures that follow from the papers' arithmetic.

T5's 568 and 114 are published; ELECTRA and BERT ask 15 % of the text; UL2's mean is that of its seven denoisers, S from a uniform
split; GLM's from n + 2 K <= 512 with N = 0.15 n hidden tokens in K = N / 3 spans.
"""

import pytest

from lmx.build import build
from lmx.config import plain
from lmx.data.corpus import prepare
from lmx.ledger import entry, quiet

MODEL = [
    "model=nano",
    "model.width=32",
    "model.heads=2",
    "model.kv_heads=1",
    "model.mlp=48",
    "model.depth=2",
    "length=512",
    "data.passage=null",  # a stretch of one document fills a sample
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    config = plain(MODEL)
    return prepare(build(config["data"]), build(config["tokenizer"]), quiet)


@pytest.mark.parametrize(
    ("words", "tokens", "positions", "asked"),
    [
        ("clm", 512, 512, 512),
        ("roberta", 509, 512, 76),
        ("mlm objective.rate=0.3", 509, 512, 153),
        ("princeton40", 509, 512, 204),
        ("segment_pair", 509, 512, 76),
        ("t5", 568, 512 + 114, 114),
        ("span objective.layout=prefix objective.rate=0.15", 464, 512, 94),
        ("ul2 objective.layout=encoder_decoder", 706, None, 299),
        ("bart", 510, None, 512),
        ("glm", 467, 512, 92),
        ("xlnet", 509, 512, 85),
        ("deepseek_mtp", 512, 512, 1023),
        ("fim objective.level=token objective.rate=1.0", 508, 512, 511),
        ("mlm_uniform", 512, 512, 512),
    ],
)
def test_tokens_positions_and_predictions(corpus, words, tokens, positions, asked):
    found = entry(plain([f"objective={words.split()[0]}", *words.split()[1:], *MODEL]), corpus, 32)
    near = 0.03 if words.startswith(("ul2", "glm", "xlnet", "mlm ", "roberta")) else 0.01
    assert found["tokens"] == pytest.approx(tokens, rel=near)
    assert positions is None or found["positions"] == positions
    assert sum(found["predictions"].values()) == pytest.approx(asked, rel=near)


def test_what_is_random_is_measured_to_its_mean(corpus):
    """Half of a text is target on average, but from none of it to all: of 32 samples, a tenth more or less is no surprise."""
    found = entry(plain(["objective=prefix_lm", *MODEL]), corpus)
    assert found["predictions"]["loss"] == pytest.approx(256.5, rel=0.03)


def test_electra_asks_every_token(corpus):
    found = entry(plain(["objective=electra", *MODEL]), corpus, 32)
    assert found["predictions"]["loss"] == pytest.approx(76, rel=0.1)  # places drawn with replacement
    assert found["predictions"]["trunk"] / found["tokens"] == pytest.approx(1, abs=0.01)


def test_operations_are_those_of_transformers_and_attention(corpus):
    """6 for each of the parameters that transformers counts in a Llama of this shape, and 4 x width a pair seen, three times."""
    transformers = pytest.importorskip("transformers")
    length, width, depth = 512, 32, 2
    found = entry(plain(["objective=clm", *MODEL, "model.tied=false"]), corpus, 32)
    llama = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=corpus.vocabulary.size, hidden_size=width, num_hidden_layers=depth, intermediate_size=48,
            num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=False,
        )
    )  # fmt: skip
    theirs = 6 * llama.num_parameters(exclude_embeddings=True) * length
    attention = 3 * 4 * width * depth * length * (length + 1) / 2
    assert found["flops_per_token"] * found["tokens"] == pytest.approx(theirs + attention, rel=1e-3)

"""lm-eval gets the numbers that it gets of a model of transformers with the same weights; tasks of one's own; what is refused."""

import json
import sys

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lmx.build import build
from lmx.errors import LmxError
from lmx.evals.lm_eval import LMEval
from lmx.evals.lm_eval_model import Model
from lmx.evals.scoring import scorers
from lmx.evals.write import Sampler, write
from tests.evals.test_minimal_pairs import llama

PAIRS = [
    ("The men are here.", "The men is here."),
    ("Nobody has ever left.", "Everybody has ever left."),
    ("She likes herself.", "She likes himself."),
]
FOLLOWERS = ["clm", "prefix_lm", "xlnet", "mtp", "ul2"]


def asked(kind: str, *arguments) -> list[Instance]:
    return [Instance(kind, {}, one, number, task_name="test") for number, one in enumerate(arguments)]


def model(subject, silent) -> Model:
    return Model(subject, scorers(subject, whole=False)[0], silent)


@pytest.fixture
def both(new_subject, vocabulary, silent):
    """The same weights here and in a Llama of transformers, which begins every text with an end of text."""
    subject = new_subject("clm", "model.embedding_norm=false", length=64)
    with torch.no_grad():
        for parameter in subject.learner.parameters():
            parameter.normal_(std=0.2)
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary.size, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
            intermediate_size=48, rms_norm_eps=1e-6, max_position_embeddings=64, tie_word_embeddings=False,
        )
    )  # fmt: skip
    theirs.load_state_dict(llama(subject.learner.model, subject.learner.objective, heads=2, kv_heads=1))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=vocabulary.tokenizer)
    end = tokenizer.convert_ids_to_tokens(vocabulary.eos)
    tokenizer.add_special_tokens({"eos_token": end, "bos_token": end, "pad_token": end})
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{end} $A", special_tokens=[(end, vocabulary.eos)]
    )
    other = HFLM(
        pretrained=theirs.double().eval(), tokenizer=tokenizer, add_bos_token=True, max_length=63, batch_size=1
    )
    return model(subject, silent), other


def test_log_probabilities_are_those_of_lm_eval(both):
    """Whole sentences (BLiMP), and continuations, one of which begins in a context that ends in a space; 1e-4 nats."""
    ours, theirs = both
    whole = asked("loglikelihood", *(("", text) for pair in PAIRS for text in pair))
    ends = asked("loglikelihood", *(tuple(text.rsplit(" ", 1)) for text, _ in PAIRS), ("She likes ", "herself."))
    for requests in (whole, ends):
        found, wanted = ours.loglikelihood(requests), theirs.loglikelihood(requests, disable_tqdm=True)
        assert [nats for nats, _ in found] == pytest.approx([nats for nats, _ in wanted], abs=1e-4)
        assert [best for _, best in found] == [best for _, best in wanted]


def test_long_texts_are_read_in_windows(new_subject, silent):
    """Each token once; a later window sees what is before it."""
    subject = new_subject("clm")
    ours, vocabulary = model(subject, silent), subject.corpus.vocabulary
    text = " ".join(text for pair in PAIRS for text in pair)
    tokens, size = vocabulary.encode(text), subject.length - 9
    assert len(tokens) > 2 * size
    score = scorers(subject, whole=False)[0].score
    expected = score([tokens[:size]], [0], silent)[0]
    for begin in range(size, len(tokens), size):
        end = min(begin + size, len(tokens))
        first = end - size - 1  # lm-eval lets the last window reach back
        expected += score([tokens[first:end]], [begin - first], silent)[0]
    assert ours.loglikelihood_rolling(asked("loglikelihood_rolling", (text,)))[0] == pytest.approx(-expected)


@pytest.mark.parametrize("objective", FOLLOWERS)
def test_what_a_model_writes_is_the_most_likely(new_subject, silent, objective):
    subject = new_subject(objective, length=64)
    ours, vocabulary, made = model(subject, silent), subject.corpus.vocabulary, subject.learner.objective
    prompt = vocabulary.encode("The men")
    logits = torch.from_numpy(np.zeros(vocabulary.size, dtype=bool))  # nothing is forbidden
    sampler = Sampler(special=logits, temperature=0, top_k=None, top_p=1, generator=torch.Generator())
    opening = made.opening([prompt])
    written = write(made, subject.learner.model, opening, sampler, 5, 64).gaps[0]
    other = [*written[:2], (written[2] + 1) % vocabulary.size, *written[3:]]
    found = ours._loglikelihood_tokens([(("", ""), prompt.tolist(), list(one)) for one in (written, other)])
    assert [best for _, best in found] == [True, False]


def files(tmp_path) -> str:
    """A task of multiple choice and one that asks for the most likely word."""
    rows = [{"good": good, "bad": bad} for good, bad in PAIRS]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shared = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
        "test_split": "test",
    }
    pairs = {"task": "pairs", "output_type": "multiple_choice", "doc_to_text": "", "doc_to_target": 0}
    last = {"task": "last", "output_type": "loglikelihood", "doc_to_text": "{{good.rsplit(' ', 1)[0]}}"}
    pairs |= {"doc_to_choice": "{{[good, bad]}}", "metric_list": [{"metric": "acc"}]}
    last |= {
        "doc_to_target": "{{' ' + good.rsplit(' ', 1)[1]}}",
        "metric_list": [{"metric": "acc"}, {"metric": "perplexity"}],
    }
    for task in (pairs, last):
        (tmp_path / f"{task['task']}.yaml").write_text(json.dumps(task | shared))
    return str(tmp_path)


def harness(tasks: str, **knobs) -> LMEval:
    return LMEval(**{"tasks": tasks, "shots": None, "limit": None} | knobs)


def test_tasks_of_ones_own(new_subject, silent, tmp_path):
    subject = new_subject("clm", length=64)
    rows = {(row.task, row.metric): row for row in harness(files(tmp_path))(subject, silent)}
    assert set(rows) == {("pairs", "acc"), ("last", "acc"), ("last", "perplexity")}
    score = scorers(subject, whole=False)[0].score
    encode = subject.corpus.vocabulary.encode
    right = [np.diff(score([encode(good), encode(bad)], [0, 0], silent))[0] > 0 for good, bad in PAIRS]
    assert rows["pairs", "acc"].value == pytest.approx(np.mean(right))
    assert (rows["pairs", "acc"].items, rows["pairs", "acc"].unit, rows["pairs", "acc"].scorer) == (
        3,
        "share",
        "causal",
    )
    assert rows["last", "perplexity"].better == "lower"
    assert rows["pairs", "acc"] in harness(f"{tmp_path}/pairs.yaml", limit=3)(subject, silent)


def test_who_hides_tokens_is_asked_to_choose_only(new_subject, silent, tmp_path):
    subject = new_subject("mlm", length=64)
    files(tmp_path)
    (row,) = harness(f"{tmp_path}/pairs.yaml")(subject, silent)
    assert (row.scorer, row.metric) == ("l2r_fill", "acc")
    with pytest.raises(LmxError, match="most likely continuation for MLM, got last"):
        harness(f"{tmp_path}/last.yaml")(subject, silent)


def test_mistakes(new_subject, silent, tmp_path):
    subject = new_subject("clm", length=64)
    (tmp_path / "empty.yaml").write_text("group: nothing\n")
    with pytest.raises(LmxError, match="names that lm-eval knows, or files, got 'nonesuch'"):
        harness("nonesuch")(subject, silent)
    with pytest.raises(LmxError, match="a key `task`"):
        harness(f"{tmp_path}/empty.yaml")(subject, silent)
    with pytest.raises(LmxError, match="must name a task"):
        harness(" , ")


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    for name in ("lmx.evals.lm_eval", "lmx.evals.lm_eval_model"):
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(LmxError, match=r"LMEval needs the package lm_eval\. Type pip install lm_eval\."):
        build({"_target_": "lmx.evals.lm_eval.LMEval", "tasks": "blimp", "shots": None, "limit": None})

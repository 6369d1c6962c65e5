"""No document or text is on both sides of a task; labels are what they should be; files are read as they say."""

import json

import numpy as np
import pytest
import torch

from lmx.data.corpus import Corpus, Documents
from lmx.errors import LmxError
from lmx.evals import brown, tasks
from lmx.evals.labelled import apart, labelled
from lmx.evals.records import records
from lmx.evals.tasks import ERAS, PARTIES, embedded, folds, known_speeches, next_passage, sentence_order
from lmx.evals.yardstick import Subject

COLUMNS = {"text": "text", "pair": None, "label": "label"}


def subject_on(corpus: Corpus) -> Subject:
    learner = torch.nn.Module()  # no task looks at the model
    return Subject(
        learner=learner, corpus=corpus, device=torch.device("cpu"), length=512, seed=0, untrained=lambda: learner  # type: ignore[arg-type]
    )  # fmt: skip


def split_of(vocabulary, texts: list[str]) -> Documents:
    encoded = [np.append(vocabulary.encode(text), vocabulary.eos) for text in texts]
    edges = np.cumsum([0, *map(len, encoded)])
    return Documents(tokens=np.concatenate(encoded), offsets=edges, bytes=np.array([len(text) for text in texts]))


@pytest.fixture(scope="module")
def speeches(vocabulary) -> Subject:
    """Every eighth speech of the embedded corpus, on bytes."""
    texts = [text for _, _, text in list(known_speeches().values())[::8]]
    texts = [texts[place] for place in np.random.default_rng(0).permutation(len(texts))]
    splits = [split_of(vocabulary, part) for part in (texts[:-8], texts[-8:-4], texts[-4:])]
    return subject_on(Corpus(*splits, vocabulary=vocabulary, fingerprint="speeches"))


def test_no_speech_is_in_two_splits(speeches, vocabulary):
    found = {task.name: task for task in embedded(speeches, 64, 400)}
    assert set(found) == {"era", "party", "sentence_order", "next_passage"}
    texts = [text for _, _, text in known_speeches().values()]
    for task in found.values():
        owners = {}
        for split, items in task.splits.items():
            written = [
                vocabulary.decode(text[span[0] : span[1]])
                for text, spans in zip(items.texts, items.spans, strict=True)
                for span in spans
            ]
            own = [{number for number, text in enumerate(texts) if one in text} for one in written]
            owners[split] = set().union(*(one for one in own if len(one) == 1))
            assert len(owners[split]) > 1
        assert not owners["train"] & owners["dev"]
        assert not (owners["train"] | owners["dev"]) & owners["test"], task.name


def test_folds_test_on_what_was_not_trained_on(small_corpus):
    found = folds(subject_on(small_corpus))
    assert all(documents is small_corpus.train for split in ("train", "dev") for documents, _ in found[split])
    assert all(documents is not small_corpus.train for documents, _ in found["test"])
    assert not {n for _, n in found["train"]} & {n for _, n in found["dev"]}


def test_eras_and_parties_are_those_of_the_metadata(speeches):
    years = {text: (year, party) for year, party, text in known_speeches().values()}
    for task in embedded(speeches, 64, 400):
        if task.name not in ("era", "party"):
            continue
        for items in task.splits.values():
            for text, label in zip(items.texts, items.labels, strict=True):
                written = speeches.corpus.vocabulary.decode(text)
                true = [value for whole, value in years.items() if written in whole]
                if len(true) == 1:
                    year, party = true[0]
                    assert label == (
                        sum(year >= border for border in ERAS) if task.name == "era" else PARTIES.index(party)
                    )


def test_other_corpora_have_no_speeches(small_corpus):
    assert {task.name for task in embedded(subject_on(small_corpus), 16, 16)} <= {"sentence_order", "next_passage"}


def test_pairs_are_neighbours_or_not(speeches):
    documents = folds(speeches)["train"]
    wholes = [split[number].tobytes() for split, number in documents]
    kind = speeches.corpus.train.tokens.dtype
    for make in (sentence_order, next_passage):
        items = make(speeches, documents, 60, 300)
        assert 20 < items.labels.sum() < 40
        for text, spans, label in zip(items.texts, items.spans, items.labels, strict=True):
            first, second = (text[begin:end].astype(kind) for begin, end in spans)
            as_it_is = any(np.concatenate([first, second]).tobytes() in whole for whole in wholes)
            assert as_it_is == (label == 0)
            if make is sentence_order and label:
                assert any(np.concatenate([second, first]).tobytes() in whole for whole in wholes)


def write(folder, name: str, rows: list) -> str:
    path = folder / name
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def sentences(number: int, kind: str) -> list[dict]:
    return [{"text": f"{kind} says {n}", "label": kind} for n in range(number)]


def test_one_file_is_split_by_text(tmp_path, small_corpus):
    rows = [*sentences(60, "yes"), *sentences(60, "no"), *sentences(10, "yes")]
    path = write(tmp_path, "talk.jsonl", rows)
    task = labelled(subject_on(small_corpus), "probe", path, COLUMNS, 1000, 32)[0]
    texts = {split: {text.tobytes() for text in items.texts} for split, items in task.splits.items()}
    assert task.name == "talk"
    assert not texts["train"] & texts["dev"]
    assert not texts["train"] & texts["test"]
    assert not texts["dev"] & texts["test"]
    assert sum(map(len, texts.values())) == 120


def test_splits_are_those_of_the_names():
    train = [[f"a {n}", n % 2] for n in range(50)]
    found = apart({"train": [*train, ["same", 1]], "dev": [["same", 0], ["b", 1]]})
    assert found["test"] == [["same", 0], ["b", 1]], "without a test file, the development file is tested on"
    assert ["same", 1] not in found["train"] + found["dev"], "what is tested on is nowhere else"
    assert len(found["train"]) + len(found["dev"]) == 50
    found = apart({"train": train, "dev": [["b", 1]], "test": [["c", -1]]})
    assert found["test"] == [["b", 1]], "a hidden label is none"


def test_tsv_with_and_without_a_header(tmp_path):
    (tmp_path / "train.tsv").write_text('sentence\tlabel\nHe said "no\t1\n')
    found = records("probe", str(tmp_path / "train.tsv"), {"probe.text": "sentence", "probe.label": "label"})
    assert found == {"train": [['He said "no', "1"]]}
    found = records("probe", str(tmp_path / "train.tsv"), {"probe.text": 0, "probe.label": 1})
    assert found == {"train": [["sentence", "label"], ['He said "no', "1"]]}
    with pytest.raises(LmxError, match="probe.text must be a field of .*, got sentense"):
        records("probe", str(tmp_path), {"probe.text": "sentense", "probe.label": "label"})


def test_words_have_the_tags_of_their_own_tokens(tmp_path, small_corpus, vocabulary):
    rows = [{"text": ["The", "dog", str(n)], "label": ["det", "noun", "num"]} for n in range(40)]
    task = labelled(subject_on(small_corpus), "probe", write(tmp_path, "tags.jsonl", rows), COLUMNS, 60, 32)[0]
    items = task.splits["train"]
    assert len(items) == 60
    written = [
        vocabulary.decode(items.texts[owner][a:b]) for owner, [[a, b]] in zip(items.owner, items.spans, strict=True)
    ]
    kinds = {
        label: {word.strip() for word, one in zip(written, items.labels, strict=True) if one == label}
        for label in range(3)
    }
    assert {"The"} in kinds.values()
    assert {"dog"} in kinds.values()


def test_brown_is_read_with_simple_tags(tmp_path, small_corpus):
    folder = tmp_path / "brown"
    folder.mkdir()
    for place, genre in enumerate("abcd" * 8):
        (folder / f"c{genre}{place:02}").write_text("\n\nThe/at dog's/nn$ Hill/nn-tl ran/vbd ./.\n" * 6)
    made = brown.tasks(str(folder), 16)
    assert made["part_of_speech"]["train"][0] == [["The", "dog's", "Hill", "ran", "."], ["at", "nn", "nn", "vbd", "."]]
    found = {task.name: task for task in labelled(subject_on(small_corpus), "probe", str(folder), COLUMNS, 40, 16)}
    assert found["part_of_speech"].classes == 3  # "ran" begins beyond 16 bytes
    assert found["genre"].classes == 4


def test_mistakes_are_told(tmp_path, small_corpus):
    subject = subject_on(small_corpus)
    with pytest.raises(LmxError, match="probe.path must be a file, folder or glob"):
        labelled(subject, "probe", str(tmp_path / "nothing.jsonl"), COLUMNS, 10, 10)
    with pytest.raises(LmxError, match="two classes"):
        labelled(subject, "probe", write(tmp_path, "one.jsonl", sentences(30, "yes")), COLUMNS, 10, 10)
    with pytest.raises(LmxError, match="must name a field of text"):
        labelled(
            subject,
            "probe",
            write(tmp_path, "number.jsonl", [{"text": n, "label": n % 2} for n in range(30)]),
            COLUMNS,
            9,
            9,
        )


def test_spread_and_share():
    assert tasks.spread(5, 9) == [0, 1, 2, 3, 4]
    assert tasks.spread(9, 3) == [0, 4, 8]
    assert sum(tasks.share(10, 3, part) for part in range(3)) == 10

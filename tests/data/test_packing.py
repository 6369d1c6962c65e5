"""Samples are a function of their index, every token is read once an epoch, and seeded bugs are all caught."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmx.data import packing as module
from lmx.data.bins import Bins, best_fit
from lmx.data.corpus import Documents
from lmx.data.noise import Keys
from lmx.data.packing import Samples
from lmx.errors import LmxError
from tests.data.conftest import EOS, documents

SIZES = st.lists(st.integers(2, 30), min_size=1, max_size=25)


def constant(length: int):
    return lambda keys: np.full(len(keys), length)


def varied(keys: Keys) -> np.ndarray:
    """1 to 9 tokens, by the number of the sample."""
    return 1 + keys.sample * 7919 % 9


def samples(docs: Documents, lengths=8, lookahead=1, packing="concat", seed=0, shuffle=True) -> Samples:
    raw = constant(lengths) if isinstance(lengths, int) else lengths
    return Samples(docs, raw, lookahead, seed=seed, packing=packing, purpose="train", shuffle=shuffle)


# --- worked examples


def golden(**settings) -> Samples:
    tokens = np.array([5, 6, 7, 1, 8, 9, 1], dtype=np.uint16)
    docs = Documents(tokens=tokens, offsets=np.array([0, 4, 7]), bytes=np.array([3, 2]))
    return samples(docs, 4, shuffle=False, **settings)


def test_golden():
    first, second = golden().read(0, 2)
    assert (first.tokens.tolist(), second.tokens.tolist()) == ([5, 6, 7, 1, 8], [8, 9, 1])
    assert (first.segment.tolist(), second.segment.tolist()) == ([0] * 5, [0] * 3)
    assert (first.documents.tolist(), second.documents.tolist()) == ([0, 1], [1])
    first, second = golden(packing="docmask").read(0, 2)
    assert (first.tokens.tolist(), second.tokens.tolist()) == ([5, 6, 7, 1, 8], [8, 9, 1])
    assert (first.segment.tolist(), second.segment.tolist()) == ([0, 0, 0, 0, 1], [0, 0, 0])
    assert len(golden()) == 2
    assert golden().consumed(0, 2) == 7
    assert golden().consumed(1, 1) == 3
    assert golden().epoch(1) == 4 / 7
    with pytest.raises(IndexError):
        golden().read(1, 2)


@pytest.mark.parametrize(
    ("tokens", "lookahead", "number"),
    [(8, 0, 2), (8, 1, 2), (9, 1, 2), (10, 1, 3), (5, 1, 1), (9, 0, 3), (6, 2, 1)],
)
def test_last_sample_of_one_pass_asks_for_something(tokens, lookahead, number):
    """Every token is consumed or looked at, and the last sample has more than its lookahead."""
    pass_ = samples(documents([tokens]), 4, lookahead, shuffle=False)
    assert len(pass_) == number
    assert len(pass_.read(number - 1, 1)[0].tokens) > lookahead
    assert pass_.read(0, number)[-1].tokens[-1] == EOS


def test_bestfit_golden():
    found = Bins.pack(np.array([0, 4, 7, 9, 10]), 5)
    assert [found[number][0].tolist() for number in range(len(found))] == [[0, 3], [1, 2]]
    with pytest.raises(
        LmxError, match="packing must be concat or docmask for an objective whose samples differ in length"
    ):
        samples(documents([4]), varied, packing="bestfit")


def test_epochs_of_one_document_do_not_run_together():
    found = samples(documents([4]), 8, 0, "docmask").read(0, 1)[0]
    assert found.segment.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert found.documents.tolist() == [0, 0]


# --- what must always hold: the mutants below are caught by these functions


def check_stream(docs: Documents, lengths, lookahead: int, packing: str, seed: int) -> None:
    """Two epochs of concat or docmask: nothing lost, nothing twice, every document whole, in an order of each epoch's own."""
    stream = samples(docs, lengths, lookahead, packing, seed)
    total = docs.num_tokens
    count = 0
    while stream.epoch(count) < 2:
        count += 1
    found = stream.read(0, count)
    consumed = [sample.tokens[: len(sample.tokens) - lookahead] for sample in found]
    assert [len(tokens) for tokens in consumed] == [stream.consumed(index, 1) for index in range(count)]
    assert [len(tokens) for tokens in consumed] == stream.raw_lengths(stream.keys(0, count)).tolist()
    whole = np.concatenate(consumed)
    orders = []
    for epoch in range(2):
        part = whole[epoch * total : (epoch + 1) * total]
        assert sorted(part.tolist()) == sorted(docs.tokens.tolist()), "each token exactly once an epoch"
        ends = np.flatnonzero(part == EOS) + 1
        assert ends[-1] == total, "the last document ends with EOS, too"
        texts = {tuple(part[start:stop].tolist()) for start, stop in zip([0, *ends[:-1]], ends, strict=True)}
        assert texts == {tuple(docs[number].tolist()) for number in range(len(docs))}, (
            "documents are whole, in themselves in order"
        )
        orders.append(part.tolist())
    assert len(docs) < 8 or orders[0] != orders[1], "epochs differ"
    assert (
        len(docs) < 8
        or orders[0]
        != samples(docs, lengths, lookahead, packing, seed + 1).read(0, 1)[0].tokens.tolist()[: len(orders[0])]
    )
    check_lookahead(stream, found, lookahead)
    for sample in found:
        check_segments(docs, sample, packing)
    check_cuts(stream, count)


def check_lookahead(stream: Samples, found: list, lookahead: int) -> None:
    """What a sample sees beyond its own is what the next ones consume."""
    following = np.concatenate(
        [
            sample.tokens[: len(sample.tokens) - lookahead]
            for sample in stream.read(0, len(found) + 10 * (lookahead + 1))
        ]
    )
    place = 0
    for sample in found:
        assert sample.tokens.tolist() == following[place : place + len(sample.tokens)].tolist()
        place += len(sample.tokens) - lookahead


def check_segments(docs: Documents, sample, packing: str) -> None:
    starts = np.append(True, sample.tokens[:-1] == EOS)
    each = np.cumsum(starts) - 1
    assert sample.segment.tolist() == ([0] * len(each) if packing == "concat" else each.tolist()), (
        "a segment ends at EOS only"
    )
    assert len(sample.documents) == each[-1] + 1
    for token, number in zip(sample.tokens, sample.documents[each], strict=True):
        assert token in docs[number]


def check_cuts(stream: Samples, count: int) -> None:
    """However it is read, and in whatever order, a sample is the same."""
    together = stream.read(0, count)
    for first, number in ((count - 1, 1), (count // 2, count - count // 2), (0, 1), (count // 3, 1)):
        fresh = samples(stream.documents, stream.raw_lengths, stream.lookahead, stream.packing, stream.seed)
        for one, other in zip(fresh.read(first, number), together[first:], strict=False):
            for name in ("tokens", "segment", "documents"):
                assert getattr(one, name).tolist() == getattr(other, name).tolist()


def check_bestfit(docs: Documents, length: int, lookahead: int, seed: int) -> None:
    """Two epochs of bins: nothing lost, nothing twice, nothing cut that fits, no bin too full, no two that fit into one."""
    stream = samples(docs, length, lookahead, "bestfit", seed)
    capacity, bins = length + lookahead, len(stream)
    orders = []
    for epoch in range(2):
        found = stream.read(epoch * bins, bins)
        tokens = np.concatenate([sample.tokens for sample in found])
        assert sorted(tokens.tolist()) == sorted(docs.tokens.tolist()), "each token exactly once an epoch"
        assert all(len(sample.tokens) <= capacity for sample in found)
        pieces = [
            (number, sample.tokens[sample.segment == segment].tolist())
            for sample in found
            for segment, number in enumerate(sample.documents)
        ]
        for number, piece in pieces:
            if len(docs[number]) <= capacity:
                assert piece == docs[number].tolist(), "a document that fits is not cut"
            else:
                start = docs[number].tolist().index(piece[0])
                assert start % capacity == 0
                assert piece == docs[number][start : start + capacity].tolist()
        assert stream.consumed(epoch * bins, bins) == docs.num_tokens
        rests = [capacity - len(sample.tokens) for sample in found]
        for sample, rest in zip(found, rests, strict=True):
            others = list(rests)
            others.remove(rest)
            assert len(sample.tokens) > max(others, default=0), "no two bins fit into one"
        orders.append(tokens.tolist())
    assert bins < 8 or orders[0] != orders[1], "epochs differ"
    assert stream.epoch(bins) == 1.0


@settings(deadline=None, max_examples=60)
@given(SIZES, st.integers(1, 12), st.integers(0, 3), st.sampled_from(["concat", "docmask"]), st.integers(0, 9))
def test_stream(sizes, length, lookahead, packing, seed):
    check_stream(documents(sizes), length, lookahead, packing, seed)


@settings(deadline=None, max_examples=30)
@given(SIZES, st.integers(0, 3), st.sampled_from(["concat", "docmask"]), st.integers(0, 9))
def test_stream_of_varied_lengths(sizes, lookahead, packing, seed):
    check_stream(documents(sizes), varied, lookahead, packing, seed)


@settings(deadline=None, max_examples=100)
@given(SIZES, st.integers(1, 40), st.integers(0, 1), st.integers(0, 9))
def test_bestfit(sizes, length, lookahead, seed):
    check_bestfit(documents(sizes), length, lookahead, seed)


@settings(deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=60))
def test_best_fit_is_what_the_words_say(sizes):
    sizes = sorted(sizes, reverse=True)
    rests: list[int] = []
    for size in sizes:
        fitting = [rest for rest in rests if rest >= size]
        if fitting:
            rests.remove(min(fitting))
        rests.append((min(fitting) if fitting else 20) - size)
    bins = best_fit(sizes, 20)
    assert sorted(20 - np.bincount(bins, weights=sizes)) == sorted(rests)


@settings(deadline=None, max_examples=100)
@given(SIZES, st.integers(1, 12), st.integers(0, 3), st.sampled_from(["concat", "docmask"]))
def test_one_pass(sizes, length, lookahead, packing):
    docs = documents([size + 3 for size in sizes])
    one = samples(docs, length, lookahead, packing, shuffle=False)
    found = one.read(0, len(one))
    taken = [sample.tokens[:length] for sample in found[:-1]] + [found[-1].tokens]
    assert np.concatenate(taken).tolist() == docs.tokens.tolist(), "in the order of the corpus"
    assert all(
        len(sample.tokens) == length + lookahead for sample in found[:-1] if sample.tokens[-1] != docs.tokens[-1]
    )
    for sample in found:
        check_segments(docs, sample, packing)


# --- seeded bugs


def mutate_runs(change):
    def bug(patch):
        original = Samples.runs
        patch.setattr(Samples, "runs", lambda self, start, stop: change(self, *original(self, start, stop)))

    return bug


def mutate_samples(change):
    def bug(patch):
        original = Samples.cut
        patch.setattr(Samples, "cut", lambda self, edges: [change(self, sample) for sample in original(self, edges)])

    return bug


def mutate_order(change):
    def bug(patch):
        original = module.epoch_order
        patch.setattr(module, "epoch_order", lambda docs, seed, epoch: change(original, docs, seed, epoch))

    return bug


def mutate_offset(change):
    def bug(patch):
        original = Samples.offset
        patch.setattr(Samples, "offset", lambda self, index: change(self, original(self, index), index))

    return bug


def twice(original, docs, seed, epoch):
    order, edges = original(docs, seed, epoch)
    return np.where(order == 9, 0, order), edges  # of the same size


def leak(patch):
    """Segments counted from the first sample that is read together."""
    original = Samples.cut

    def cut(self, edges):
        seen, found = 0, []
        for sample in original(self, edges):
            found.append(replace(sample, segment=sample.segment + seen))
            seen += int(sample.segment[-1])
        return found

    patch.setattr(Samples, "cut", cut)


def without_eos(self, sample):
    return replace(sample, tokens=np.where(sample.tokens == EOS, 0, sample.tokens))


def without_lookahead(self, sample):
    return replace(sample, tokens=sample.tokens[: len(sample.tokens) - self.lookahead])


def wrong_lookahead(self, sample):
    return replace(sample, tokens=np.append(sample.tokens[:-1], sample.tokens[0]))


def together(self, sample):
    return replace(sample, segment=np.zeros_like(sample.segment))


def early(self, sample):
    return replace(sample, segment=np.append(sample.segment[1:], sample.segment[-1]))


def shifted(self, sample):
    return replace(sample, documents=(sample.documents + 1) % len(self.documents))


def reverse(self, sample):
    return replace(sample, documents=sample.documents[::-1])


STREAM_BUGS = {
    "a document lost, another doubled": mutate_order(twice),
    "the same order in every epoch": mutate_order(lambda original, docs, seed, epoch: original(docs, seed, 0)),
    "the order of the corpus": mutate_order(lambda original, docs, seed, epoch: original(docs, None, 0)),
    "doubled edge": mutate_offset(lambda self, offset, index: offset - index),
    "lost edge": mutate_offset(lambda self, offset, index: offset + index),
    "dropped tail": mutate_offset(lambda self, offset, index: offset + offset // self.documents.num_tokens),
    "stride of the window": mutate_offset(lambda self, offset, index: offset + index * self.lookahead),
    "lost EOS": mutate_samples(without_eos),
    "EOS at the beginning": mutate_runs(lambda self, numbers, begins, sizes: (numbers, np.maximum(begins - 1, 0), sizes)),
    "no lookahead": mutate_samples(without_lookahead),
    "wrong lookahead": mutate_samples(wrong_lookahead),
    "segments leak": mutate_samples(together),
    "segments cross samples": leak,
    "segment changes before EOS": mutate_samples(early),
    "another document": mutate_samples(shifted),
    "documents reversed": mutate_samples(reverse),
}  # fmt: skip


@pytest.mark.parametrize("bug", STREAM_BUGS)
def test_bugs_in_the_stream_are_caught(bug, monkeypatch):
    docs = documents([7, 3, 12, 5, 9, 2, 14, 6, 4, 7])
    check_stream(docs, 8, 1, "docmask", 0)
    STREAM_BUGS[bug](monkeypatch)
    with pytest.raises(AssertionError):
        check_stream(docs, 8, 1, "docmask", 0)


def mutate_bins(change):
    def bug(patch):
        original = Bins.pack.__func__
        patch.setattr(
            Bins, "pack", classmethod(lambda cls, offsets, capacity: change(original, cls, offsets, capacity))
        )

    return bug


def drop(original, cls, offsets, capacity):
    bins = original(cls, offsets, capacity)
    return replace(bins, edges=bins.edges[:-1])


def shorten(original, cls, offsets, capacity):
    bins = original(cls, offsets, capacity)
    return replace(bins, sizes=np.maximum(bins.sizes - 1, 1))


def double(original, cls, offsets, capacity):
    bins = original(cls, offsets, capacity)
    first, second = np.flatnonzero(bins.sizes == 7)
    bins.begins[second], bins.numbers[second] = bins.begins[first], bins.numbers[first]
    return bins


def one_each(original, cls, offsets, capacity):
    bins = original(cls, offsets, capacity)
    return replace(bins, edges=np.arange(len(bins.numbers) + 1))


def mutate_bin_order(change):
    return lambda patch: patch.setattr(module, "bin_order", lambda count, seed, epoch: change(count, epoch))


BIN_BUGS = {
    "dropped bin": mutate_bins(drop),
    "lost EOS": mutate_bins(shorten),
    "doubled piece": mutate_bins(double),
    "a bin for each": mutate_bins(one_each),
    "too full": mutate_bins(lambda original, cls, offsets, capacity: original(cls, offsets, capacity + 1)),
    "short documents cut": mutate_bins(lambda original, cls, offsets, capacity: original(cls, offsets, capacity // 2)),
    "the same order in every epoch": mutate_bin_order(lambda count, epoch: np.arange(count)),
    "drawn with replacement": mutate_bin_order(lambda count, epoch: (np.arange(count) // 2 + epoch) % count),
    "segments leak": lambda patch: patch.setattr(Samples, "bin", leaking(Samples.bin)),
}  # fmt: skip


def leaking(original):
    def bin(self, index):
        sample = original(self, index)
        return replace(sample, segment=np.zeros_like(sample.segment))

    return bin


@pytest.mark.parametrize("bug", BIN_BUGS)
def test_bugs_in_bins_are_caught(bug, monkeypatch):
    docs = documents([7, 3, 12, 5, 9, 2, 14, 6, 4, 11, 30, 8, 8, 7])
    check_bestfit(docs, 13, 1, 0)
    BIN_BUGS[bug](monkeypatch)
    with pytest.raises(AssertionError):
        check_bestfit(docs, 13, 1, 0)


# --- seeking


def test_far_samples_are_found_without_reading_what_is_before():
    asked = []

    def counted(keys: Keys) -> np.ndarray:
        asked.append(len(keys))
        return varied(keys)

    stream = samples(documents([7, 3, 12]), counted)
    far = 100 * module.BLOCK + 17
    offset = int(varied(stream.keys(0, far)).sum())
    assert stream.offset(far) == offset
    asked.clear()
    stream.read(far, 32)
    stream.read(far + 32, 32)
    assert not asked, "the block is known already"
    stream.offset(50 * module.BLOCK)
    assert sum(asked) == module.BLOCK, "going back costs one block"


def test_lengths_that_rarely_vary_are_not_taken_for_constant():
    """One sample in a million: a probe of the first few would not see it."""
    odd = 3 * module.BLOCK + 5

    def rare(keys: Keys) -> np.ndarray:
        return np.where(keys.sample == odd, 3, 8)

    stream = samples(documents([7, 3, 12]), rare)
    assert stream.offset(odd + 1) - stream.offset(odd) == 3
    assert len(stream.read(odd, 1)[0].tokens) == 4


def test_number_of_samples_beyond_one_block():
    docs = documents([50_000])
    for lengths in (varied, constant(1), constant(7)):
        for shuffle in (True, False):
            stream = samples(docs, lengths, 2, shuffle=shuffle)
            need = docs.num_tokens - (0 if shuffle else 2)
            assert stream.offset(len(stream) - 1) < need <= stream.offset(len(stream))


def test_threads_may_share_samples():
    """The loader reads ahead while the trainer asks how far it is."""
    expected = samples(documents([7, 3, 12]), varied)
    wanted = [expected.offset(number * 1000) for number in range(60)]
    for _ in range(5):
        shared = samples(documents([7, 3, 12]), varied)
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(shared.offset, range(0, 60_000, 1000))) == wanted


def test_memory_mapped_tokens(tmp_path):
    docs = documents([7, 3, 12, 5])
    np.save(tmp_path / "tokens.npy", docs.tokens)
    mapped = replace(docs, tokens=np.load(tmp_path / "tokens.npy", mmap_mode="r", allow_pickle=False))
    for packing in ("concat", "docmask", "bestfit"):
        for one, other in zip(
            samples(docs, packing=packing).read(0, 5),
            samples(mapped, packing=packing).read(0, 5),
            strict=True,
        ):
            assert one.tokens.tolist() == other.tokens.tolist()
            assert type(other.tokens) is np.ndarray
            assert other.tokens.dtype == np.int64

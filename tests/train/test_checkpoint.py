"""What is saved comes back; what must not be saved is refused; the newest sound checkpoint is found."""

import json
import os
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from lmx.errors import CheckpointError, DiskFull
from lmx.train import checkpoint, manifest, tensor_file
from tests.faults.saves import equal, save, tensors

DTYPES = list(tensor_file.CODES)


@pytest.fixture(autouse=True)
def fast_sync(monkeypatch):
    """Whether a disk was synced is for tests/faults to ask."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    shape=st.lists(st.integers(0, 5), max_size=4),
    turned=st.booleans(),
    name=st.text(min_size=1, max_size=20),
)
def test_every_dtype_and_shape_comes_back(tmp_path_factory, dtype, shape, turned, name):
    path = tmp_path_factory.mktemp("one") / "x.safetensors"
    value = torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)
    value = value.transpose(0, -1) if turned and shape else value
    name = name.encode(errors="replace").decode()
    if name == "__metadata__":
        return
    entry = tensor_file.write(path, {name: value})
    assert entry["bytes"] == path.stat().st_size == tensor_file.size({name: value})
    for back in (tensor_file.read(path.read_bytes()), load_file(path)):
        assert back[name].dtype == dtype
        assert torch.equal(back[name], value)


def test_it_comes_back_bit_for_bit(folder):
    values = {
        "model": {"nan": torch.tensor([float("nan"), -0.0, float("inf")])},
        "optim": {"a/step": torch.tensor(3.0)},
    }
    state, repro = {"ledger": {"seconds": 0.1 + 0.2, "tokens": 2**60}, "none": None}, {"threads": 2}
    checkpoint.save(folder, 7, values, state, keep=2, repro=repro)
    loaded = checkpoint.load(folder)
    assert (loaded.step, loaded.state, loaded.repro, loaded.damaged) == (7, state, repro, [])
    assert torch.equal(loaded.tensors["model"]["nan"].view(torch.int32), values["model"]["nan"].view(torch.int32))
    assert torch.equal(loaded.tensors["optim"]["a/step"], values["optim"]["a/step"])


def test_loaded_tensors_are_free_of_the_file(folder):
    path = save(folder, 1)
    loaded = checkpoint.load(folder)
    loaded.tensors["model"]["weight"].add_(1)
    assert not equal(loaded, 1)
    assert equal(checkpoint.load(folder), 1)
    assert load_file(path / "model.safetensors").keys() == tensors(1)["model"].keys()


def test_no_checkpoint_is_none_and_not_an_error(folder):
    assert checkpoint.load(folder) is None
    assert checkpoint.steps(folder) == []
    checkpoint.clean(folder)
    folder.mkdir()
    (folder / ".tmp-00000001-abcd").mkdir()
    (folder / "step-1").mkdir()
    (folder / "step-00000002").touch()
    (folder / "step-00000003").symlink_to(folder / "step-1")
    assert checkpoint.load(folder) is None


def test_keeps_the_newest(folder):
    for step in (10, 20, 30, 40):
        save(folder, step, keep=3)
    assert checkpoint.steps(folder) == [20, 30, 40]
    assert sorted(path.name for path in folder.iterdir()) == [
        "step-00000020",
        "step-00000030",
        "step-00000040",
    ]


def test_steps_beyond_eight_digits_sort_as_numbers(folder):
    for step in (99_999_999, 100_000_000):
        save(folder, step)
    assert checkpoint.steps(folder) == [99_999_999, 100_000_000]
    assert checkpoint.load(folder).step == 100_000_000


def test_a_rewound_run_leaves_its_later_steps_behind(folder):
    for step in (10, 20, 30):
        save(folder, step, keep=3)
    save(folder, 15, keep=3)
    assert checkpoint.steps(folder) == [10, 15]


def test_a_sound_checkpoint_of_the_step_stays_and_a_damaged_one_is_replaced(folder):
    save(folder, 10)
    path = save(folder, 20)
    born = (path / "manifest.json").stat().st_ino
    save(folder, 20)
    assert (path / "manifest.json").stat().st_ino == born
    (path / "model.safetensors").write_bytes(b"")
    save(folder, 20)
    assert checkpoint.load(folder).damaged == []
    assert equal(checkpoint.load(folder), 20)
    assert [entry.name for entry in folder.iterdir() if entry.name.startswith(".")] == []


def test_an_exact_step(folder):
    for step in (10, 20):
        save(folder, step)
    assert equal(checkpoint.load(folder, 10), 10)
    with pytest.raises(CheckpointError, match=r"must be one of 10, 20 in .*, got 15\."):
        checkpoint.load(folder, 15)
    (folder / "step-00000020" / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"step-00000020/manifest.json: No such file"):
        checkpoint.load(folder, 20)


def test_clean_removes_what_was_interrupted_and_nothing_else(folder):
    save(folder, 10)
    for name in (".tmp-00000020-0badcafe", ".trash-step-00000005-0badcafe"):
        (folder / name).mkdir()
        (folder / name / "model.safetensors").write_bytes(b"half")
    (folder / "notes.txt").write_text("mine")
    checkpoint.clean(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["notes.txt", "step-00000010"]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(4, 3), nn.Linear(3, 4, bias=False)
        self.head.weight = self.embedding.weight


def overlapping() -> dict[str, dict[str, Tensor]]:
    buffer = torch.zeros(10)
    return {"model": {"left": buffer[:6]}, "optim": {"right": buffer[5:]}}


@pytest.mark.parametrize("values", [{"model": Tied().state_dict()}, overlapping()], ids=["tied", "overlapping"])
def test_shared_memory_is_refused(folder, values):
    with pytest.raises(ValueError, match="share memory"):
        checkpoint.save(folder, 1, values, {}, keep=2, repro={})
    assert checkpoint.load(folder) is None


def test_neighbours_in_one_buffer_are_not_shared(folder):
    buffer = torch.arange(10.0)
    checkpoint.save(folder, 1, {"model": {"a": buffer[:5], "b": buffer[5:]}}, {}, keep=2, repro={})
    assert torch.equal(checkpoint.load(folder).tensors["model"]["b"], buffer[5:])


@pytest.mark.parametrize(
    ("stem", "state", "keep"),
    [("../model", {}, 2), ("Model", {}, 2), ("model", {"loss": float("nan")}, 2), ("model", {}, 1)],
)
def test_what_cannot_be_a_checkpoint_is_refused_before_anything_is_written(folder, stem, state, keep):
    with pytest.raises(ValueError, match=r"lower-case|JSON|at least 2"):
        checkpoint.save(folder, 1, {stem: {"a": torch.zeros(1)}}, state, keep=keep, repro={})
    assert not folder.exists()


def test_a_newer_format_is_refused_rather_than_passed_over(folder):
    save(folder, 1)
    path = save(folder, 2) / "manifest.json"
    body = json.loads(path.read_text()) | {"format": 3}
    body.pop("sha256")
    path.write_bytes(manifest.encode(body))
    with pytest.raises(CheckpointError, match="has format 3, but this lmx reads 1 and 2"):
        checkpoint.load(folder)


def test_no_room_is_found_out_before_writing(folder, monkeypatch):
    save(folder, 1)
    monkeypatch.setattr(checkpoint, "available", lambda folder: 10)
    with pytest.raises(DiskFull, match=r"the disk is full: .* step 2 needs 0\.0 MB .* step 1 is untouched") as caught:
        save(folder, 2)
    assert caught.value.exit_code == 5
    assert "\n" not in str(caught.value)
    assert [path.name for path in folder.iterdir()] == ["step-00000001"]


def test_a_file_system_that_does_not_count_is_tried(folder, monkeypatch):
    monkeypatch.setattr(checkpoint, "available", lambda folder: None)
    assert equal(checkpoint.load(save(folder, 1).parent), 1)


def test_a_signal_handler_can_see_that_a_save_is_running(folder, monkeypatch):
    seen = []
    commit = checkpoint.commit
    monkeypatch.setattr(checkpoint, "commit", lambda *args: (seen.append(checkpoint.committing()), commit(*args)))
    save(folder, 1)
    assert seen == [True]
    assert not checkpoint.committing()
    monkeypatch.setattr(checkpoint, "commit", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(folder, 2)
    assert not checkpoint.committing()


def test_a_reader_may_look_on_while_checkpoints_come_and_go(folder):
    """Without the run's lock: what it lists may be gone a moment later, but is never half there."""
    done, wrong = threading.Event(), []
    save(folder, 1)

    def look() -> None:
        while not done.is_set():
            loaded = checkpoint.load(folder)
            if loaded is None or not equal(loaded, loaded.step):
                wrong.append(loaded)

    reader = threading.Thread(target=look)
    reader.start()
    for step in range(2, 40):
        save(folder, step)
    done.set()
    reader.join()
    assert wrong == []


def parts(*rows: int) -> dict[str, dict[str, Tensor]]:
    """A table cut into parts of so many rows, none where there are none, and a number that the first part has alone."""
    table, found, start = torch.arange(sum(rows) * 3).view(-1, 3), {}, 0
    for rank, size in enumerate(rows):
        name = tensor_file.part_name("model", rank, len(rows))
        found[name] = {"table": table[start : start + size]} if size else {}
        start += size
    found[tensor_file.part_name("model", 0, len(rows))]["number"] = torch.tensor(7)
    return found


@pytest.mark.parametrize("rows", [(3, 2), (1, 1, 1, 0), (4,)], ids=str)
def test_parts_are_joined(rows):
    joined = tensor_file.joined({**parts(*rows), "other": {"x": torch.ones(2)}})
    assert set(joined) == {"model", "other"}
    assert torch.equal(joined["model"]["table"], torch.arange(sum(rows) * 3).view(-1, 3))
    assert int(joined["model"]["number"]) == 7


def test_parts_that_do_not_fit_are_told():
    found = parts(2, 2)
    found["model-00002-of-00002"]["table"] = torch.ones(2, 5, dtype=torch.int64)
    with pytest.raises(ValueError, match="the parts of model do not fit"):
        tensor_file.joined(found)
    del found["model-00002-of-00002"]
    with pytest.raises(ValueError, match="it lacks model-00002-of-00002"):
        tensor_file.joined(found)

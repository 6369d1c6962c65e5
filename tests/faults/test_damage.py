"""Every damage to a checkpoint is found, named, and answered by the checkpoint before it."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lmx.errors import CheckpointError
from lmx.train import checkpoint, manifest, tensor_file
from tests.faults.saves import equal, save

OLD, NEW = 100, 200
FILES = ("model.safetensors", "optim.safetensors", "manifest.json")
NUMBERS = 1000  # 8 kB a tensor, so that a block can be lost


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pristine") / "checkpoints"
    for step in (OLD, NEW):
        save(folder, step, numbers=NUMBERS)
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "checkpoints"))


def flip_bit(data: bytes, numbers: random.Random) -> bytes:
    at = numbers.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << numbers.randrange(8)]) + data[at + 1 :]


def truncate(data: bytes, numbers: random.Random) -> bytes:
    return data[: numbers.randrange(len(data))]


def zero_block(data: bytes, numbers: random.Random) -> bytes:
    begin = numbers.randrange(0, len(data), 512)
    return data[:begin] + bytes(len(data[begin : begin + 512])) + data[begin + 512 :]


def grow(data: bytes, numbers: random.Random) -> bytes:
    return data + numbers.randbytes(numbers.randrange(1, 64))


def swap_bytes(data: bytes, numbers: random.Random) -> bytes:
    """The same bytes in another order: a sum would not notice."""
    one, other = sorted(numbers.sample(range(len(data)), 2))
    swapped = bytearray(data)
    swapped[one], swapped[other] = data[other], data[one]
    return bytes(swapped)


DAMAGES = {flip_bit: 200, truncate: 100, zero_block: 100, grow: 30, swap_bytes: 100}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_bytes(folder, damage: Callable[[bytes, random.Random], bytes]):
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    numbers = random.Random(seed)
    done = 0
    while done < DAMAGES[damage]:
        name = numbers.choice(FILES)
        path = folder / f"step-{NEW:08d}" / name
        data = path.read_bytes()
        worse = damage(data, numbers)
        if worse == data:
            continue
        path.write_bytes(worse)
        falls_back(folder, name)
        path.write_bytes(data)
        done += 1
    assert checkpoint.load(folder).damaged == []


def test_the_same_flips_pass_unseen_without_a_manifest(folder):
    """The control: the file format alone finds next to nothing, so the tests above are not about it."""
    numbers = random.Random(0)
    data = (folder / f"step-{NEW:08d}" / FILES[0]).read_bytes()
    flipped = [flip_bit(data, numbers) for _ in range(100)]
    assert sum(unseen(worse) for worse in flipped) > 50


def unseen(data: bytes) -> bool:
    try:
        tensor_file.read(data)
    except ValueError:
        return False
    return True


def falls_back(folder: Path, name: str) -> None:
    loaded = checkpoint.load(folder)
    assert equal(loaded, OLD, NUMBERS)
    assert len(loaded.damaged) == 1
    assert f"step {NEW} cannot be used" in loaded.damaged[0]
    assert f"step-{NEW:08d}/{name}" in loaded.damaged[0]
    assert "\n" not in loaded.damaged[0]


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_step(folder, name):
    shutil.copy(folder / f"step-{OLD:08d}" / name, folder / f"step-{NEW:08d}" / name)
    falls_back(folder, name)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("instead", ["nothing", "link", "pipe", "directory", "empty"])
def test_not_a_file(folder, name, instead):
    path = folder / f"step-{NEW:08d}" / name
    path.rename(path.with_name("elsewhere"))
    if instead == "link":
        path.symlink_to(path.with_name("elsewhere"))
    elif instead == "pipe":
        os.mkfifo(path)
    elif instead == "directory":
        path.mkdir()
    elif instead == "empty":
        path.touch()
    falls_back(folder, name)


def test_files_of_one_checkpoint_changed_places(folder):
    step = folder / f"step-{NEW:08d}"
    (step / FILES[0]).rename(step / "x")
    (step / FILES[1]).rename(step / FILES[0])
    (step / "x").rename(step / FILES[1])
    falls_back(folder, FILES[0])


def test_a_whole_checkpoint_under_another_name(folder):
    shutil.rmtree(folder / f"step-{NEW:08d}")
    shutil.copytree(folder / f"step-{OLD:08d}", folder / f"step-{NEW:08d}")
    falls_back(folder, "manifest.json")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"3",
        b'"text"',
        b"[]",
        b"{}",
        b'{"sha256": 1}',
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"step": ' + b"9" * 5000 + b"}",
        b'{"step": NaN, "sha256": "0"}',
        b" " * ((1 << 24) + 1),
    ],
    ids=range(12),
)
def test_not_a_manifest(folder, text):
    (folder / f"step-{NEW:08d}" / "manifest.json").write_bytes(text)
    falls_back(folder, "manifest.json")


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"../../step-00000100/model.safetensors": {"bytes": 1, "sha256": ""}}},
        {"files": {"/etc/passwd": {"bytes": 1, "sha256": ""}}},
        {"files": {"model.pt": {"bytes": 1, "sha256": ""}}},
        {"files": {"model.safetensors": None}},
        {"files": {"model.safetensors": {"bytes": "1", "sha256": ""}}},
        {"files": []},
        {"state": 3},
        {"repro": None},
        {"step": OLD},
        {"step": None},
    ],
    ids=range(10),
)
def test_a_well_sealed_manifest_that_makes_no_sense(folder, change):
    path = folder / f"step-{NEW:08d}" / "manifest.json"
    body = json.loads(path.read_text())
    body.pop("sha256")
    path.write_bytes(manifest.encode(body | change))
    falls_back(folder, "manifest.json")


def test_when_all_are_damaged_each_is_named(folder):
    (folder / f"step-{OLD:08d}" / FILES[0]).unlink()
    (folder / f"step-{NEW:08d}" / FILES[1]).write_bytes(b"")
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(folder)
    for place in (
        f"step-{OLD:08d}/{FILES[0]}: No such file",
        f"step-{NEW:08d}/{FILES[1]} has 0 bytes instead of",
    ):
        assert place in str(caught.value)
    assert "\n" not in str(caught.value)

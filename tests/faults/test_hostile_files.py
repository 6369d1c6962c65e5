"""Files made by someone else: refused in words, without running or allocating what they ask for."""

import hashlib
import json
import pickle
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lmx.errors import CheckpointError
from lmx.train import checkpoint, manifest, tensor_file
from tests.faults.saves import save

MUTATIONS = 5000


def file(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def tensor(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4), **more: Any) -> dict[str, Any]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}}


HOSTILE = {
    "nothing": b"",
    "seven bytes": b"\0" * 7,
    "no header": file(b""),
    "header longer than the file": file({}, length=1000),
    "header of 2**63 bytes": file({}, length=1 << 63),
    "header over the limit": file({}, length=tensor_file.MAX_HEADER + 1),
    "not JSON": file(b"{'a': 1}"),
    "not UTF-8": file(b'{"\xff": 1}'),
    "a list": file([]),
    "a number": file(b"12"),
    "deep": file(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "huge integer": file(b'{"a":' + b"9" * 10_000 + b"}"),
    "entry is null": file({"a": None}),
    "entry is empty": file({"a": {}}),
    "unknown dtype": file(tensor("F1024"), bytes(4)),
    "dtype that lmx does not write": file(tensor("F8_E4M3", [4]), bytes(4)),
    "dtype is a list": file(tensor(["F32"]), bytes(4)),
    "shape is text": file(tensor(shape="1"), bytes(4)),
    "negative shape": file(tensor(shape=[-1]), bytes(4)),
    "fractional shape": file(tensor(shape=[1.0]), bytes(4)),
    "truth for a shape": file(tensor(shape=[True]), bytes(4)),
    "overflowing shape": file(tensor(shape=[1 << 62, 4]), bytes(4)),
    "product that overflows to 4 bytes": file(tensor(shape=[1 << 30, 1 << 30, 1 << 30]), bytes(4)),
    "empty with a huge side": file(tensor(shape=[0, 1 << 62], offsets=[0, 0])),
    "a thousand dimensions": file(tensor(shape=[1] * 1000), bytes(4)),
    "more data than the shape": file(tensor(offsets=[0, 8]), bytes(8)),
    "less data than the shape": file(tensor(shape=[2]), bytes(4)),
    "offsets outside": file(tensor(offsets=[4, 8]), bytes(4)),
    "offsets backwards": file(tensor(offsets=[4, 0]), bytes(4)),
    "negative offsets": file(tensor(offsets=[-4, 0]), bytes(4)),
    "no offsets": file({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)),
    "overlap": file(tensor() | {"b": tensor()["a"]}, bytes(4)),
    "a hole": file(tensor() | {"b": tensor(offsets=[8, 12])["a"]}, bytes(12)),
    "trailing bytes": file(tensor(), bytes(5)),
    "metadata is not text": file({"__metadata__": {"a": [1]}} | tensor(), bytes(4)),
    "metadata is a list": file({"__metadata__": []} | tensor(), bytes(4)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hand_made_headers(name):
    with pytest.raises(ValueError, match=r"header|tensor|safetensors"):
        tensor_file.read(HOSTILE[name])


def test_mutated_files_are_refused_or_harmless(tmp_path):
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    numbers = random.Random(seed)
    path = tmp_path / "x.safetensors"
    tensor_file.write(path, {"weight": torch.ones(2, 3), "gain": torch.ones(4, dtype=torch.bfloat16)})
    data, accepted = path.read_bytes(), 0
    header = int.from_bytes(data[:8], "little") + 8
    for _ in range(MUTATIONS):
        worse = bytearray(data)
        for _ in range(numbers.randint(1, 4)):
            worse[numbers.randrange(header)] = numbers.choice([numbers.randrange(256), *b'0123456789[]{},:"-'])
        try:
            tensors = tensor_file.read(bytes(worse))
        except ValueError:
            continue
        accepted += 1
        assert sum(value.nbytes for value in tensors.values()) == len(data) - header
    print(f"{MUTATIONS} mutations, {accepted} of them harmless")
    assert accepted < MUTATIONS // 10


def test_names_are_never_paths(tmp_path):
    folder = tmp_path / "checkpoints"
    names = {"../../escaped": torch.ones(1), "/etc/passwd": torch.ones(1), "a\0b\n": torch.ones(1)}
    checkpoint.save(folder, 1, {"model": names}, {}, keep=2, repro={})
    assert checkpoint.load(folder).tensors["model"].keys() == names.keys()
    assert not (tmp_path / "escaped").exists()


class Canary:
    """Unpickling it imports a module that nothing else imports."""

    def __reduce__(self):
        return (__import__, ("this",))


@pytest.mark.parametrize("make", ["pickle", "torch.save"])
@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json"])
def test_a_pickle_under_our_names_is_not_run(tmp_path, make, name):
    folder = tmp_path / "checkpoints"
    path = save(folder, 1) / name
    if make == "pickle":
        path.write_bytes(pickle.dumps(Canary()))
    else:
        torch.save(Canary(), path)
    seal(path.parent)
    sys.modules.pop("this", None)
    with pytest.raises(CheckpointError, match=f"step-00000001/{name}"):
        checkpoint.load(folder)
    assert "this" not in sys.modules


def seal(folder: Path) -> None:
    """Make the manifest agree with what is there, as an author of hostile files would."""
    path = folder / "manifest.json"
    try:
        body = json.loads(path.read_bytes())
    except ValueError:
        return
    body.pop("sha256")
    for name in body["files"]:
        data = (folder / name).read_bytes()
        body["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    path.write_bytes(manifest.encode(body))

"""Tensors to and from one safetensors file.

The writer is our own: it streams, hashes and syncs, where the library's holds a second copy of everything,
does not sync, and hides what the disk answered. The reader is the library's, so that every load also checks
that the files are plain safetensors.
"""

import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

CODES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL",
}  # fmt: skip
PART = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})")
CHUNK = 1 << 24  # bytes given to one write()
MAX_HEADER = 100_000_000  # bytes, the limit of the safetensors format


def write(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, int | str]:
    """Create `path`, durable but for its directory entry; -> {"bytes", "sha256"} of what was written."""
    digest, total = hashlib.sha256(), 0
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        for part in parts(tensors):
            digest.update(part)
            total += len(part)
            write_all(file, part)
        os.fsync(file)
    finally:
        os.close(file)
    return {"bytes": total, "sha256": digest.hexdigest()}


def write_all(file: int, data: bytes | memoryview) -> None:
    """write() until all is out: it may take less than it was given."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest[:CHUNK]) :]


def size(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of the file that `write` would make."""
    return len(header(ordered(tensors))) + sum(tensor.nbytes for tensor in tensors.values())


def ordered(tensors: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    """Wide elements first, so that each tensor begins at a multiple of its element size."""
    return sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))


def header(tensors: Sequence[tuple[str, Tensor]]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for name, tensor in tensors:
        end = begin + tensor.nbytes
        entries[name] = {
            "dtype": CODES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def parts(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """The file's bytes, one tensor at a time: at most one is copied (off a device, or if not contiguous)."""
    rows = ordered(tensors)
    yield header(rows)
    for _, tensor in rows:
        if tensor.numel():
            yield tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def read(data: bytes) -> dict[str, Tensor]:
    """Tensors on the CPU. Raises ValueError when `data` is not a sound safetensors file in lmx's dtypes."""
    entries = read_header(data)
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ValueError(f"not a safetensors file ({error})") from None
    if tensors.keys() != entries.keys():
        raise ValueError("its header names tensors twice")
    return tensors


def read_header(data: bytes) -> dict[str, object]:
    """What the library would let through, or answer with an exception of its own choice, is refused first."""
    length = int.from_bytes(data[:8], "little")
    if not 2 <= length <= min(MAX_HEADER, len(data) - 8):
        raise ValueError(f"its header cannot have {length} bytes")
    try:
        entries = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its header is not JSON ({error})") from None
    if not isinstance(entries, dict):
        raise ValueError("its header is not a table")
    entries.pop("__metadata__", None)
    for name, entry in entries.items():
        if not isinstance(entry, dict) or entry.get("dtype") not in CODES.values():
            raise ValueError(f"tensor {name!r} has no dtype that lmx writes")
        shape = entry.get("shape")
        if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 1 << 31 for n in shape) or len(shape) > 8:
            raise ValueError(f"tensor {name!r} has no shape")
    return entries


def part_name(stem: str, rank: int, ranks: int) -> str:
    return f"{stem}-{rank + 1:05d}-of-{ranks:05d}"


def joined(files: Mapping[str, dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """Files that ranks wrote in parts, as if one had written them: the rows of a tensor, in the order of ranks.

    Raises ValueError when a part is missing or does not fit.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for name in files:
        match = PART.fullmatch(name)
        stem, number = (match[1], int(match[3])) if match else (name, 0)
        if not number:
            found[stem] = files[stem]
        elif stem not in found:
            names = [part_name(stem, rank, number) for rank in range(number)]
            if missing := [name for name in names if name not in files]:
                raise ValueError(f"it lacks {missing[0]}{'' if len(missing) == 1 else ' and others'}")
            pieces: dict[str, list[Tensor]] = {}
            for name in names:
                for key, rows in files[name].items():
                    pieces.setdefault(key, []).append(rows)
            try:
                found[stem] = {key: torch.cat(rows) if len(rows) > 1 else rows[0] for key, rows in pieces.items()}
            except RuntimeError as error:
                raise ValueError(f"the parts of {stem} do not fit: {str(error).splitlines()[0]}") from None
    return found


def check_unshared(tensors: Mapping[str, Tensor]) -> None:
    """Raises ValueError when two tensors overlap in memory: tied weights would come back untied."""
    rows = sorted((str(tensor.device), *extent(tensor), name) for name, tensor in tensors.items() if tensor.numel())
    for (device, _, end, name), (other_device, begin, _, other) in itertools.pairwise(rows):
        if device == other_device and begin < end:
            raise ValueError(f"{name} and {other} share memory: save one of them, and tie them again after loading")


def extent(tensor: Tensor) -> tuple[int, int]:
    """First and last address + 1 that the elements lie in."""
    last = sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()

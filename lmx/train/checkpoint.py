"""Checkpoints that a kill, a power cut or a full disk cannot spoil, and whose damage is found.

    checkpoints/step-00000100/{model,optim}.safetensors + manifest.json      whatever is named step-* is whole
    checkpoints/step-00000100/{model,optim}-00001-of-00002.safetensors …     in parts, see parts.py

Written under a temporary name and synced file by file, then renamed, then the rename is synced: the commit
point. Old checkpoints are renamed before they are deleted, so that none is ever half there. The newest sound
directory is the truth: there is no pointer that could disagree. Tensors are safetensors, the rest is JSON:
reading a checkpoint cannot run code.
"""

import errno
import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from lmx.errors import CheckpointError, DiskFull
from lmx.train import tensor_file
from lmx.train.manifest import FORMAT, MANIFEST, STEM, SUFFIX, Damage, contents, encode, read_manifest

TEMPORARY, TRASH = ".tmp-", ".trash-"
STEP = re.compile(r"step-[0-9]{8,15}")
SAVING = threading.Event()
ENTRY = 1 << 10  # bytes, more than a file takes in the manifest
FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, kw_only=True)
class Loaded:
    step: int
    tensors: dict[str, dict[str, Tensor]]  # file stem -> name -> tensor on the CPU
    state: dict[str, Any]
    repro: dict[str, Any]
    path: Path
    damaged: list[str] = field(default_factory=list)  # why each newer checkpoint was passed over


def steps(folder: Path) -> list[int]:
    """Steps that have a checkpoint, ascending; whether it is sound is known after reading it."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    numbers = [int(name.removeprefix("step-")) for name in names if STEP.fullmatch(name)]
    return sorted(number for number in numbers if at(folder, number).name in names)


def at(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def save(
    folder: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    *,
    keep: int,
    repro: Mapping[str, Any],
    spare: int | None = None,
) -> Path:
    """Commit a checkpoint (file stem -> name -> tensor, and JSON state) that survives a power cut.

    Only then all but the newest `keep` up to this step, and the step `spare`, are deleted (a run that was rewound left later
    ones).
    A sound checkpoint of the same step stays as it is. Raises DiskFull, or CheckpointError when the folder
    cannot be written; the checkpoints that were there stay, and nothing half-written.
    """
    if keep < 2:
        raise ValueError(f"keep must be at least 2, so that a damaged checkpoint has a predecessor, got {keep}")
    files = {stem + SUFFIX: dict(values) for stem, values in tensors.items() if STEM.fullmatch(stem)}
    if len(files) != len(tensors):
        raise ValueError(f"file stems must be lower-case names, got {list(tensors)}")
    tensor_file.check_unshared({f"{file}:{name}": value for file in files for name, value in files[file].items()})
    body = {"format": FORMAT, "step": step, "state": dict(state), "repro": dict(repro)}
    need = len(encode(body)) + ENTRY * len(files) + sum(map(tensor_file.size, files.values()))
    target = at(folder, step)
    with busy():
        try:
            if step in steps(folder) and sound(target):
                sync(folder)
            else:
                write(folder, target, files, body, need)
            retain(folder, step, keep, spare)
        except OSError as error:
            raise explained(error, folder, step, need) from error
    return target


def write(
    folder: Path, target: Path, files: Mapping[str, Mapping[str, Tensor]], body: dict[str, Any], need: int
) -> None:
    """The protocol of one process; that of several is in parts.py."""
    make(folder)
    room(folder, need)
    temporary = folder / f"{TEMPORARY}{body['step']:08d}-{secrets.token_hex(4)}"
    try:
        os.mkdir(temporary, 0o755)
        entries = {name: tensor_file.write(temporary / name, values) for name, values in files.items()}
        commit(temporary, target, body | {"files": entries})
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # nothing is left of it after a commit


def commit(temporary: Path, target: Path, body: dict[str, Any]) -> None:
    """Make the files in `temporary` the checkpoint `target`: all or nothing, also when the power fails."""
    file = os.open(temporary / MANIFEST, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        tensor_file.write_all(file, encode(body))
        os.fsync(file)
    finally:
        os.close(file)
    sync(temporary)
    if target.exists():  # save() found it damaged
        os.rename(target, trash(target))
    os.rename(temporary, target)
    sync(target.parent)


def retain(folder: Path, step: int, keep: int, spare: int | None = None) -> None:
    """Delete what is neither among the newest `keep` up to `step` nor `spare`."""
    there = steps(folder)
    kept = [number for number in there if number <= step][-keep:]
    gone = [at(folder, number) for number in there if number not in [*kept, spare]]
    for path in gone:
        os.rename(path, trash(path))
    if gone:
        sync(folder)  # or a power cut could bring back the name without all the files
    sweep(folder, TRASH)


def clean(folder: Path) -> None:
    """Remove what interrupted saves and deletions left. Only for the process that holds the run's lock."""
    sweep(folder, TEMPORARY)
    sweep(folder, TRASH)


def sweep(folder: Path, prefix: str) -> None:
    for path in folder.glob(prefix + "*"):
        # Network file systems keep files that someone still reads: these go at the next save or start.
        shutil.rmtree(path, ignore_errors=True)


def trash(path: Path) -> Path:
    return path.with_name(f"{TRASH}{path.name}-{secrets.token_hex(4)}")


def make(folder: Path) -> None:
    """The folder, with a durable entry in its parent."""
    if not folder.is_dir():
        os.mkdir(folder, 0o755)
    sync(folder.parent)


def sync(folder: Path) -> None:
    """Make the folder's entries durable."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def room(folder: Path, need: int) -> None:
    """Raises OSError before anything is written when `need` bytes are not free."""
    free = available(folder)
    if free is not None and free < need:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def available(folder: Path) -> int | None:
    """Free bytes for this user; None where the file system does not count."""
    system = os.statvfs(folder)
    return system.f_bavail * system.f_frsize if system.f_blocks else None


def explained(error: OSError, folder: Path, step: int, need: int) -> DiskFull | CheckpointError:
    before = [number for number in steps(folder) if number != step]
    last = f"The checkpoint of step {before[-1]} is untouched." if before else "There is none before it."
    if error.errno not in FULL:
        cause = f"the checkpoint of step {step} could not be saved in {folder}: {error.strerror}"
        return CheckpointError(f"{cause}. {last}")
    free = available(folder)
    have = "an unknown part is" if free is None else f"{free / 1e6:.1f} MB are"
    full = "the quota is used up" if error.errno == errno.EDQUOT else "the disk is full"
    return DiskFull(
        f"{full}: the checkpoint of step {step} needs {need / 1e6:.1f} MB and {have} free in {folder}. "
        f"{last} Make room and resume."
    )


def load(folder: Path, step: int | None = None) -> Loaded | None:
    """The newest sound checkpoint, or that of exactly `step`; None when the folder has none at all.

    Raises CheckpointError when there are some and none can be used: it says what is wrong with each.
    """
    there = steps(folder)
    if not there:
        return None
    if step is not None and step not in there:
        raise CheckpointError(f"the step must be one of {', '.join(map(str, there))} in {folder}, got {step}.")
    damaged: list[str] = []
    for number in reversed(there) if step is None else [step]:
        try:
            return read(at(folder, number), damaged)
        except Damage as damage:
            damaged.append(f"the checkpoint of step {number} cannot be used: {damage}")
    if steps(folder) != there:  # a run that is still training replaced them meanwhile
        return load(folder, step)
    raise CheckpointError(f"no usable checkpoint in {folder}: {'; '.join(damaged)}.")


def read(path: Path, damaged: list[str]) -> Loaded:
    """The checkpoint `path`, every byte verified. Raises Damage."""
    body = read_manifest(path)
    tensors = {}
    for name, entry in body["files"].items():
        try:
            tensors[name.removesuffix(SUFFIX)] = tensor_file.read(contents(path / name, entry))
        except ValueError as error:
            raise Damage(f"{path.name}/{name}: {error}") from None
    try:
        tensors = tensor_file.joined(tensors)
    except ValueError as error:
        raise Damage(f"{path.name}: {error}") from None
    return Loaded(
        step=body["step"],
        tensors=tensors,
        state=body["state"],
        repro=body["repro"],
        path=path,
        damaged=damaged,
    )


def sound(path: Path) -> bool:
    try:
        read(path, [])
    except Damage:
        return False
    return True


@contextmanager
def busy() -> Iterator[None]:
    SAVING.set()
    try:
        yield
    finally:
        SAVING.clear()


def committing() -> bool:
    """Whether a checkpoint is being saved just now: a signal handler lets it finish."""
    return SAVING.is_set()

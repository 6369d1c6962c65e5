"""Simulated power cuts at every operation of the saver break no promise; without a precaution they do."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from lmx.errors import CheckpointError
from lmx.train import checkpoint
from tests.faults.crash_states import Disk, Op, Recorder, states
from tests.faults.saves import equal, save

FOLDER = "checkpoints"


def record(root: Path, steps: Iterable[int], keep: int = 2) -> list[Op]:
    recorder = Recorder(root)
    root.mkdir(exist_ok=True)
    with recorder.recording():
        for step in steps:
            save(root / FOLDER, step, keep=keep)
            recorder.ops.append(Op("saved", step=step))
    return recorder.ops


class Judge:
    """Writes a disk out and reads it with the real loader; each different disk once."""

    def __init__(self, root: Path):
        self.root, self.seen, self.recovered = root, {}, {}

    def sound_steps(self, disk: Disk) -> list[int] | None:
        """The steps that are there, or None when one of them is not whole."""
        if disk not in self.seen:
            self.seen[disk] = self.read(disk, self.root / str(len(self.seen)))
        return self.seen[disk]

    def read(self, disk: Disk, root: Path) -> list[int] | None:
        root.mkdir(parents=True)
        for path, data in disk[1:]:
            (root / path).mkdir() if data is None else (root / path).write_bytes(data)
        folder = root / FOLDER
        there = checkpoint.steps(folder)
        try:
            if not all(equal(checkpoint.load(folder, step), step) for step in there):
                return None
        except CheckpointError:
            return None
        names = tuple(path for path, _ in disk)
        if names not in self.recovered:  # what is in the files does not matter any more
            self.recovered[names] = self.goes_on(folder, max(there, default=0) + 1)
        return there if self.recovered[names] else None

    def goes_on(self, folder: Path, step: int) -> bool:
        checkpoint.clean(folder)
        save(folder, step)
        return equal(checkpoint.load(folder), step) and not list(folder.glob(".*"))

    def broken(self, acknowledged: list[int], disk: Disk) -> str:
        """Which promise the disk breaks, or nothing."""
        there = self.sound_steps(disk)
        if there is None:
            return "something named step-* is not whole, or the run cannot go on"
        if acknowledged and max(there, default=0) < acknowledged[-1]:
            return "an acknowledged checkpoint is lost"
        if len(there) < min(2, len(acknowledged)):
            return "the newest checkpoint has no predecessor"
        return ""


def test_no_power_cut_breaks_a_promise(tmp_path):
    ops = record(tmp_path / "run", range(10, 100, 10))
    judge, explored = Judge(tmp_path / "states"), 0
    for acknowledged, disk in states(ops):
        explored += 1
        assert not judge.broken(acknowledged, disk), (acknowledged, [path for path, _ in disk])
    print(f"{len(ops)} operations, {explored} states, {len(judge.seen)} of them different")
    assert explored >= 4000


def test_nor_when_a_run_was_rewound(tmp_path):
    """The steps that are left behind are deleted after the new one is safe."""
    after = {10: 20, 20: 30, 30: 25, 25: 35, 35: 35}
    ops = record(tmp_path / "run", after, keep=3)
    judge = Judge(tmp_path / "states")
    for acknowledged, disk in states(ops):
        there = judge.sound_steps(disk)
        assert there is not None
        assert not acknowledged or {acknowledged[-1], after[acknowledged[-1]]} & set(there)


def test_replacing_a_damaged_checkpoint_never_loses_the_older_one(tmp_path, monkeypatch):
    root = tmp_path / "run"
    ops = record(root, [10, 20])
    monkeypatch.setattr(checkpoint, "sound", lambda path: False)  # what is there counts as damaged
    ops += record(root, [20])
    judge = Judge(tmp_path / "states")
    for acknowledged, disk in states(ops):
        there = judge.sound_steps(disk)
        assert there is not None
        assert max(there, default=0) >= {0: 0, 1: 10, 2: 10, 3: 20}[len(acknowledged)]


# What each precaution is good for: the recording, changed into that of a saver without it.


def unsynced(ending: str) -> Callable[[list[Op]], list[Op]]:
    return lambda ops: [op for op in ops if not (op.kind == "sync" and op.path.endswith(ending))]


def unsynced_temporary(ops: list[Op]) -> list[Op]:
    return [op for op in ops if not (op.kind == "sync" and ".tmp-" in op.path and op.path.count("/") == 1)]


def is_commit(op: Op) -> bool:
    return op.kind == "rename" and ".tmp-" in op.path


def unsynced_after(is_before: Callable[[Op], bool]) -> Callable[[list[Op]], list[Op]]:
    def change(ops: list[Op]) -> list[Op]:
        pairs = zip([Op("start"), *ops], ops, strict=False)
        return [op for before, op in pairs if not (op.kind == "sync" and is_before(before))]

    return change


def acknowledged_early(ops: list[Op]) -> list[Op]:
    """Says "saved" after the rename, before it is synced."""
    result: list[Op] = []
    for op in ops:
        if op.kind != "saved":
            result.append(op)
        if is_commit(op):
            result.append(Op("saved", step=int(op.to[-8:])))
    return result


def in_place(ops: list[Op]) -> list[Op]:
    """No temporary name: the directory has its final one from the start."""
    result, names = [], {op.path: op.to for op in ops if is_commit(op)}
    for op in ops:
        if not is_commit(op):
            path = next((op.path.replace(old, new) for old, new in names.items() if op.path.startswith(old)), op.path)
            result.append(replace(op, path=path))
    return result


def saves(ops: list[Op]) -> list[list[Op]]:
    """Cut after each acknowledgement."""
    result: list[list[Op]] = [[]]
    for op in ops:
        result[-1].append(op)
        if op.kind == "saved":
            result.append([])
    return result[:-1]


def manifest_first(ops: list[Op]) -> list[Op]:
    """In place, and the manifest is written before the tensors."""
    result = []
    for part in saves(in_place(ops)):
        first = [op for op in part if op.path.endswith("manifest.json") and op.kind != "remove"]
        made = next(index for index, op in enumerate(part) if op.kind == "mkdir" and "step-" in op.path) + 1
        result += [*part[:made], *first, *(op for op in part[made:] if op not in first)]
    return result


def renamed_early(ops: list[Op]) -> list[Op]:
    """Renames before the tensors are written."""
    result = []
    for part in saves(ops):
        commit = next(op for op in part if is_commit(op))
        made = next(index for index, op in enumerate(part) if op.kind == "mkdir" and ".tmp-" in op.path) + 1
        later = [replace(op, path=op.path.replace(commit.path, commit.to)) for op in part[made:] if op != commit]
        result += [*part[:made], commit, *later]
    return result


def purged_early(ops: list[Op]) -> list[Op]:
    """Deletes the old before the new is committed."""
    result = []
    for part in saves(ops):
        commit = next(index for index, op in enumerate(part) if is_commit(op)) + 2  # and its sync
        made = next(index for index, op in enumerate(part) if op.kind == "mkdir" and ".tmp-" in op.path)
        result += [*part[:made], *part[commit:-1], *part[made:commit], part[-1]]
    return result


def deleted_in_place(ops: list[Op]) -> list[Op]:
    """Old checkpoints are not renamed before their files go."""
    trash = {op.to: op.path for op in ops if op.kind == "rename" and ".trash-" in op.to}
    result = []
    for op in ops:
        if op.to not in trash:
            path = next((op.path.replace(new, old) for new, old in trash.items() if op.path.startswith(new)), op.path)
            result.append(replace(op, path=path))
    return result


MUTANTS = {
    "tensors are not synced": unsynced(".safetensors"),
    "the manifest is not synced": unsynced("manifest.json"),
    "the temporary directory is not synced": unsynced_temporary,
    "the commit is not synced": unsynced_after(is_commit),
    "the folder's own entry is not synced": unsynced("."),
    "the trash is not synced": unsynced_after(lambda op: ".trash-" in op.to),
    "acknowledged early": acknowledged_early,
    "no temporary name": in_place,
    "manifest first": manifest_first,
    "renamed early": renamed_early,
    "purged early": purged_early,
    "deleted in place": deleted_in_place,
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_each_precaution_is_needed(tmp_path, mutant):
    ops = record(tmp_path / "run", [10, 20, 30])
    changed = MUTANTS[mutant](ops)
    assert changed != ops
    judge = Judge(tmp_path / "states")
    assert any(judge.broken(acknowledged, disk) for acknowledged, disk in states(changed))

"""A disk that is full, or fails, at any operation of a save: one line says so, and nothing is lost."""

import errno
import os
import subprocess
from pathlib import Path

import pytest
import torch

from lmx.errors import CheckpointError, DiskFull, LmxError
from lmx.train import checkpoint
from tests.faults.saves import equal, save

NUMBERS = 1 << 14  # 0.4 MB a checkpoint
OPERATIONS = ("mkdir", "open", "write", "fsync", "rename")
CAUSES = {
    errno.ENOSPC: (DiskFull, "the disk is full"),
    errno.EDQUOT: (DiskFull, "the quota is used up"),
    errno.EIO: (CheckpointError, "Input/output error"),
    errno.EROFS: (CheckpointError, "Read-only file system"),
}


class Failing:
    """An operation of `os` that fails at its n-th call, and ever after if it `lasts`. Reading goes on."""

    def __init__(self, name: str, code: int, nth: int, lasts: bool):
        self.name, self.real, self.calls = name, getattr(os, name), 0
        self.code, self.nth, self.lasts = code, nth, lasts

    def __call__(self, *args, **more):
        if self.name == "open" and not args[1] & os.O_CREAT:
            return self.real(*args, **more)
        self.calls += 1
        if self.calls == self.nth or (self.lasts and self.calls > self.nth):
            raise OSError(self.code, os.strerror(self.code))
        return self.real(*args, **more)


@pytest.mark.parametrize("lasts", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("code", CAUSES, ids=lambda code: errno.errorcode[code])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_may_fail(tmp_path, name, code, lasts):
    folder, step, nth = tmp_path / "checkpoints", 20, 1
    save(folder, 10)
    save(folder, 20)
    while True:
        step += 10
        failing = Failing(name, code, nth, lasts)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, name, failing)
            explained = save_or_error(folder, step)
        assert (explained is None) == (failing.calls < nth), "a failure went unnoticed"
        if explained is None:
            break
        explains(explained, code, folder, step)
        survives(folder, step)
        nth += 1
    assert nth - 1 >= {"mkdir": 1, "open": 3, "write": 7, "fsync": 6, "rename": 2}[name]


def save_or_error(folder: Path, step: int) -> LmxError | None:
    try:
        save(folder, step)
    except LmxError as error:
        return error
    return None


def explains(error: LmxError, code: int, folder: Path, step: int) -> None:
    kind, words = CAUSES[code]
    assert type(error) is kind
    message = str(error)
    assert words in message
    assert str(folder) in message
    assert f"step {step} " in message
    assert f"step {step - 10} is untouched" in message
    assert "\n" not in message
    assert kind is CheckpointError or "MB are free" in message


def survives(folder: Path, step: int) -> None:
    """The predecessor is there, nothing is half-written, and the next save works."""
    assert not list(folder.glob(".tmp-*"))
    there = checkpoint.steps(folder)
    assert len(there) >= 2
    assert step - 10 in there
    assert all(equal(checkpoint.load(folder, number), number) for number in there)
    save(folder, step)
    assert equal(checkpoint.load(folder), step)
    assert checkpoint.load(folder).damaged == []
    assert not list(folder.glob(".*"))


def test_short_writes_are_completed(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:7]))
    save(tmp_path / "checkpoints", 1)
    assert equal(checkpoint.load(tmp_path / "checkpoints"), 1)


def test_the_first_save_may_fail_too(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "write", Failing("write", errno.ENOSPC, 1, True))
    with pytest.raises(DiskFull, match="There is none before it"):
        save(tmp_path / "checkpoints", 1)
    assert checkpoint.load(tmp_path / "checkpoints") is None


def test_an_interrupt_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(file: int, data: bytes) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "checkpoints", 1)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_missing_run_directory_is_explained(tmp_path):
    with pytest.raises(CheckpointError, match=r"could not be saved in .*: No such file or directory"):
        save(tmp_path / "gone" / "checkpoints", 1)


@pytest.fixture
def small_disk(tmp_path):
    """3 MB of tmpfs, where this user may mount."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "lmx-test", str(place)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("may not mount a tmpfs here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("asked_first", [True, False], ids=["preflight", "while writing"])
def test_a_real_full_disk(small_disk, monkeypatch, asked_first):
    folder = small_disk / "checkpoints"
    for step in (10, 20):
        save(folder, step, numbers=NUMBERS)
    free = checkpoint.available(folder)
    if not asked_first:
        monkeypatch.setattr(checkpoint, "room", lambda folder, need: None)
    big = {"model": {"weight": torch.zeros(2_000_000)}}
    with pytest.raises(
        DiskFull, match=r"needs 8\.0 MB and \d\.\d MB are free in .*The checkpoint of step 20 is untouched"
    ):
        checkpoint.save(folder, 30, big, {}, keep=2, repro={})
    assert checkpoint.available(folder) == free
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000010", "step-00000020"]
    assert equal(checkpoint.load(folder), 20, NUMBERS)

"""The cache is whole or not there: after kills at every step, races, damage, full disks and changed inputs."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lmx.data import cache as module
from lmx.data.cache import manifest, obtain, remembered, sound
from lmx.data.corpus import prepare
from lmx.data.tokenizer import BPE, Bytes
from lmx.errors import DiskFull, LmxError
from tests.data.conftest import decoded, jsonl, prose, read, silent

KILLS = 20
STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "mmap.__new__")  # what changes a disk
BUILDER = """
import os, signal, sys
from tests.data.conftest import jsonl
from lmx.data.corpus import prepare
from lmx.data.tokenizer import Bytes

folder, last = sys.argv[1], int(sys.argv[2])
phases, steps = [], 0

def step(event, arguments):
    global steps
    if event in {steps!r} and "cache" in str(arguments[0] if arguments else ""):
        steps += 1
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)

source, tokenizer = jsonl(folder), Bytes()
source.key
sys.addaudithook(step)
corpus = prepare(source, tokenizer, lambda phase, fraction: phases.append(phase))
print(corpus.fingerprint, steps, "training tokenizer" in phases)
""".replace("{steps!r}", repr(STEPS))


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl").write_text("".join(json.dumps({"text": prose(n, 200)}) + "\n" for n in range(40)))
    return tmp_path / "data"


def start(folder: Path, last: int = 0) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, folder, str(last)], stdout=subprocess.PIPE, text=True, env=environment
    )


def end(process: subprocess.Popen) -> list[str]:
    out, _ = process.communicate()
    assert process.returncode == 0
    return out.split()


def test_kills_while_it_is_built(folder, cache, monkeypatch):
    """SIGKILL at steps spread over the whole build; then the next process builds it, and the rubbish is gone."""
    fingerprint, steps, built = end(start(folder))
    assert built == "True"
    assert int(steps) > 25
    for number in range(KILLS):
        monkeypatch.setenv("LMX_CACHE", str(cache / f"kill-{number}"))
        last = 1 + number * (int(steps) - 1) // (KILLS - 1)
        process = start(folder, last)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, f"step {last} of {steps}"
        place = cache / f"kill-{number}"
        assert all(sound(found) for found in place.glob("[!.]*") if found.is_dir()), f"half a cache after step {last}"
        assert read(jsonl(folder)).fingerprint == fingerprint
        assert not list(place.glob(".tmp-*")), f"rubbish after step {last}"


def test_rubbish_of_other_corpora_is_removed_unless_someone_builds(folder, cache):
    import fcntl

    for name in ("dead", "alive"):
        (cache / f".tmp-{name}").mkdir(parents=True)
        (cache / f".tmp-{name}" / "texts-0").write_text("half")
    with (cache / "alive.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        read(jsonl(folder))
        assert [path.name for path in cache.glob(".tmp-*")] == [".tmp-alive"]


def test_racing_builders_build_once(folder):
    results = [end(process) for process in [start(folder) for _ in range(4)]]
    assert len({fingerprint for fingerprint, _, _ in results}) == 1
    assert [built for _, _, built in results].count("True") == 1


def test_a_builder_that_waits_says_so(folder, cache):
    import fcntl
    from threading import Timer

    cache.mkdir()
    file = (cache / "key.lock").open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    said = []
    timer = Timer(0.2, file.close)
    timer.start()
    obtain(
        "key",
        lambda temporary: (temporary / "x").write_text("x") and None,
        lambda phase, fraction: said.append(phase),
    )
    assert said == ["waiting for another process that builds the same corpus"]


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGE = {
    "flipped bit": flip,
    "cut": lambda file: os.truncate(file, 5),
    "gone": Path.unlink,
    "emptied": lambda file: file.write_text(""),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_and_built_again(folder, cache, damage):
    corpus = read(jsonl(folder))
    place = next(path for path in cache.iterdir() if path.is_dir())
    for name in sorted(path.name for path in place.iterdir()):
        DAMAGE[damage](place / name)
        again = read(jsonl(folder))
        assert again.fingerprint == corpus.fingerprint, name
        assert decoded(again, "validation") == decoded(corpus, "validation")
        assert sound(place), name


def test_found_again_without_reading_or_training(folder):
    read(jsonl(folder))
    seen = []
    prepare(jsonl(folder), Bytes(), lambda phase, fraction: seen.append(phase))
    assert seen == ["reading data"]


def test_changed_inputs_have_keys_of_their_own(folder, cache):
    def entries():
        return {path.name for path in cache.iterdir() if path.is_dir()}

    read(jsonl(folder))
    os.utime(folder / "a.jsonl", (1, 1))
    read(jsonl(folder))
    assert len(entries()) == 1
    read(jsonl(folder), BPE(size=600))
    read(jsonl(folder, max_tokens=1000))
    assert len(entries()) == 3
    with (folder / "a.jsonl").open("a") as file:
        file.write(json.dumps({"text": "A new one."}) + "\n")
    changed = read(jsonl(folder))
    assert len(entries()) == 4
    assert sum(len(getattr(changed, split)) for split in ("train", "validation", "test")) == 41


def test_hashes_of_large_files_are_remembered_until_they_change(folder, cache, monkeypatch):
    monkeypatch.setattr(module, "LARGE", 1)
    file = folder / "a.jsonl"
    first = module.content(file)
    assert not remembered(), "just written: its times could not tell a change that follows at once"
    monkeypatch.setattr(module, "SETTLED", -1.0)
    assert module.content(file) == first
    assert list(remembered().values()) == [first]
    with (cache / "content.txt").open("a") as torn:
        torn.write("1 2 3 4 5 abc")
    assert list(remembered().values()) == [first]
    monkeypatch.setattr(module, "file_digest", None)  # asking for another hash would fail
    assert module.content(file) == first
    monkeypatch.undo()
    monkeypatch.setenv("LMX_CACHE", str(cache))
    monkeypatch.setattr(module, "LARGE", 1)
    times = file.stat()
    file.write_text(file.read_text().replace("Document 1.", "Document 9."))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert module.content(file) != first, "same size, time put back"


def test_full_disk(cache):
    def fill(temporary: Path) -> None:
        (temporary / "half").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskFull, match=r"the disk is full\. Make room, or let LMX_CACHE name another folder"):
        obtain("key", fill, silent)
    assert [path.name for path in cache.iterdir()] == ["key.lock"], "nothing half is left"


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LMX_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(LmxError, match="LMX_CACHE must be a folder that can be written"):
        obtain("key", lambda temporary: None, silent)


def test_the_manifest_names_every_file(folder, cache):
    read(jsonl(folder))
    place = next(path for path in cache.iterdir() if path.is_dir())
    assert {path.name for path in place.iterdir()} == {*manifest(place), "manifest.json"}
    assert not [path.name for path in place.iterdir() if path.name.startswith(("texts", "tokens-"))]

"""The store under runs/: names, whole files, lines that are torn or not finite, and one writer."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from lmx.errors import LmxError, Locked
from lmx.runs import LOCK, Run, find, root
from tests.track.directories import make

WRITER = """
import sys, time
from lmx.errors import Locked
from lmx.runs import Run
run = Run.open(sys.argv[1])
try:
    run.lock()
except Locked:
    print("lost", flush=True)
else:
    print("won", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path) -> Run:
    return make(tmp_path)


def writer(run: Run, **options) -> subprocess.Popen:
    command = [sys.executable, "-c", WRITER, str(run.path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)


def test_created(run, tmp_path):
    assert run.path.parent == tmp_path
    assert run.name.split("-")[2] == "clm"
    assert run.status()["state"] == "queued"
    assert run.config()["budget"]["steps"] == 100
    assert (run.path / "overrides.txt").read_text().splitlines()[0] == "budget.steps=100"
    assert run.label() == "clm-tiny-s0"
    assert len({make(tmp_path).name for _ in range(5)}) == 5


def test_root(monkeypatch):
    monkeypatch.delenv("LMX_RUNS", raising=False)
    assert str(root()) == "runs"
    monkeypatch.setenv("LMX_RUNS", "/a")
    assert str(root()) == "/a"
    assert str(root({"runs": "/b"})) == "/b"


def test_folder_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LmxError, match="runs must be a folder that can be written"):
        Run.create(run.config(), [], tmp_path / "file")


def test_opened_by_path_name_and_suffix(run, tmp_path):
    for name in (run.path, run.name, run.name[-5:], run.name[9:]):
        assert Run.open(name, tmp_path).path == run.path
    second = run.path.with_name("2-" + run.name)
    second.mkdir()
    (second / "config.yaml").write_text("{}")
    assert Run.open(run.name, tmp_path).name == run.name  # a whole name wins over the end of another
    with pytest.raises(LmxError, match="must name one run"):
        Run.open(run.name[-5:], tmp_path)


@pytest.mark.parametrize("name", ["nothing", "", "..", "../x", "/etc", ".hidden", "a b", "x" * 101, "a\nb"])
def test_names_that_are_none(run, tmp_path, name):
    with pytest.raises(LmxError) as caught:
        Run.open(name, tmp_path)
    assert "\n" not in str(caught.value)


def test_nearest_name_is_suggested(run, tmp_path):
    with pytest.raises(LmxError, match=f"Did you mean '{run.name}'"):
        Run.open(run.name[:-1] + "_", tmp_path)


def test_find_follows_no_links_and_sorts(run, tmp_path):
    (tmp_path / "link").symlink_to(run.path)
    (tmp_path / "other").mkdir()
    older = tmp_path / "2001-clm"
    older.mkdir()
    (older / "config.yaml").write_text("{}")
    assert [found.name for found in find(tmp_path)] == ["2001-clm", run.name]
    assert find(tmp_path / "absent") == []


def test_unreadable_config_is_a_mistake_with_one_line(run):
    (run.path / "config.yaml").write_text("a: [1")
    with pytest.raises(LmxError, match="is not readable") as caught:
        run.config()
    assert "\n" not in str(caught.value)


def test_torn_tail_is_not_there_yet_and_truncate_repairs_it(run):
    for step in (1, 2, 3):
        run.append("metrics.jsonl", {"step": step})
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 4, "tex\xc3')
    assert [line["step"] for line in run.lines("metrics.jsonl")] == [1, 2, 3]
    run.truncate(3)
    run.append("metrics.jsonl", {"step": 4})
    assert [line["step"] for line in run.lines("metrics.jsonl")] == [1, 2, 3, 4]
    run.truncate(2)
    assert [line["step"] for line in run.lines("metrics.jsonl")] == [1, 2]
    assert run.lines("evals/validation.jsonl") == []


def test_not_finite_is_null_and_named(run):
    run.append("metrics.jsonl", {"step": 1, "loss": float("nan"), "grad_norm": float("inf"), "lr": 0.1})
    text = (run.path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "step": 1, "loss": None, "grad_norm": None, "lr": 0.1, "nonfinite": {"loss": "nan", "grad_norm": "inf"},
    }  # fmt: skip


def test_lines_of_several_writers_stay_whole(run):
    def write(number: int) -> None:
        for step in range(200):
            run.append("metrics.jsonl", {"step": step, "number": number, "text": "x" * 500})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(run.lines("metrics.jsonl")) == 800


def test_status_is_replaced_as_a_whole(run):
    """A reader sees an old one or a new one, never a part."""
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            run.set_status(phase="training", text="x" * 20000)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        seen = [Run(run.path).status()["state"] for _ in range(300)]
    finally:
        stop.set()
        thread.join()
    assert set(seen) == {"queued"}
    assert not list(run.path.glob(".status*"))


def test_exactly_one_writer(run):
    writers = [writer(run) for _ in range(5)]
    said = sorted(child.stdout.readline().strip() for child in writers)
    assert said == ["lost"] * 4 + ["won"]
    assert run.alive()
    with pytest.raises(Locked) as caught:
        run.lock()
    assert caught.value.exit_code == 7
    for child in writers:
        child.communicate()
    assert not run.alive()


def test_looking_does_not_keep_a_writer_out(run):
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            Run(run.path).alive()

    (run.path / ".lock").touch()
    threads = [threading.Thread(target=look) for _ in range(2)]
    [thread.start() for thread in threads]
    try:
        for _ in range(50):
            run.lock()
            run.unlock()
    finally:
        stop.set()
        [thread.join() for thread in threads]


def test_killed_is_derived_from_the_lock(run):
    child = writer(run)
    assert child.stdout.readline() == "won\n"
    run.set_status(state="running", pid=child.pid)
    assert run.status()["state"] == "running"
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert run.status()["state"] == "killed"
    assert run.read_json("status.json")["state"] == "running"  # on disk nobody rewrote it


def test_a_child_inherits_the_lock(run):
    """The worker still holds it when its launcher is gone."""
    run.lock()
    child = writer(run, env=os.environ | {LOCK: str(run.descriptor)}, pass_fds=[run.descriptor])
    assert child.stdout.readline() == "won\n"
    run.unlock()
    assert run.alive()
    child.communicate()
    assert not run.alive()

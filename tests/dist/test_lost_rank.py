"""A rank that dies, is stopped or is stuck ends the run: rank, step and stack are named, and nobody waits for ever."""

import faulthandler
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmx.errors import INTERNAL
from lmx.runs import RANK_TIMEOUT, Run
from lmx.train.watch import condition, last
from tests.dist.ranks import Ranks, serving
from tests.faults import tiny
from tests.faults.tiny import until

TIMEOUT = 8  # seconds
PATIENCE = 200  # seconds, on a machine that others use, too


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("runs")
    tiny.corpus(path / "text")
    return path


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Ranks]:
    with serving(folder) as started:
        yield started


def running(server: Ranks, folder: Path, **order) -> tuple[Run, list[int]]:
    """Two ranks that have made a few steps of many."""
    run = tiny.new(folder, "budget.steps=100000", "eval.every=1.0")
    pids = server.start(run, 2, environment={RANK_TIMEOUT: TIMEOUT}, **order)
    status = lambda: run.read_json("status.json")  # noqa: E731
    until(lambda: status().get("step", 0) >= 3 or status()["state"] == "failed", PATIENCE)
    return run, pids


@pytest.mark.parametrize("lost", [0, 1])
def test_a_dead_rank_is_named_at_once(server, folder, lost):
    run, pids = running(server, folder)
    os.kill(pids[lost], signal.SIGKILL)
    codes = server.wait()
    assert codes == ([-9, INTERNAL] if lost == 0 else [INTERNAL, -9])
    status = run.read_json("status.json")
    assert (status["state"], status["exit_code"]) == ("failed", INTERNAL)
    assert f"rank {lost} (process {pids[lost]}) has ended without a word, after step " in status["reason"]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_stopped_rank_ends_the_run(server, folder, lost):
    run, pids = running(server, folder)
    os.kill(pids[lost], signal.SIGSTOP)
    codes = server.wait()
    assert codes == ([-9, INTERNAL] if lost == 0 else [INTERNAL, -9])
    reason = run.read_json("status.json")["reason"]
    assert f"rank {lost} (process {pids[lost]}) is stopped, for {TIMEOUT} s, after step " in reason
    assert 'at File "' in reason
    assert "most recent call first" in (run.path / "log.txt").read_text()


def test_a_stuck_rank_is_told_from_those_that_wait(server, folder):
    run, pids = running(server, folder, bug="stuck")
    assert set(server.wait()) <= {-9, INTERNAL}  # it may see by itself that it is stuck
    reason = run.read_json("status.json")["reason"]
    assert f"rank 1 (process {pids[1]}) has kept the others waiting for {TIMEOUT} s, after step 4, at File" in reason
    assert "in stays" in reason


def test_long_work_of_one_rank_is_no_loss(server, folder):
    """Rank 0 evaluates for longer than the time-out, while rank 1 waits."""
    run = tiny.new(folder, "budget.steps=8", "eval.every=1.0")
    assert server.work(run, 2, bug="slow", environment={RANK_TIMEOUT: 4}) == [0, 0], run.read_json("status.json")
    assert run.status()["state"] == "done"
    assert not (run.path / "ranks").exists()


def test_an_error_of_one_rank_is_told_by_itself(server, folder):
    run = tiny.new(folder)
    codes = server.work(run, 2, bug="error", environment={RANK_TIMEOUT: TIMEOUT})
    assert codes == [INTERNAL, INTERNAL]
    said = "rank 1, after step 4: internal error, see log.txt: ZeroDivisionError: of rank 1"
    assert run.read_json("status.json")["reason"] == said


def test_the_main_thread_is_where_a_rank_is(tmp_path):
    """Whichever thread writes the stacks, as the watch's own does where a rank sees that it is late."""

    def waits():
        dumped.wait()

    def dump():
        with (tmp_path / "stack").open("w") as file:
            faulthandler.dump_traceback(file)
        dumped.set()

    dumped = threading.Event()
    threading.Thread(target=dump).start()
    waits()
    stack = (tmp_path / "stack").read_text()
    assert stack.startswith("Current thread")  # of the writer
    assert "in dump" not in last(stack)
    assert any(f"in {name}" in last(stack) for name in ("wait", "waits", "start"))


def test_conditions():
    assert condition(os.getpid()) in "RS"
    assert condition(2**22 + 1) == ""

"""A yardstick that fails, or takes its process along, costs only itself; who stops the command leaves nobody behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lmx.cli import comparing
from lmx.cli.aside import stoppable
from lmx.cli.evaluating import check, measure, unmeasured
from lmx.cli.launching import tracked
from lmx.errors import FAILED_ARM, INTERNAL, INTERRUPTED, PREEMPTED, LmxError
from lmx.launch.local import Processes
from lmx.runs import Run
from tests.compare.directories import run as finished
from tests.faults import tiny

COMMAND = "import sys; sys.argv[0] = 'lmx'; from lmx.cli import main; main()"
STOPPED = "lmx: stopped; what has been done is kept. The same command goes on from here.\n"
CODE = """
import os, signal, time
from pathlib import Path

from lmx.errors import DataError
from lmx.evals.yardstick import Row, Yardstick


class Faulty(Yardstick):
    def __init__(self, *, fault: str, whom: str):
        self.fault, self.whom = fault, whom

    def __call__(self, subject, report):
        if self.whom in ("all", type(subject.learner.objective).__name__) and os.environ.get("MENDED") is None:
            misbehave(self.fault)
        same = {"scorer": "any", "items": 9, "unit": "share", "better": "higher", "comparability": "D"}
        return [Row(metric="accuracy", value=0.5, **same)]


class Reader(Yardstick):
    def __init__(self, *, path: str):
        self.path = path

    def __call__(self, subject, report):
        return []

    def check(self):
        misbehave(self.path)


class Slow:
    def __init__(self):
        misbehave("wait")


def misbehave(fault):
    if fault == "raise":
        raise RuntimeError("broken\\nin two lines")
    if fault == "refuse":
        raise DataError("faulty.path must be a file, got nothing.")
    if fault == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "wait":
        Path(os.environ["PID_FILE"]).write_text(str(os.getpid()))
        time.sleep(120)
"""


def yardstick(fault: str, whom: str = "all") -> dict[str, str]:
    return {"_target_": "mine.faulty.Faulty", "fault": fault, "whom": whom}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """With a plug-in `mine`: a yardstick that can fail in every way, and an objective that never comes to be."""
    path = tmp_path_factory.mktemp("measuring")
    tiny.corpus(path / "text")
    conf = path / "mine" / "conf"
    for group in ("eval/yardstick", "objective"):
        (conf / group).mkdir(parents=True)
    (path / "mine" / "faulty.py").write_text(CODE)
    for name in ("good", "faulty"):
        (conf / f"eval/yardstick/{name}.yaml").write_text(
            f"# A test's.\n_target_: mine.faulty.Faulty\nfault: {'none' if name == 'good' else 'raise'}\nwhom: all\n"
        )
    (conf / "objective" / "slow.yaml").write_text("# A test's.\n_target_: mine.faulty.Slow\n")
    return path


@pytest.fixture(scope="module")
def trained(folder) -> dict[str, Run]:
    runs = {name: tiny.new(folder, f"objective={name}", "budget.steps=4") for name in ("clm", "mlm")}
    with tiny.serving(folder) as server:
        assert [server.work(run) for run in runs.values()] == [0, 0]
    return runs


@pytest.fixture
def run(trained) -> Iterator[Run]:
    """Not measured yet."""
    yield trained["mlm"]
    forget(trained["mlm"])


def forget(one: Run) -> None:
    for name in ("good", "bug", "mistake", "faulty", "last"):
        (one.path / "evals" / f"{name}.jsonl").unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def environment(folder, monkeypatch, tmp_path) -> Path:
    """-> where something that waits writes its process id"""
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{tiny.ROOT}")
    monkeypatch.setenv("LMX_PLUGINS", "mine")
    monkeypatch.setenv("PID_FILE", str(tmp_path / "pid"))
    for name, value in {"LMX_CACHE": "cache", "LMX_RUNS": "runs"}.items():
        monkeypatch.setenv(name, str(folder / value))
    return tmp_path / "pid"


def test_one_that_fails_costs_only_itself(run, monkeypatch):
    """A bug, a mistake of the user, and the end of its process. A bug keeps its traceback."""
    faults = {"good": "none", "bug": "raise", "mistake": "refuse", "faulty": "die", "last": "none"}
    nodes = {name: yardstick(fault) for name, fault in faults.items()}
    failed = measure(run, None, nodes)
    assert {name: (str(error), error.exit_code) for name, error in failed.items()} == {
        "bug": ("RuntimeError: broken in two lines", INTERNAL),
        "mistake": ("faulty.path must be a file, got nothing.", 3),
        "faulty": ("its process was ended by SIGKILL.", INTERNAL),
    }
    assert "Traceback" in (run.path / "log.txt").read_text()
    monkeypatch.setenv("MENDED", "1")
    assert measure(run, None, nodes) == {}
    assert {name: len(run.lines(f"evals/{name}.jsonl")) for name in nodes} == dict.fromkeys(nodes, 1), "what is missing"


def test_what_cannot_be_loaded_is_measured_by_nothing(run, tmp_path):
    empty = Run.create(run.config(), [], tmp_path)
    failed = measure(empty, None, {"good": yardstick("none"), "faulty": yardstick("none")})
    assert list(failed) == ["good", "faulty"]
    told = unmeasured(failed, 2)
    assert str(told) == f"RUN must have a checkpoint, got {empty.name}, which has none.", "once for all"
    assert told.exit_code == 4
    assert str(unmeasured({"faulty": LmxError("broken")}, 2)) == "faulty: broken"


def test_an_arm_that_cannot_be_measured_does_not_stop_a_comparison(trained, monkeypatch, capsys):
    monkeypatch.setattr("lmx.cli.reporting.write", lambda *_: None)
    nodes = {"good": yardstick("none"), "faulty": yardstick("raise", "MLM")}
    monkeypatch.setattr(comparing, "yardsticks", lambda words: nodes)

    def compared() -> dict:
        chosen = ",".join(str(one.path) for one in trained.values())
        asked = {"seeds": 1, "name": "faults", "evaluations": [], "plan": False, "tune": None, "aa": False}
        found = comparing.compare([], chosen=chosen, **asked)
        assert found is not None
        return found

    table = compared()
    assert f"{trained['mlm'].name}: faulty failed: RuntimeError: broken in two lines" in capsys.readouterr().err
    assert comparing.code(table) == FAILED_ARM
    assert table["failed"] == {"mlm seed 0 faulty": "RuntimeError: broken in two lines"}
    assert table["cautions"][0] == "mlm could not be measured by faulty (seed 0): RuntimeError: broken in two lines."
    assert table["words"][0] == table["cautions"][0]
    assert [row["yardstick"] for row in table["rows"]] == ["good"]
    monkeypatch.setenv("MENDED", "1")
    table = compared()
    assert comparing.code(table) == 0
    assert [row["yardstick"] for row in table["rows"]] == ["good", "faulty"]
    assert [len(one.lines(f"evals/{name}.jsonl")) for one in trained.values() for name in nodes] == [1] * 4
    for one in trained.values():
        forget(one)


@pytest.mark.parametrize("words", [["compare", "clm", "mlm"], ["sweep", "seed=0,1"]])
def test_a_file_that_is_not_there_is_noticed_before_anything_is_trained(folder, trained, words):
    before = set((folder / "runs").iterdir())
    evaluations = ["--eval", "good minimal_pairs.path=nowhere/pairs.jsonl"]
    child = lmx(*words, *tiny.overrides(folder), *evaluations)
    told, said = child.communicate(timeout=100)
    assert (child.returncode, told) == (3, "")
    assert said == "lmx: minimal_pairs.path must be a file, folder or glob that exists, got nowhere/pairs.jsonl.\n"
    assert set((folder / "runs").iterdir()) == before


@pytest.mark.parametrize(
    ("fault", "said", "code"),
    [
        ("raise", "RuntimeError: broken in two lines", INTERNAL),
        ("refuse", "faulty.path must be a file, got nothing.", 3),
        ("die", "good, faulty: the process that reads its files was ended by SIGKILL.", INTERNAL),
    ],
)
def test_who_cannot_read_its_files_is_no_reader_of_them(fault, said, code):
    """Also where the process has no word for it."""
    nodes = {
        name: {"_target_": "mine.faulty.Reader", "path": how} for name, how in (("good", "none"), ("faulty", fault))
    }
    with pytest.raises(LmxError) as error:
        check(nodes)
    assert (str(error.value), error.value.exit_code) == (said, code)
    check({"good": nodes["good"]})


def test_one_that_fails_on_the_way_does_not_end_its_run(folder, monkeypatch):
    """It is said, not asked again, and the losses are written all the same."""
    monkeypatch.syspath_prepend(str(folder))
    some = [f"eval.yardsticks.{name}={name}" for name in ("good", "faulty")]
    run = tiny.new(folder, "budget.steps=4", "eval.every=0.5", *some)
    with tiny.serving(folder) as server:
        assert server.work(run) == 0
    lines = run.lines("evals/validation.jsonl")
    assert [line["good/accuracy/any"] for line in lines] == [0.5, 0.5]
    assert all(line["loss"] > 0 and "faulty/accuracy/any" not in line for line in lines)
    assert run.status()["note"] == "faulty failed at step 2, and is not asked again: RuntimeError: broken in two lines"
    assert (run.path / "log.txt").read_text().count("Traceback") == 1


def lmx(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", COMMAND, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def gone(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


@pytest.mark.parametrize(
    ("what", "number", "code"),
    [
        ("compare", signal.SIGINT, INTERRUPTED),
        ("compare", signal.SIGKILL, -signal.SIGKILL),
        ("evaluate", signal.SIGTERM, PREEMPTED),
        ("plan", signal.SIGTERM, PREEMPTED),
    ],
)
def test_stopped_while_a_process_aside_works(trained, environment, what, number, code):
    """Nobody is left behind, not even by SIGKILL, and what the user reads is one line."""
    slow, names = ["faulty", "faulty.fault=wait"], [one.name for one in trained.values()]
    child = lmx(*{
        "compare": ["compare", "--runs", ",".join(names), "--eval", " ".join(slow)],
        "evaluate": ["evaluate", names[0], *slow],
        "plan": ["compare", "clm", "slow", *tiny.overrides(trained["clm"].path.parents[1])],
    }[what])  # fmt: skip
    tiny.until(lambda: environment.exists() and environment.read_text(), 200)
    child.send_signal(number)
    told, said = child.communicate(timeout=30)
    assert child.returncode == code, said
    assert (told, said) == ("", STOPPED if code > 0 else "")
    tiny.until(lambda: gone(int(environment.read_text())), 20)


def test_stopped_while_others_send_to_a_tracker(run):
    """The tracker goes on: nobody need wait for it."""
    with subprocess.Popen(["sleep", "100"]) as tracker:
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(LmxError, match="goes on from here") as error, stoppable():
            tracked(run, tracker)
        assert error.value.exit_code == PREEMPTED
        assert tracker.poll() is None
        tracker.kill()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "as before"


def test_nothing_takes_a_stop_for_a_failure_of_its_own():
    """A plan and a page go on without what a process aside could not tell them; not when it was told to stop."""

    def swallowing() -> None:
        with suppress(Exception):
            os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("it went on")

    with pytest.raises(LmxError, match="goes on from here"), stoppable():
        swallowing()


def test_a_signal_that_a_run_is_too_late_to_hear_stops_what_comes_after(tmp_path, monkeypatch):
    """It reached a worker at its very end. A command of this run alone has done what it was told to."""
    monkeypatch.delenv("LMX_PLUGINS")
    done = finished(tmp_path)

    def late() -> int:
        child = subprocess.Popen(["true"])
        child.wait()
        processes = Processes(done, child, 20, alone=True)
        os.kill(os.getpid(), signal.SIGTERM)
        return processes.finish()

    assert late() == 0
    with pytest.raises(LmxError, match="goes on from here") as error, stoppable():
        late()
    assert error.value.exit_code == PREEMPTED

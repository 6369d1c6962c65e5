"""The commands over run directories: mistakes are one line, quick, and JSON is JSON."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lmx.runs import Run, find
from tests.track.directories import finished, make

LIGHT = {"torch", "wandb", "datasets", "numpy", "tokenizers"}
REPORT = """
import atexit, sys
atexit.register(lambda: print("\\n" + " ".join({name.partition(".")[0] for name in sys.modules})))
from lmx.cli import main
main()
"""
TINY = ["model=nano", "tokenizer=bytes", "trainer.compile=false", "trainer.batch_tokens=1024", "eval.tokens=4096"]


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Run:
    return finished(tmp_path_factory.mktemp("runs"), "objective=mlm", "seed=3")


def lmx(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, and on its last line what it imported."""
    return subprocess.run(
        [sys.executable, "-c", REPORT, *arguments], env=os.environ | {"LMX_RUNS": str(folder)}, cwd=folder,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def read(folder: Path, *arguments: str):
    """What a command prints as JSON."""
    told = lmx(folder, *arguments, "--json")
    assert told.returncode in (0, 1), told.stderr
    return json.loads(told.stdout.rpartition("\n\n")[0] or told.stdout.rstrip().rpartition("\n")[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "objective=mlmm"], "Did you mean"),
        (["train", "budget.step=5"], "budget.step"),
        (["train", "runs=/proc/none"], "runs must be a folder that can be written"),
        (["train", "--resume", "nothing"], "RUN must be one of the runs in"),
        (["train", "--resume", "RUN", "seed=2"], "--resume must have no overrides, got seed=2"),
        (["train", "--resume", "RUN", "--dry-run"], "at most one of --resume, --branch, --join and --dry-run"),
        (["train", "--resume", "RUN", "--branch", "RUN@5"], "at most one of --resume, --branch, --join and --dry-run"),
        (["train", "--branch", "RUN", "budget.steps=5"], "--branch must have RUN@STEP and one budget"),
        (["train", "--branch", "RUN@five", "budget.steps=5"], "--branch must have RUN@STEP and one budget"),
        (["train", "--branch", "RUN@5"], "--branch must have RUN@STEP and one budget"),
        (["train", "--branch", "RUN@5", "budget.steps=5", "seed=1"], "--branch must have RUN@STEP and one budget"),
        (["train", "--branch", "RUN@5", "budget.steps=9"], "--branch must name a step with a checkpoint, got 5"),
        (["train", "--branch", "nothing@5", "budget.steps=5"], "RUN must be one of the runs in"),
        (["watch", "nothing"], "RUN must be one of the runs in"),
        (["watch", "../etc"], "RUN must be the name or path of a run"),
        (["sync", "nothing"], "RUN must be one of the runs in"),
        (["show", "objective=mlmm"], "objective must be one of"),
        (["show", "no.such.key=1"], "no.such.key"),
        (["show", "mlm", "nope"], "objective must be one of"),
        (["show", "mlm", "objective=clm"], "objective must be named once"),
        (["show", "mlm", "--text", " "], "--text must have a word"),
        (["show", "mlm", "--noise", "1"], "--noise must go with one --text, got 0"),
        (["show", "mlm", "--text", "a b", "--noise", "3-1"], "--noise must be places such as 1-3,7, got '3-1'"),
        (["show", "mlm", "--text", "a b", "--noise", "2"], "--noise must name tokens of the text, 0 to 1, got 2"),
        (["show", "clm", "--text", "a b", "--noise", "1"], "--noise must go with an objective that hides tokens"),
        (["show", "mlm", "--text", "a b", "--json", "--html", "x.html"], "--json must go without --html"),
        (["show", "mlm", "--text", "a b", "--html", "/nowhere/x.html"], "--html must be a file that can be written"),
    ],
)
def test_mistake_is_one_line_without_torch(done, arguments, message):
    told = lmx(done.path.parent, *(argument.replace("RUN", done.name) for argument in arguments))
    assert told.returncode == 2
    assert told.stderr.startswith("lmx: ")
    assert told.stderr.count("\n") == 1
    assert message in told.stderr
    assert not set(told.stdout.split()) & LIGHT
    assert [run.name for run in find(done.path.parent)] == [done.name]  # nothing was started


@pytest.mark.parametrize("command", ["train", "show", "runs", "watch", "sync", "doctor"])
def test_help_is_light(tmp_path, command):
    told = lmx(tmp_path, command, "--help")
    assert told.returncode == 0
    assert not set(told.stdout.splitlines()[-1].split()) & (LIGHT | {"hydra", "omegaconf", "rich"})


def test_runs(done):
    (row,) = read(done.path.parent, "runs")
    assert (row["run"], row["name"], row["state"], row["progress"]) == (done.name, "mlm-tiny-s3", "done", 1.0)
    assert (row["step"], row["tokens"], row["seconds"]) == (100, 102400, 10.0)
    assert row["validation"] == done.lines("evals/validation.jsonl")[-1]["loss"]
    table = lmx(done.path.parent, "runs").stdout.splitlines()
    assert table[1].split() == [done.name, "mlm-tiny-s3", "done", "100%", "102", "k", "0:10", "3.036", "3.036", "1.012"]
    assert not set(table[-1].split()) & LIGHT


def test_runs_without_any_and_with_a_damaged_one(tmp_path):
    assert lmx(tmp_path, "runs").stdout.startswith(f"No runs in {tmp_path}. Start one with: lmx train\n")
    make(tmp_path)
    (tmp_path / "[bold]").mkdir()
    (tmp_path / "[bold]" / "config.yaml").write_text("a: [")
    assert {row["state"] for row in read(tmp_path, "runs")} == {"queued", "unreadable"}
    assert "[bold]" in lmx(tmp_path, "runs").stdout


def test_watch_a_run_that_has_ended(done):
    told = lmx(done.path.parent, "watch", done.name[-5:])
    assert told.returncode == 0
    assert "mlm-tiny-s3 done\n" in told.stdout


@pytest.mark.parametrize(("objective", "name"), [("clm", "CLM"), ("mlm", "MLM")])
def test_show(tmp_path, objective, name):
    example = read(
        tmp_path, "show", f"objective={objective}", *TINY, "length=32", "--text", "The state of the union is strong."
    )
    assert (example["objective"], example["class"]) == (objective, name)
    (row,) = example["rows"]
    size = len(row["tokens"])
    assert [len(line) for line in row["visible"]] == [size] * size
    triangle = [[int(column <= line) for column in range(size)] for line in range(size)]
    assert (row["visible"] == triangle) == (objective == "clm")
    asked = [token for token in row["tokens"] if token["asked"]]
    assert len(asked) == sum(example["counts"].values()) > 0
    assert example["text"].startswith("The state of the union")


def test_show_objectives_side_by_side_and_as_a_page(tmp_path):
    text = ("--text", "The state of the union is strong.")
    examples = read(tmp_path, "show", "clm", "span", *TINY[:1], *text)
    assert [example["objective"] for example in examples] == ["clm", "span"]
    told = lmx(tmp_path, "show", "clm", "span", *TINY[:1], *text, "--html", "page.html")
    assert told.stdout.startswith("page.html\n")
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("<article>") == 2


def test_doctor(tmp_path):
    findings = {finding["what"]: finding for finding in read(tmp_path, "doctor", str(tmp_path))}
    assert findings["lock"] == {"what": "lock", "value": "one writer at a time", "ok": True}
    assert findings["python"]["ok"]
    assert {"torch", "device", "W&B", "free space", "rename", "fsync"} <= set(findings)
    assert list(tmp_path.iterdir()) == []  # it leaves nothing behind


def test_interrupted_and_resumed(tmp_path):
    """Ctrl-C saves and says how to go on; --resume ends what was begun, each step once."""
    command = [sys.executable, "-m", "lmx", "train"]
    options = {"env": os.environ | {"LMX_RUNS": str(tmp_path)}, "stdout": subprocess.PIPE, "text": True}
    child = subprocess.Popen([*command, *TINY, "budget.steps=60", "trainer.log_every=1", "track=none"], **options)
    patience = time.monotonic() + 120
    while not (runs := find(tmp_path)) or len(runs[0].lines("metrics.jsonl")) < 3:
        assert child.poll() is None
        assert time.monotonic() < patience
        time.sleep(0.02)
    (run,) = runs
    child.send_signal(signal.SIGINT)
    told, _ = child.communicate(timeout=60)
    assert child.returncode == 130
    assert run.status()["state"] == "preempted"
    assert told.splitlines()[-1] == f"  continue it with: lmx train --resume {run.name}"
    assert len(run.lines("metrics.jsonl")) < 60
    again = subprocess.run([*command, "--resume", run.name], **options, check=False, timeout=200)
    assert again.returncode == 0
    assert run.status()["state"] == "done"
    assert [line["step"] for line in run.lines("metrics.jsonl")] == list(range(1, 61))

"""Run directories sent to W&B: by the real client to a server on this machine, and offline."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lmx.runs import Run
from tests.track.directories import STEPS, end, finished, make, start, train
from tests.track.fake_wandb import FakeWandb

READER = [sys.executable, "-P", "-m", "lmx.track.wandb_reader"]
PROBE = """
import sys
import wandb
from lmx.track import wandb_client, wandb_reader
wandb_client.PATIENCE = 2
init = wandb.init
wandb.init = lambda **options: print("pid", options["settings"].x_stats_pid) or init(**options)
sys.exit(wandb_reader.main())
"""


@pytest.fixture
def fake():
    server = FakeWandb()
    yield server
    server.close()
    assert server.unknown == []


@pytest.fixture
def bare(tmp_path):
    """An environment without a W&B login, whose home, temporary and working directories are watched."""
    for name in ("home", "tmp", "runs"):
        (tmp_path / name).mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    return kept | {
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "tmp"),
        "WANDB_ERROR_REPORTING": "false",
    }


def send(
    run: Run, environment: dict[str, str], *options: str, command: list[str] = READER
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*command, str(run.path), *options], env=os.environ | environment, cwd=run.path, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def check_rows(run: Run, rows: list[dict]) -> None:
    """Every line of the run directory is in exactly one row, under its training step."""
    assert [row["_step"] for row in rows] == STEPS
    by_step = {row["_step"]: row for row in rows}
    for family, name in (("train", "metrics.jsonl"), ("validation", "evals/validation.jsonl")):
        lines = {line["step"]: line for line in run.lines(name)}
        assert {step for step, row in by_step.items() if f"{family}/loss" in row} == set(lines)
        for step, line in lines.items():
            row = by_step[step]
            assert [row[key] for key in ("step", "tokens", "flops", "seconds")] == [
                line[key] for key in ("step", "tokens", "flops", "seconds")
            ]
            assert row[f"{family}/loss"] == line["loss"]


def recorded(run: Run, kind: str) -> list[dict]:
    """What an offline recording has, read by W&B's own tool."""
    (folder,) = (run.path / "wandb").glob("offline-run-*")
    tool = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(folder)]
    done = subprocess.run(tool, capture_output=True, text=True, check=True, timeout=60)
    return [record[kind] for record in map(json.loads, done.stdout.splitlines()) if record["type"] == kind]


def test_online(tmp_path, fake):
    run = finished(tmp_path, "objective=mlm", "seed=3", "group=comparison-1", "track.tags=[mine]")
    run.set_status(pid=4242)
    done = send(run, fake.environment(), command=[sys.executable, "-c", PROBE])
    assert done.stdout.splitlines() == ["pid 4242", f"{fake.url}/me/lmx/runs/{run.name}"]
    told = fake.runs[run.name]
    assert (told["displayName"], told["groupName"], told["jobType"]) == (
        "mlm-tiny-s3",
        "comparison-1",
        "train",
    )
    assert told["tags"] == ["mlm", "tiny", "sotu", "mine"]
    config = fake.config(run.name)
    assert config["objective"]["_target_"] == "lmx.objectives.mlm.MLM"
    assert (config["seed"], config["environment"]["torch"]) == (3, "2.13.0")
    check_rows(run, fake.history(run.name))
    last = fake.history(run.name)[-1]
    assert {
        "train/lr",
        "train/grad_norm",
        "speed/tokens_per_second",
        "validation/bits_per_byte",
        "epoch",
        "samples",
    } <= set(last)
    summary = fake.summary(run.name)
    assert (summary["state"], summary["tokens"], summary["train/loss"]) == (
        "done",
        102400,
        last["train/loss"],
    )
    assert fake.exit_codes[run.name] == 0
    assert any(b"of the union" in body for place, body in fake.uploads.items() if "samples" in place)
    facts = run.read_json("wandb.json")
    assert (facts["mode"], facts["complete"], facts["url"]) == ("online", True, f"{fake.url}/me/lmx/runs/{run.name}")


def test_sent_twice_is_there_once(tmp_path, fake):
    run = finished(tmp_path)
    for _ in range(2):
        done = send(run, fake.environment(), "--online")
        assert len(done.stdout.splitlines()) == 1
        assert done.stderr == ""
        check_rows(run, fake.history(run.name))
    assert len(fake.runs) == 1


def wait_for(rows: int, fake: FakeWandb, run: Run) -> None:
    patience = time.monotonic() + 30
    while len(fake.history(run.name)) < rows:
        assert time.monotonic() < patience, f"{len(fake.history(run.name))} rows of {rows}"
        time.sleep(0.1)


def test_reader_killed_while_following(tmp_path, fake):
    """No row is lost, none comes twice, and a reader that starts early waits for the one before."""
    run = make(tmp_path)
    start(run)
    follow = {
        "args": [*READER, str(run.path), "--follow"],
        "env": os.environ | fake.environment(),
        "stdout": subprocess.PIPE,
    }
    first = subprocess.Popen(**follow)
    train(run, 1, 60)
    wait_for(4, fake, run)
    second = subprocess.Popen(**follow)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    train(run, 61, 80)
    wait_for(8, fake, run)
    train(run, 81, 100)
    end(run)
    second.communicate(timeout=60)
    assert second.returncode == 0
    check_rows(run, fake.history(run.name))
    assert fake.exit_codes[run.name] == 0


def test_killed_run_that_is_resumed(tmp_path, fake):
    run = make(tmp_path)
    start(run)
    train(run, 1, 60)
    run.unlock()
    send(run, fake.environment(), "--follow")
    assert (fake.exit_codes[run.name], fake.summary(run.name)["state"]) == (137, "killed")
    start(run)
    run.truncate(40)
    train(run, 41, 100)
    end(run)
    send(run, fake.environment(), "--follow")
    check_rows(run, fake.history(run.name))
    assert (fake.exit_codes[run.name], fake.summary(run.name)["state"]) == (0, "done")


def test_failed_run(tmp_path, fake):
    run = make(tmp_path)
    start(run)
    end(run, "failed", 6)
    send(run, fake.environment())
    assert (fake.exit_codes[run.name], fake.summary(run.name)["state"]) == (6, "failed")


def everything_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_dir()}


def test_offline_records_everything_and_only_in_the_run_directory(tmp_path, bare):
    run = finished(tmp_path / "runs", "track.mode=offline")
    before = everything_in(tmp_path)
    for _ in range(2):  # recorded anew, not twice
        done = subprocess.run(
            [*READER, str(run.path)], env=bare, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (
            0,
            f"recorded offline in {run.path}/wandb\n",
            "",
        )
        check_rows(run, [item["item"] for item in recorded(run, "history")])
    assert {path for path in everything_in(tmp_path) - before if not path.is_relative_to(run.path)} == set()


@pytest.mark.parametrize("terminal", [False, True])
def test_never_asks(tmp_path, bare, terminal):
    """Without a key: offline for a tracked run, a line for `lmx sync`."""
    run = finished(tmp_path / "runs")
    for options, code in (([], 0), (["--online"], 2)):
        ours, theirs = pty.openpty() if terminal else os.pipe()
        child = subprocess.Popen(
            [*READER, str(run.path), *options], env=bare, stdin=theirs, stdout=theirs, stderr=theirs
        )
        assert child.wait(30) == code
        os.close(theirs)
        said = os.read(ours, 10000).decode()
        os.close(ours)
        assert said.strip() == (
            "lmx: lmx sync needs a W&B login. Type wandb login, or set WANDB_API_KEY."
            if options
            else f"recorded offline in {run.path}/wandb"
        )


def test_unreachable_server(tmp_path, bare, fake):
    run = finished(tmp_path / "runs")
    nowhere = bare | fake.environment() | {"WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = send(run, nowhere, command=[sys.executable, "-c", PROBE])
    _, line, _, where = done.stdout.splitlines()
    assert line.startswith("lmx: W&B cannot be used (")
    assert line.endswith("); recording offline")
    assert where == f"recorded offline in {run.path}/wandb"
    check_rows(run, [item["item"] for item in recorded(run, "history")])


def test_secrets_stay_in_the_environment(tmp_path, bare, fake):
    secrets = {
        f"{kind}_{number}": f"sentinel-{kind}-{number}"
        for kind in ("AWS_SECRET", "HF_TOKEN", "DATABASE", "MY", "PASSWORD")
        for number in range(4)
    }
    secrets |= {key: f"sentinel-{key}" for key in ("HF_TOKEN", "SSH_KEY", "OPENAI_API_KEY", "GITHUB_TOKEN")}
    key = {"WANDB_API_KEY": "5e" * 20}
    assert len(secrets) + len(key) == 25
    runs = tmp_path / "runs"
    tiny = [
        "budget.steps=2",
        "model=nano",
        "tokenizer=bytes",
        "trainer.compile=false",
        "eval.tokens=4096",
        "trainer.batch_tokens=1024",
    ]
    command = [
        sys.executable,
        "-m",
        "lmx",
        "train",
        *tiny,
        f"runs={runs}",
        "eval.samples=1",
        "track.mode=offline",
    ]
    done = subprocess.run(command, env=bare | secrets | key, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    (name,) = os.listdir(runs)
    run = Run.open(runs / name)
    assert {item["item"]["step"] for item in recorded(run, "history")} == {1, 2}
    send(run, bare | secrets | fake.environment() | key)
    assert run.read_json("wandb.json")["mode"] == "online"
    found = [path for path in everything_in(runs) for word in (b"sentinel", b"5e" * 20) if word in path.read_bytes()]
    assert found == []

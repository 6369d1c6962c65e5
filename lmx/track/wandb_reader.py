"""Sends a run directory to W&B, as a process of its own: `python -m lmx.track.wandb_reader RUN [--follow|--online]`.

Nothing here can stop or slow training, and metrics.jsonl stays the record. A row is sent once: its W&B step is the training
step, and what the server already has is skipped, so that a reader which was killed, or a run which was resumed, sends nothing
twice. Offline there is no server to ask, so the recording is made anew from the run directory.
"""

import argparse
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import wandb
from wandb.errors import CommError

from lmx.errors import LmxError
from lmx.runs import Run
from lmx.track.tail import Tail

EVERY = 1.0  # seconds between two looks at a live run
PATIENCE = 30  # seconds to reach the server
KILLED = 137  # the exit code of a process that left none
METERS = ("tokens", "flops", "seconds")  # x axes: what a run has spent


def send(run: Run, *, follow: bool, only_online: bool = False) -> dict[str, Any]:
    """Send what W&B does not have yet, and wait for the run's end if `follow`; -> what wandb.json says.

    Raises LmxError when another reader is at it, or when `only_online` and the server cannot be used.
    """
    folder = run.path / "wandb"
    folder.mkdir(exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            # the reader of a run that was resumed waits for the one before
            fcntl.flock(lock, fcntl.LOCK_EX if follow else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LmxError(f"{run.name} is being sent to W&B by another process. Wait for it, or end it.") from None
        confine(folder)
        while follow and run.alive() and not run.status().get("pid"):
            time.sleep(EVERY / 4)  # system metrics are the worker's, whose process id is not known yet
        client, mode = connect(run, only_online)
        facts = {"mode": mode, "url": client.url, "id": run.name, "complete": False}
        run.write_json("wandb.json", facts)
        replay(run, client, follow)
        facts["complete"] = not run.alive()
        run.write_json("wandb.json", facts)
    return facts


def confine(folder: Path) -> None:
    """W&B writes nothing outside this folder, and nothing on the terminal."""
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_ARTIFACT_DIR"):
        os.environ[name] = str(folder)
    os.environ["WANDB_SILENT"] = "true"


def choose(requested: str, only_online: bool) -> str:
    """online or offline, without ever asking. Raises LmxError when it must be online and cannot."""
    wanted = "online" if only_online else os.environ.get("WANDB_MODE") or requested
    if wanted not in ("auto", "online"):
        return wanted
    logged_in = wandb.login(prompt=False, verify=False)
    if only_online and not logged_in:
        raise LmxError("lmx sync needs a W&B login. Type wandb login, or set WANDB_API_KEY.")
    return "online" if logged_in else "offline"


def connect(run: Run, only_online: bool) -> tuple[Any, str]:
    """A W&B run for this run directory, and its mode: offline when the server cannot be used, if it need not be."""
    config = run.config()
    choices, track = config["choices"], tracking(config)
    about = {
        "id": run.name, "name": run.label(), "group": config["group"], "job_type": "train",
        "tags": [choices["objective"], choices["model"], choices["data"], *track["tags"]],
        "config": config | {"environment": run.read_json("environment.json")},
    }  # fmt: skip
    client, mode = opened(run.path, track, about, run.status().get("pid") or os.getpid(), only_online)
    for meter in METERS:
        client.define_metric(meter)
    for family in ("train/*", "validation/*", "speed/*"):
        client.define_metric(family, step_metric="tokens")
    return client, mode


def tracking(config: dict[str, Any]) -> dict[str, Any]:
    """Where a run goes; what `lmx sync` does with one that was not tracked."""
    return (
        config["track"]
        if "project" in config["track"]
        else {"project": "lmx", "entity": None, "mode": "auto", "tags": []}
    )


def opened(folder: Path, track: dict[str, Any], about: dict[str, Any], pid: int, only_online: bool) -> tuple[Any, str]:
    """wandb.init of what is recorded in a folder. Raises LmxError when it must be online and cannot."""
    mode: Any = choose(track["mode"], only_online)
    for old in (folder / "wandb").glob("*run-*"):
        shutil.rmtree(
            old
        ) if old.is_dir() and not old.is_symlink() else old.unlink()  # recorded anew, from the first line
    settings = wandb.Settings(
        console="off", silent=True, disable_git=True, disable_code=True, x_disable_machine_info=True, save_code=False,
        x_save_requirements=False, x_transaction_log_flush_interval=2, init_timeout=PATIENCE, x_stats_pid=pid,
        x_stats_track_process_tree=True,
    )  # fmt: skip
    how = {
        "project": track["project"],
        "entity": track["entity"],
        "resume": "allow",
        "dir": folder,
        "settings": settings,
    }
    try:
        return wandb.init(mode=mode, **how, **about), mode
    except CommError as error:
        reason = " ".join(str(error).split())
        if only_online:
            raise LmxError(f"W&B cannot be used: {reason}") from None
        print(f"lmx: W&B cannot be used ({reason}); recording offline", flush=True)
        wandb.teardown()  # its service still holds the run ID
        return wandb.init(mode="offline", **how, **about), "offline"


def replay(run: Run, client: Any, follow: bool) -> None:
    """Log one row a training step, in order, and finish when the run has."""
    known = client.starting_step  # what is below is with the server
    last, step = {}, 0
    for step, row in rows(run, follow):
        if step >= known:
            client.log(row, step=step)
        last |= row
    samples = run.lines("evals/samples.jsonl")
    if samples and step >= known:
        data: list[Any] = [[sample["step"], sample["prompt"], sample["text"]] for sample in samples]
        client.log({"samples": wandb.Table(columns=["step", "prompt", "text"], data=data)}, step=step)
    scores = yardsticks(run)
    if scores and client.summary.get("scored") != len(scores):
        table = wandb.Table(columns=list(scores[0]), data=[list(score.values()) for score in scores])
        client.log({"yardsticks": table, "scored": len(scores)}, step=max(step + 1, known))
    last |= {f"yardsticks/{score['yardstick']}/{score['row']}": score["value"] for score in scores}
    status = run.status()
    client.summary.update(last | {"state": status.get("state"), "reason": status.get("reason")})
    client.finish(exit_code=0 if status.get("state") in ("done", "running") else status.get("exit_code") or KILLED)


def yardsticks(run: Run) -> list[dict[str, Any]]:
    """What lmx evaluate measured, a line for each number; the same names for every run."""
    found = []
    for file in sorted((run.path / "evals").glob("*.jsonl")):
        for line in run.lines(f"evals/{file.name}") if file.stem not in ("validation", "samples") else ():
            for row in line["rows"]:
                name = "/".join(filter(None, [row["task"], row["metric"], row["scorer"]]))
                kept = {key: row[key] for key in ("value", "error", "floor", "floor_name", "unit", "better", "items")}
                found.append({"step": line["step"], "yardstick": file.stem, "row": name} | kept)
    return found


def rows(run: Run, follow: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    """(training step, everything that was measured at it). The newest step waits until it is complete."""
    metrics, validation = Tail(run.path / "metrics.jsonl"), Tail(run.path / "evals" / "validation.jsonl")
    waiting: dict[int, dict[str, Any]] = {}
    sent = -1
    while True:
        ended = not follow or not run.alive()
        for line in metrics.new():
            waiting[line["step"]] = waiting.get(line["step"], {}) | train_row(line)
        for line in validation.new():
            waiting[line["step"]] = waiting.get(line["step"], {}) | validation_row(line)
        for step in sorted(waiting):
            if step > sent and (ended or step < max(waiting)):
                sent = step
                yield step, waiting.pop(step)
        if ended:
            return
        time.sleep(EVERY)


def train_row(line: dict[str, Any]) -> dict[str, Any]:
    speeds = ("tokens_per_second", "flops_per_second", "peak_share")
    counts = (*METERS, "step", "epoch", "progress", "positions", "targets", "unique_tokens", "skipped")
    ledger = {key: line[key] for key in counts}
    train = {
        f"train/{key}": value for key, value in line.items() if key.startswith("loss") or key in ("lr", "grad_norm")
    }
    return ledger | train | {f"speed/{key}": line[key] for key in speeds if line.get(key) is not None}


def validation_row(line: dict[str, Any]) -> dict[str, Any]:
    ledger = {key: line[key] for key in (*METERS, "step", "progress")}
    return ledger | {
        f"validation/{key}": value for key, value in line.items() if key not in ledger and value is not None
    }


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--follow", action="store_true", help="until the run has ended")
    parser.add_argument("--online", action="store_true", help="or not at all")
    arguments = parser.parse_args()
    try:
        facts = send(Run.open(arguments.run), follow=arguments.follow, only_online=arguments.online)
    except LmxError as error:
        print(f"lmx: {error}", file=sys.stderr)
        return error.exit_code
    print(facts["url"] or f"recorded offline in {arguments.run}/wandb")
    return 0


if __name__ == "__main__":
    sys.exit(main())

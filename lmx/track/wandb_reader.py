"""Sends a run directory to Weights & Biases: `python -m lmx.track.wandb_reader RUN [--follow|--online]`, a process of its own.

Nothing here can stop or slow training, and metrics.jsonl stays the record. A row is sent once: its W&B step is the training step, and
what the server already has is skipped, so that a reader which was killed, or a run which was resumed, sends nothing twice. Offline
there is no server to ask, so the recording is made anew from the run directory.
"""

import argparse
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator
from typing import Any

import wandb

from lmx.errors import LmxError
from lmx.runs import Run
from lmx.track.tail import Tail

ENDED = ("done", "failed", "preempted", "killed")
EVERY = 1.0  # seconds between two looks at a live run
METERS = ("tokens", "flops", "seconds")  # x axes: what a run has spent


def send(run: Run, *, follow: bool, only_online: bool = False) -> dict[str, Any]:
    """Send what W&B does not have yet, and wait for the run's end if `follow`; -> what wandb.json says.

    Raises LmxError when another reader is at it, or when `only_online` and nobody is logged in.
    """
    folder = run.path / "wandb"
    folder.mkdir(exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LmxError(f"{run.name} is being sent to W&B by another process. Wait for it, or end it.") from None
        for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_ARTIFACT_DIR"):
            os.environ[name] = str(folder)  # nothing outside the run directory
        while follow and not run.status().get("pid") and run.status().get("state") not in ENDED:
            time.sleep(EVERY / 4)  # system metrics are the worker's, whose process id is not known yet
        config = run.config()
        track = config["track"] if "project" in config["track"] else {"project": "lmx", "entity": None, "mode": "auto", "tags": []}
        mode = choose(track["mode"], only_online)
        client, mode = connect(run, config, track, mode)
        facts = {"mode": mode, "url": client.url, "id": run.name, "complete": False}
        run.write_json("wandb.json", facts)
        replay(run, client, follow)
        facts["complete"] = run.status().get("state") in ENDED
        run.write_json("wandb.json", facts)
    return facts


def choose(requested: str, only_online: bool) -> str:
    """online or offline, without ever asking. Raises LmxError when it must be online and cannot."""
    wanted = os.environ.get("WANDB_MODE") or ("online" if only_online and requested == "offline" else requested)
    if wanted in ("auto", "online"):
        logged_in = wandb.login(prompt=False, verify=False)
        if only_online and not logged_in:
            raise LmxError("lmx sync needs a W&B login. Type wandb login, or set WANDB_API_KEY.")
        return "online" if logged_in else "offline"
    return wanted


def connect(run: Run, config: dict[str, Any], track: dict[str, Any], mode: str) -> tuple[Any, str]:
    """A W&B run for this run directory; offline when the server cannot be reached."""
    if mode == "offline":
        for old in (run.path / "wandb").glob("offline-run-*"):
            shutil.rmtree(old)  # an unfinished recording; the new one begins with the first line
    choices = config["choices"]
    settings = wandb.Settings(
        console="off", quiet=True, disable_git=True, disable_code=True, x_disable_machine_info=True, save_code=False,
        x_save_requirements=False, x_transaction_log_flush_interval=2, init_timeout=30,
        x_stats_pid=run.status().get("pid") or os.getpid(),
    )  # fmt: skip
    options: dict[str, Any] = {
        "project": track["project"], "entity": track["entity"], "id": run.name, "name": label(config), "group": config["group"],
        "job_type": "train", "tags": [choices["objective"], choices["model"], choices["data"], *track["tags"]], "dir": run.path,
        "config": config | {"environment": run.read_json("environment.json")}, "resume": "allow", "settings": settings,
    }  # fmt: skip
    try:
        client = wandb.init(mode=mode, **options)
    except wandb.errors.CommError as error:
        print(f"lmx: W&B cannot be reached ({error}); recording offline", flush=True)
        return connect(run, config, track, "offline")
    for meter in METERS:
        client.define_metric(meter)
    for family in ("train/*", "validation/*", "speed/*"):
        client.define_metric(family, step_metric="tokens")
    return client, mode


def label(config: dict[str, Any]) -> str:
    choices = config["choices"]
    return config["name"] or f"{choices['objective']}-{choices['model']}-s{config['seed']}"


def replay(run: Run, client: Any, follow: bool) -> None:
    """Log one row a training step, in order, and finish when the run has."""
    known = client.step  # rows below are with the server
    last, step = {}, 0
    for step, row in rows(run, follow):
        if step >= known:
            client.log(row, step=step)
        last |= row
    samples = run.lines("evals/samples.jsonl")
    if samples and step >= known:
        data = [[sample["step"], sample["prompt"], sample["text"]] for sample in samples]
        client.log({"samples": wandb.Table(columns=["step", "prompt", "text"], data=data)}, step=step)
    status = run.status()
    client.summary.update(last | {"state": status.get("state"), "reason": status.get("reason")})
    client.finish(exit_code=status.get("exit_code") or 0)


def rows(run: Run, follow: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    """(training step, everything that was measured at it). The newest step waits until it is complete."""
    metrics, validation = Tail(run.path / "metrics.jsonl"), Tail(run.path / "evals" / "validation.jsonl")
    waiting: dict[int, dict[str, Any]] = {}
    sent = -1
    while True:
        ended = not follow or run.status().get("state") in ENDED
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
    ledger = {key: line[key] for key in (*METERS, "step", "epoch", "progress", "positions", "targets", "unique_tokens", "skipped")}
    train = {f"train/{key}": value for key, value in line.items() if key.startswith("loss") or key in ("lr", "grad_norm")}
    return ledger | train | {f"speed/{key}": line[key] for key in speeds if line.get(key) is not None}


def validation_row(line: dict[str, Any]) -> dict[str, Any]:
    ledger = {key: line[key] for key in (*METERS, "step", "progress")}
    return ledger | {f"validation/{key}": value for key, value in line.items() if key not in ledger and value is not None}


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

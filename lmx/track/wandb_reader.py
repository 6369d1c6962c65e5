"""Sends a run directory to W&B, as a process of its own: `python -m lmx.track.wandb_reader RUN [--follow|--online]`.

Nothing here can stop or slow training, and metrics.jsonl stays the record. A row is sent once: its W&B step is the training
step, and what the server already has is skipped, so that a reader which was killed, or a run which was resumed, sends nothing
twice. Offline there is no server to ask, so the recording is made anew from the run directory.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

import wandb

from lmx.errors import LmxError
from lmx.runs import Run
from lmx.track.tail import Tail
from lmx.track.wandb_client import alone, opened, tag, tracking
from lmx.track.wandb_rows import METERS, Score, scores, summarised, train_row, validation_row

EVERY = 1.0  # seconds between two looks at a live run
KILLED = 137  # the exit code of a process that left none


def send(run: Run, *, follow: bool, only_online: bool = False) -> dict[str, Any]:
    """Send what W&B does not have yet, and wait for the run's end if `follow`; -> what wandb.json says.

    Raises LmxError when another reader is at it, or when `only_online` and the server cannot be used.
    """
    with alone(run.path, wait=follow):  # the reader of a run that was resumed waits for the one before
        while follow and run.alive() and not run.status().get("pid"):
            time.sleep(EVERY / 4)  # system metrics are the worker's, whose process id is not known yet
        return sent(run, run.read_json("wandb.json"), follow, only_online)


def send_compared(
    run: Run, comparison: str, yardsticks: Mapping[str, Mapping[str, Any]], *, only_online: bool
) -> dict[str, Any]:
    """The same of an arm of a comparison, after whoever is at it, if there is anything new.

    Its group is that of its config, or else the first comparison that it is part of; all of them are tags. Yardsticks with
    the knobs of the newest comparison are what its summary shows.
    """
    with alone(run.path, wait=True):
        facts = run.read_json("wandb.json")
        facts["comparisons"] = facts.get("comparisons", {}) | {comparison: yardsticks}
        facts["wanted"] = yardsticks
        facts["group"] = run.config()["group"] or facts.get("group") or comparison
        if not only_online and facts.get("complete") and facts.get("stamp") == stamp(run, facts):
            return facts
        return sent(run, facts, False, only_online)


def sent(run: Run, facts: dict[str, Any], follow: bool, only_online: bool) -> dict[str, Any]:
    client, mode = connect(run, facts, only_online)
    facts |= {"mode": mode, "url": client.url, "id": run.name, "complete": False}
    run.write_json("wandb.json", facts)
    replay(run, client, follow, facts.get("wanted", {}))
    facts |= {"complete": not run.alive(), "stamp": stamp(run, facts)}
    run.write_json("wandb.json", facts)
    return facts


def stamp(run: Run, facts: Mapping[str, Any]) -> str:
    """Changes with what there is to send."""
    told = [run.status().get("state"), run.status().get("reason"), facts.get("comparisons"), facts.get("wanted")]
    digest = sha256(json.dumps(told, sort_keys=True).encode())
    for path in [run.path / "metrics.jsonl", *sorted((run.path / "evals").glob("*.jsonl"))]:
        digest.update(path.read_bytes() if path.exists() else b"")
    return digest.hexdigest()


def connect(run: Run, facts: Mapping[str, Any], only_online: bool) -> tuple[Any, str]:
    """A W&B run that is named, grouped and configured like this one, and its mode."""
    config = run.config()
    choices, track = config["choices"], tracking(config)
    about = {
        "id": run.name, "name": run.label(), "group": facts.get("group", config["group"]), "job_type": "train",
        "tags": [
            choices["objective"], choices["model"], choices["data"], *track["tags"], *map(tag, facts.get("comparisons", ())),
        ],
        "config": config | {"environment": run.read_json("environment.json")},
    }  # fmt: skip
    pid = run.status().get("pid") or os.getpid()
    client, mode = opened(
        run.path, track, about, only_online=only_online, x_stats_pid=pid, x_stats_track_process_tree=True
    )
    for meter in METERS:
        client.define_metric(meter)
    for family in ("train/*", "validation/*", "speed/*", "yardsticks/*"):
        client.define_metric(family, step_metric="tokens")
    return client, mode


def replay(run: Run, client: Any, follow: bool, wanted: Mapping[str, Mapping[str, Any]]) -> None:
    """Log one row a training step, in order, what yardsticks found after the last, and finish when the run has."""
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
    status = run.status()
    if status.get("state") == "done":  # what goes on has no last step yet
        last |= examined(client, scores(run, wanted), {key: last[key] for key in METERS if key in last}, step + 1)
    client.summary.update(last | {"state": status.get("state"), "reason": status.get("reason")})
    client.finish(exit_code=0 if status.get("state") in ("done", "running") else status.get("exit_code") or KILLED)


def examined(client: Any, found: list[Score], meters: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Log what yardsticks found as a table, unless the server has it; -> what the summary says."""
    if not found:
        return {}
    mark = sha256(json.dumps(found).encode()).hexdigest()[:16]
    if client.summary.get("scored") != mark:
        table = wandb.Table(columns=list(found[0]), data=[list(score.values()) for score in found])
        client.log({"yardsticks": table, **meters}, step=max(step, client.starting_step))
    return {"scored": mark} | {name: value for name, value in summarised(found) if value is not None}


def rows(run: Run, follow: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    """(training step, everything that was measured at it). The newest step waits until it is complete."""
    metrics, validation = Tail(run.path / "metrics.jsonl"), Tail(run.path / "evals" / "validation.jsonl")
    yardsticks = run.config()["eval"]["yardsticks"]
    waiting: dict[int, dict[str, Any]] = {}
    sent = -1
    while True:
        ended = not follow or not run.alive()
        for line in metrics.new():
            waiting[line["step"]] = waiting.get(line["step"], {}) | train_row(line)
        for line in validation.new():
            waiting[line["step"]] = waiting.get(line["step"], {}) | validation_row(line, yardsticks)
        for step in sorted(waiting):
            if step > sent and (ended or step < max(waiting)):
                sent = step
                yield step, waiting.pop(step)
        if ended:
            return
        time.sleep(EVERY)


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

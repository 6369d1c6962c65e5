"""Run directories as training leaves them, without training."""

import math
import os
from pathlib import Path

from omegaconf import OmegaConf

from lmx.config import load
from lmx.runs import Run

EVERY = 10  # steps between two lines of metrics; validation comes every 25, so some rows have both


def make(folder: Path, *overrides: str) -> Run:
    """A run that is queued."""
    typed = ["budget.steps=100", f"runs={folder}", *overrides]
    return Run.create(OmegaConf.to_container(load(typed), resolve=True), typed, folder)


def train(run: Run, first: int, last: int, pace: float = 0.1) -> None:
    """The lines of steps first..last, as the worker writes them, at `pace` seconds a step."""
    for step in range(first, last + 1):
        spent = {
            "step": step,
            "tokens": step * 1024,
            "flops": step * 10**9,
            "seconds": step * pace,
            "progress": step / 100,
        }
        loss = 3 + math.exp(-step / 30)
        if step % EVERY == 0:
            seen = dict.fromkeys(("positions", "targets", "unique_tokens"), step * 1024)
            speed = {"tokens_per_second": 1e4, "flops_per_second": 1e10, "peak_share": None}
            learning = {
                "epoch": step / 1e4,
                "lr": 0.01,
                "grad_norm": 1.0,
                "skipped": 0,
                "loss": loss,
                "loss/loss": loss,
            }
            run.append("metrics.jsonl", spent | seen | learning | speed)
        if step % 25 == 0:
            baselines = {"unigram_nats": 6.7, "unigram_bits_per_byte": 2.3, "bigram_bits_per_byte": 1.6}
            measured = {
                "loss": loss,
                "loss/loss": loss,
                "bits_per_byte": loss / 3,
                "targets": 4096,
                "bytes": 17124,
            }
            run.append("evals/validation.jsonl", spent | measured | baselines)


def start(run: Run) -> None:
    run.lock()
    run.set_status(state="running", pid=os.getpid(), phase="training", total_steps=100, exit_code=None, reason=None)


def end(run: Run, state: str = "done", code: int = 0) -> None:
    if state == "done":
        run.append("evals/samples.jsonl", {"step": 100, "prompt": "The state", "text": " of the union"})
    run.write_json("environment.json", {"torch": "2.13.0", "device": "a processor"})
    run.set_status(state=state, exit_code=code, reason=None, phase=None, progress=1.0)
    run.unlock()


def finished(folder: Path, *overrides: str) -> Run:
    """A run of 100 steps that is done."""
    run = make(folder, *overrides)
    start(run)
    train(run, 1, 100)
    end(run)
    return run


STEPS = sorted({*range(EVERY, 101, EVERY), *range(25, 101, 25)})  # of all rows of a finished run

"""What a run writes down about itself: status, metrics, evaluations, environment. Only rank 0 writes."""

import os
import platform
import subprocess
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from lmx.runs import Run
from lmx.train import distributed
from lmx.train.device import peak_flops, uses_bf16
from lmx.train.trainer import Step, Trainer

PACKAGES = ("torch", "numpy", "datasets", "tokenizers", "safetensors")


class Record:
    def __init__(self, run: Run, *, main: bool):
        self.run, self.main = run, main
        self.peak: float | None = None
        self.logged: tuple[float, int, int] = (0.0, 0, 0)  # seconds, tokens, FLOPs at the last line of metrics

    def status(self, **changes: Any) -> None:
        if self.main:
            self.run.set_status(**changes)

    def phase(self, name: str | None, share: float | None = None) -> None:
        """What the run is doing now, and how far that is in [0, 1]."""
        distributed.PULSE.enter(name)
        self.status(phase=name, phase_progress=share)

    def line(self, name: str, values: dict[str, Any]) -> None:
        if self.main:
            self.run.append(name, values)

    def note(self, message: str) -> None:
        """A line for log.txt and for whoever follows the run."""
        if self.main:
            print(f"lmx: {message}", flush=True)
            self.run.set_status(note=message)

    def count(self, name: str, step: int) -> int:
        """How many lines a file has of this step: written before an interruption, not to be repeated."""
        return sum(line["step"] == step for line in self.run.lines(name))

    def metrics(self, step: Step, trainer: Trainer) -> None:
        """One line: the ledger, the losses, and how fast it went since the line before."""
        ledger = trainer.ledger
        now = (ledger.seconds, ledger.tokens, ledger.flops)
        seconds, tokens, flops = (new - old for new, old in zip(now, self.logged, strict=True))
        self.logged = now
        speed = flops / seconds if seconds else None
        train = trainer.loader.samples
        progress = trainer.budget.progress(ledger)
        self.line(
            "metrics.jsonl",
            {
                **ledger.state(),
                "progress": progress,
                "epoch": train.epoch(ledger.step * trainer.loader.sequences),
                "unique_tokens": min(ledger.tokens, train.documents.num_tokens),
                "lr": step.lr,
                "grad_norm": step.grad_norm,
                "loss": step.loss,
                **{trainer.learner.objective.key(term): value for term, value in step.losses.items()},
                "tokens_per_second": tokens / seconds if seconds else None,
                "flops_per_second": speed,
                "peak_share": speed / self.peak if speed and self.peak else None,
            },
        )
        steps = trainer.budget.total if trainer.budget.spends_steps else None
        self.status(step=ledger.step, progress=progress, total_steps=steps)

    def resume(self, trainer: Trainer) -> None:
        """Count speed from where the run stands."""
        ledger = trainer.ledger
        self.logged = (ledger.seconds, ledger.tokens, ledger.flops)

    def environment(self, trainer: Trainer) -> None:
        """environment.json: what the numbers depend on; no environment variables, no host name."""
        self.peak = peak_flops(trainer.device, trainer.precision) * distributed.world_size()
        if self.main:
            size = sum(parameter.numel() for parameter in trainer.learner.parameters())
            told = environment(trainer) | {"peak_flops": self.peak, "parameters": size}
            self.run.write_json("environment.json", told)


def environment(trainer: Trainer) -> dict[str, Any]:
    cuda = trainer.device.type == "cuda"
    return {
        "lmx": version("lmx"),
        "python": platform.python_version(),
        "system": platform.system(),
        **{name: version(name) for name in PACKAGES},
        **git(),
        "device": torch.cuda.get_device_name(trainer.device) if cuda else processor(),
        **repro(trainer),
        "processes": distributed.world_size(),
    }


def repro(trainer: Trainer) -> dict[str, Any]:
    """What bit-for-bit equality of a resumed run depends on, beyond config and data."""
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processes": "any" if trainer.determinism else distributed.world_size(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "device_type": trainer.device.type,
        "bf16": uses_bf16(trainer.device, trainer.precision),
        "compiled": trainer.compiled,
    }


def processor() -> str:
    """The CPU's name, where the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()} x {os.cpu_count()}"


def git() -> dict[str, Any]:
    """Commit, and a hash of what differs from it, when lmx runs from a checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return {}
    commit, changes = (
        subprocess.run(["git", "-C", str(root), *words], capture_output=True, check=False).stdout
        for words in (["rev-parse", "HEAD"], ["diff", "HEAD"])
    )
    return {
        "git_commit": commit.decode().strip() or None,
        "git_diff_sha256": sha256(changes).hexdigest() if changes else None,
    }

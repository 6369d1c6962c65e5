"""The store under runs/: one directory a run, the only thing that the command line and training share.

`config.yaml` goes down; `status.json`, `metrics.jsonl`, `evals/` and `checkpoints/` come up. One process writes a run: it holds a
lock on `.lock`, which the system takes away when it dies, and which its children inherit.
"""

import fcntl
import json
import math
import os
import re
import secrets
import socket
import string
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lmx.errors import LmxError, Locked, nearest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
LINES = ("metrics.jsonl", "evals/validation.jsonl", "evals/samples.jsonl")
STYLES = {
    "done": "green",
    "running": "cyan",
    "preempted": "yellow",
    "failed": "red",
    "killed": "red",
    "unreadable": "red",
}
LOCK = "LMX_LOCK_FD"  # the descriptor a worker inherits its lock with
ELSEWHERE = -1  # in its place: the launcher of another machine holds the lock
RANK_TIMEOUT = "LMX_RANK_TIMEOUT"  # seconds, see lmx/train/watch.py
LOOK = 0.2  # seconds; `alive` holds the lock for a moment, and is not mistaken for a writer


def root(config: dict[str, Any] | None = None) -> Path:
    """Where runs are: `runs=`, or $LMX_RUNS, or ./runs."""
    return Path((config or {}).get("runs") or os.environ.get("LMX_RUNS") or "runs")


class Run:
    def __init__(self, path: Path):
        self.path = path
        self.name = path.name
        self.descriptor: int | None = None

    @classmethod
    def create(cls, config: dict[str, Any], overrides: Sequence[str], folder: Path) -> "Run":
        """A new run directory, queued. Raises LmxError when it cannot be written."""
        objective = config["objective"]["_target_"].rpartition(".")[2].lower()
        letters = "".join(secrets.choice(string.ascii_lowercase) for _ in range(5))
        run = cls(folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{objective}-{letters}")
        try:
            (run.path / "evals").mkdir(parents=True)
            (run.path / "checkpoints").mkdir()
        except OSError as error:
            raise LmxError(
                f"runs must be a folder that can be written, got {folder} ({error.strerror}). Type runs=FOLDER."
            ) from None
        (run.path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)))
        (run.path / "overrides.txt").write_text("".join(f"{override}\n" for override in overrides))
        run.set_status(state="queued", created=time.time())
        sync(folder)
        return run

    @classmethod
    def open(cls, name: str | Path, folder: Path | None = None) -> "Run":
        """By path, by name, or by the end of a name that only one run has. Raises LmxError when there is none."""
        path = Path(name)
        if (path / "config.yaml").is_file():
            return cls(path.resolve())
        folder = folder or root()
        if not NAME.fullmatch(str(name)):
            raise LmxError(f"RUN must be the name or path of a run, got {str(name)!r}. Type lmx runs to see them.")
        known = [run.name for run in find(folder)]
        fitting = [run for run in known if run == name] or [run for run in known if run.endswith(str(name))]
        if len(fitting) == 1:
            return cls((folder / fitting[0]).resolve())
        if fitting:
            raise LmxError(f"RUN must name one run, got {name}, which fits {', '.join(fitting)}.")
        raise LmxError(
            f"RUN must be one of the runs in {folder}, got {name}.{nearest(str(name), known)} Type lmx runs to see them."
        )

    def config(self) -> dict[str, Any]:
        """The resolved config. Raises LmxError when it is not readable."""
        try:
            config = OmegaConf.to_container(OmegaConf.load(self.path / "config.yaml"))
        except Exception as error:
            raise LmxError(f"{self.path}/config.yaml is not readable: {str(error).splitlines()[0]}.") from None
        if not isinstance(config, dict) or "choices" not in config:
            raise LmxError(
                f"{self.path}/config.yaml must be the config of a run, which lmx train writes, got something else."
            )
        return config  # type: ignore[return-value]

    def label(self) -> str:
        """What people call it: `name`, or objective, model and seed."""
        config = self.config()
        choices = config["choices"]
        return config["name"] or f"{choices['objective']}-{choices['model']}-s{config['seed']}"

    def status(self) -> dict[str, Any]:
        """status.json; a run that says it is running, but whose writer is gone, was killed."""
        status = self.read_json("status.json")
        if status.get("state") == "running" and not self.alive():
            status |= {"state": "killed", "reason": "its process ended without a word", "exit_code": None}
        return status

    def set_status(self, **changes: Any) -> None:
        status = self.read_json("status.json") | changes | {"updated": time.time()}
        if "pid" in changes:
            status["host"] = socket.gethostname()
        self.write_json("status.json", status)

    def read_json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        return json.loads(path.read_text()) if path.exists() else {}

    def write_json(self, name: str, values: dict[str, Any]) -> None:
        """Replace a file as a whole: a reader sees the old one or the new one."""
        temporary = self.path / f".{name}.{os.getpid()}"
        temporary.write_text(json.dumps(values, indent=1))
        temporary.replace(self.path / name)

    def append(self, name: str, values: dict[str, Any]) -> None:
        """One line in one write: a kill cannot leave half of it among others. What is not finite becomes null and is named."""
        bad = {
            key: str(value) for key, value in values.items() if isinstance(value, float) and not math.isfinite(value)
        }
        clean = {key: None if key in bad else value for key, value in values.items()}
        line = json.dumps(clean | ({"nonfinite": bad} if bad else {}), allow_nan=False) + "\n"
        descriptor = os.open(self.path / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The lines of a .jsonl file; one that is still being written is not there yet."""
        path = self.path / name
        data = path.read_bytes() if path.exists() else b""
        return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]

    def truncate(self, step: int) -> None:
        """Cut every .jsonl file back to `step`: what came later is about to be done again."""
        for name in LINES:
            path = self.path / name
            kept = "".join(json.dumps(line) + "\n" for line in self.lines(name) if line["step"] <= step).encode()
            if path.exists() and path.read_bytes() != kept:
                temporary = self.path / f"{name}.tmp"
                temporary.write_bytes(kept)
                temporary.replace(path)

    def lock(self) -> None:
        """Become the one writer, until this process and its children are gone. Raises Locked."""
        if os.environ.get(LOCK):
            self.descriptor = int(os.environ[LOCK])  # inherited from the launcher, which holds it
            return
        descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        patience = time.monotonic() + LOOK
        while not grab(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > patience:
                os.close(descriptor)
                raise Locked(
                    f"{self.name} is being written by another process. Type lmx watch {self.name} to follow it."
                )
            time.sleep(LOOK / 10)
        os.set_inheritable(descriptor, True)
        self.descriptor = descriptor

    def unlock(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def alive(self) -> bool:
        """Whether some process holds the lock."""
        if self.descriptor is not None:
            return True
        if not (self.path / ".lock").exists():
            return False
        descriptor = os.open(self.path / ".lock", os.O_RDONLY)
        try:
            return not grab(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)


def done(run: Run | None) -> bool:
    return run is not None and run.status().get("state") == "done"


def grab(descriptor: int, kind: int) -> bool:
    """Take a lock without waiting; -> whether it was free."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def find(folder: Path) -> list[Run]:
    """The runs in a folder, oldest first. Links are not followed."""
    if not folder.is_dir():
        return []
    paths = [path for path in folder.iterdir() if not path.is_symlink() and (path / "config.yaml").is_file()]
    return [Run(path) for path in sorted(paths, key=lambda path: path.name)]


def sync(folder: Path) -> None:
    """Make a directory's entries survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

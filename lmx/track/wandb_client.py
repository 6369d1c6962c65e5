"""How a folder is opened in W&B: online where that can be, offline where not; never asking, nothing written elsewhere."""

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import wandb
from wandb.errors import CommError

from lmx.errors import LmxError

PATIENCE = 30  # seconds to reach the server
ENVIRONMENT = ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_ARTIFACT_DIR")
UNTRACKED = {"project": "lmx", "entity": None, "mode": "auto", "tags": []}  # of what `lmx sync` sends all the same
LONGEST = 64  # characters of a tag


@contextmanager
def alone(folder: Path, *, wait: bool) -> Iterator[None]:
    """Be the one who sends `folder`, once others are done or not at all. Raises LmxError."""
    inner = folder / "wandb"
    inner.mkdir(exist_ok=True)
    with (inner / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LmxError(f"{folder.name} is being sent to W&B by another process. Wait for it, or end it.") from None
        confine(folder)
        yield


def confine(folder: Path) -> None:
    """From now on W&B writes nothing outside this folder's `wandb`, and nothing on the terminal."""
    for name in ENVIRONMENT:
        os.environ[name] = str(folder / "wandb")
    os.environ["WANDB_SILENT"] = "true"


def tracking(config: Mapping[str, Any]) -> dict[str, Any]:
    """Project, entity, mode and tags of a run."""
    return config["track"] if tracked(config) else UNTRACKED


def tracked(config: Mapping[str, Any]) -> bool:
    return "project" in config["track"]


def choose(requested: str, only_online: bool) -> str:
    """online or offline, without ever asking. Raises LmxError when it must be online and cannot."""
    wanted = "online" if only_online else os.environ.get("WANDB_MODE") or requested
    if wanted not in ("auto", "online"):
        return wanted
    logged_in = wandb.login(prompt=False, verify=False)
    if only_online and not logged_in:
        raise LmxError("lmx sync needs a W&B login. Type wandb login, or set WANDB_API_KEY.")
    return "online" if logged_in else "offline"


def opened(
    folder: Path, track: Mapping[str, Any], about: Mapping[str, Any], *, only_online: bool, **changes: Any
) -> tuple[Any, str]:
    """A W&B run for this folder, and its mode: offline when the server cannot be used, if it need not be.

    `about` is what it is called, `changes` are settings. Raises LmxError when it must be online and cannot.
    """
    mode: Any = choose(track["mode"], only_online)
    for old in (folder / "wandb").glob("*run-*"):  # recorded anew, from the first line
        shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    settings = wandb.Settings(
        console="off", silent=True, disable_git=True, disable_code=True, x_disable_machine_info=True, save_code=False,
        x_save_requirements=False, x_transaction_log_flush_interval=2, init_timeout=PATIENCE, **changes,
    )  # fmt: skip
    place = {"project": track["project"], "entity": track["entity"], "dir": folder, "settings": settings}
    try:
        return wandb.init(mode=mode, resume="allow", **place, **about), mode
    except CommError as error:
        reason = " ".join(str(error).split())
        if only_online:
            raise LmxError(f"W&B cannot be used: {reason}") from None
        print(f"lmx: W&B cannot be used ({reason}); recording offline", flush=True)
        wandb.teardown()  # its service still holds the run ID
        return wandb.init(mode="offline", resume="allow", **place, **about), "offline"


def tag(name: str) -> str:
    """As much of a name as a tag may have; its end tells names apart."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST // 2 - 1]}..{name[1 - LONGEST // 2 :]}"

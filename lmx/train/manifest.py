"""The manifest of a checkpoint: its files and their hashes, the run's state as JSON, and a hash of itself."""

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmx.errors import CheckpointError

FORMAT, PARTED = 1, 2  # written by one process; in parts, by several
MANIFEST, SUFFIX = "manifest.json", ".safetensors"
STEM = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
MAX_MANIFEST = 1 << 24  # bytes


class Damage(Exception):
    """Which file of a checkpoint cannot be used, and why."""


def encode(body: Mapping[str, Any]) -> bytes:
    """The manifest with a sha256 of itself: nothing else would notice a changed digit."""
    text = json.dumps(body, sort_keys=True, allow_nan=False, indent=1)
    seal = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps(dict(body) | {"sha256": seal}, sort_keys=True, allow_nan=False, indent=1).encode()


def read_manifest(path: Path) -> dict[str, Any]:
    """Raises Damage; or CheckpointError for one of a newer lmx, which is no reason to go back a step."""
    name = f"{path.name}/{MANIFEST}"
    try:
        text = contents(path / MANIFEST)
        body = json.loads(text)
        body.pop("sha256")
        if text != encode(body):
            raise Damage(f"the sha256 of {name} is not what it says itself")
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise Damage(f"{name} is not a manifest") from None
    if body.get("format") not in (FORMAT, PARTED):
        raise CheckpointError(
            f"{path} has format {body.get('format')!r}, but this lmx reads {FORMAT} and {PARTED}. Install a newer lmx."
        )
    if body.get("step") != int(path.name.removeprefix("step-")):
        raise Damage(f"{name} belongs to step {body.get('step')!r}")
    if not well_formed(body):
        raise Damage(f"{name} is not a manifest")
    return body


def well_formed(body: Mapping[str, Any]) -> bool:
    """Whether the manifest has all of its parts, and names files that lie in its own directory."""
    if not all(isinstance(body.get(part), dict) for part in ("files", "state", "repro")):
        return False
    return all(
        name.endswith(SUFFIX)
        and STEM.fullmatch(name.removesuffix(SUFFIX))
        and isinstance(entry, dict)
        and type(entry.get("bytes")) is int
        and type(entry.get("sha256")) is str
        for name, entry in body["files"].items()
    )


def contents(path: Path, entry: Mapping[str, Any] | None = None) -> bytes:
    """The bytes of a plain file (no link, no pipe) that the manifest's entry describes. Raises Damage."""
    name = f"{path.parent.name}/{path.name}"
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(file, "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Damage(f"{name} is not a plain file")
            if entry is None and status.st_size > MAX_MANIFEST:
                raise Damage(f"{name} has {status.st_size} bytes, more than any manifest")
            if entry is not None and status.st_size != entry["bytes"]:
                raise Damage(f"{name} has {status.st_size} bytes instead of {entry['bytes']}")
            data = stream.read(status.st_size)
    except OSError as error:
        raise Damage(f"{name}: {error.strerror}") from None
    if entry is not None and hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise Damage(f"the sha256 of {name} is not what {MANIFEST} says")
    return data

"""Folders that are either whole or not there: built aside, synced, and renamed into place under a lock.

Every file's size and sha256 stand in the folder's manifest. A kill at any moment leaves the old state or the new one, and
rubbish that the next builder removes; a damaged folder is built again.
"""

import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path

from lmx.errors import DataError, DiskFull, LmxError

LARGE = 2**26  # bytes from which a file's hash is remembered, instead of taken at every start
SETTLED = 2.0  # seconds a file must have been left alone for its timestamps to tell its next change
MANIFEST = "manifest.json"

Build = Callable[[Path], None]
Report = Callable[[str, float | None], None]  # what is being done, and how far it is in [0, 1]


def root() -> Path:
    return Path(os.environ.get("LMX_CACHE") or Path.home() / ".cache" / "lmx").expanduser()


def obtain(key: str, build: Build, report: Report) -> Path:
    """The folder `key` of the cache, found or built now; two processes at once build it once. Raises LmxError, DiskFull."""
    folder = root() / key
    if sound(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(lock_of(folder), lambda: report("waiting for another process that builds the same corpus", None)):
            if not sound(folder):  # another process may have built it while this one waited
                construct(folder, build)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"{folder.parent}: the disk is full. Make room, or let LMX_CACHE name another folder."
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise LmxError(
                f"LMX_CACHE must be a folder that can be written, got {folder.parent} ({error.strerror}). "
                "Type LMX_CACHE=… before lmx."
            ) from None
        raise
    return folder


def construct(folder: Path, build: Build) -> None:
    remove_rubbish(folder)
    temporary = temporary_of(folder)
    temporary.mkdir()
    try:
        build(temporary)
        commit(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def commit(temporary: Path, folder: Path) -> None:
    """Sync every file and name it in the manifest; the rename is the moment at which the folder exists."""
    facts = {}
    for path in sorted(temporary.iterdir()):
        with path.open("rb") as file:
            facts[path.name] = {
                "bytes": path.stat().st_size,
                "sha256": file_digest(file, "sha256").hexdigest(),
            }
            os.fsync(file.fileno())
    with (temporary / MANIFEST).open("w") as file:
        json.dump({"files": facts}, file)
        file.flush()
        os.fsync(file.fileno())
    sync(temporary)
    shutil.rmtree(folder, ignore_errors=True)  # damaged, or it would not be built
    temporary.rename(folder)
    sync(folder.parent)


def sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def manifest(folder: Path) -> dict[str, dict]:
    """file -> {"bytes", "sha256"}"""
    return json.loads((folder / MANIFEST).read_text())["files"]


def sound(folder: Path) -> bool:
    """Whether the folder is there and every file is what the manifest says."""
    try:
        return all(
            (folder / name).stat().st_size == facts["bytes"] and content(folder / name) == facts["sha256"]
            for name, facts in manifest(folder).items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, DataError):
        return False


def content(file: Path) -> str:
    """sha256 of a file, remembered for large ones while inode, size and times stay. Raises DataError when it cannot be read."""
    try:
        with file.open("rb") as stream:
            facts = os.fstat(stream.fileno())
            if facts.st_size < LARGE:
                return file_digest(stream, "sha256").hexdigest()
            identity = f"{facts.st_dev} {facts.st_ino} {facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}"
            known = remembered().get(identity)
            if known is not None:
                return known
            found = file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error}).") from None
    if time.time() - max(facts.st_mtime, facts.st_ctime) > SETTLED:
        remember(identity, found)
    return found


def remembered() -> dict[str, str]:
    """identity -> sha256; a line that a kill cut is passed over."""
    try:
        rows = (root() / "content.txt").read_text().split("\n")
    except (OSError, ValueError):
        return {}
    pairs = (row.rpartition(" ") for row in rows)
    return {identity: found for identity, _, found in pairs if len(found) == 64}


def remember(identity: str, found: str) -> None:
    """Saves time only, so a cache that cannot be written is not worth an error here: building will say so."""
    try:
        root().mkdir(parents=True, exist_ok=True)
        descriptor = os.open(root() / "content.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError:
        return
    try:
        os.write(descriptor, f"\n{identity} {found}\n".encode())
    finally:
        os.close(descriptor)


def temporary_of(folder: Path) -> Path:
    return folder.with_name(f".tmp-{folder.name}")


def lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def remove_rubbish(folder: Path) -> None:
    """What killed builders left: this folder's, whose lock is held here, and any whose lock nobody holds."""
    shutil.rmtree(temporary_of(folder), ignore_errors=True)
    for left in folder.parent.glob(".tmp-*"):
        with (folder.parent / f"{left.name.removeprefix('.tmp-')}.lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """One builder at a time; the lock goes with the process that holds it. Calls `waiting` when another has it."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield

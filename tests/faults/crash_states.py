"""What a disk may hold after a power cut, from a recording of the operations of the real saver.

Pessimistic POSIX: until a file is synced its data may be lost, zero, or half there; until a directory is
synced any subset of the changes to its entries may be there. A rename is one change. Nothing else is assumed.
"""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

Disk = tuple[tuple[str, bytes | None], ...]  # path -> bytes of a file, None for a directory; sorted


@dataclass(frozen=True)
class Op:
    kind: str  # mkdir create write sync rename remove saved
    path: str = ""
    data: bytes = b""
    to: str = ""
    step: int = 0


class Recorder:
    """Stands between the saver and `os`, and writes down what changes below `root`."""

    def __init__(self, root: Path):
        self.root, self.ops, self.opened = str(root), [], {}

    def full(self, path: Any, dir_fd: int | None = None) -> str:
        path = os.fspath(path)
        return os.path.join(self.opened[dir_fd], path) if dir_fd in self.opened else path

    def note(self, kind: str, path: str, **more: Any) -> None:
        if path.startswith(self.root):
            to = more.pop("to", "")
            self.ops.append(Op(kind, self.short(path), to=to and self.short(to), **more))

    def short(self, path: str) -> str:
        return os.path.relpath(path, self.root)

    @contextmanager
    def recording(self) -> Iterator[None]:
        real = {name: getattr(os, name) for name in ("mkdir", "open", "write", "fsync", "rename", "unlink", "rmdir")}

        def opening(path, flags, mode=0o777, *, dir_fd=None):
            file = real["open"](path, flags, mode, dir_fd=dir_fd)
            self.opened[file] = self.full(path, dir_fd)
            if flags & os.O_CREAT:
                self.note("create", self.opened[file])
            return file

        def writing(file, data):
            count = real["write"](file, data)
            self.note("write", self.opened.get(file, ""), data=bytes(data[:count]))
            return count

        def making(path, mode=0o777, *, dir_fd=None):
            real["mkdir"](path, mode, dir_fd=dir_fd)
            self.note("mkdir", self.full(path, dir_fd))

        def syncing(file):
            real["fsync"](file)
            self.note("sync", self.opened.get(file, ""))

        def renaming(old, new):
            real["rename"](old, new)
            self.note("rename", self.full(old), to=self.full(new))

        def removing(name):
            def remove(path, *, dir_fd=None):
                real[name](path, dir_fd=dir_fd)
                self.note("remove", self.full(path, dir_fd))

            return remove

        fakes = {"open": opening, "write": writing, "mkdir": making, "fsync": syncing, "rename": renaming}
        with pytest.MonkeyPatch.context() as patch:
            for name, fake in (fakes | {name: removing(name) for name in ("unlink", "rmdir")}).items():
                patch.setattr(os, name, fake)
            yield


@dataclass
class Node:
    """A file or directory: as the running system sees it, and as it is on the disk for sure."""

    is_dir: bool
    data: bytes = b""
    synced: bytes = b""
    entries: dict[str, "Node"] = field(default_factory=dict)
    safe: dict[str, "Node"] = field(default_factory=dict)
    pending: list[tuple[str, str, "Node | None"]] = field(default_factory=list)  # (name gone, name new, what)


class Shadow:
    """Replays a recording."""

    def __init__(self) -> None:
        self.root = Node(is_dir=True)

    def at(self, path: str) -> Node:
        node = self.root
        for name in [] if path == "." else path.split("/"):
            node = node.entries[name]
        return node

    def change(self, folder: Node, gone: str, new: str, node: Node | None) -> None:
        apply(folder.entries, (gone, new, node))
        folder.pending.append((gone, new, node))

    def play(self, op: Op) -> None:
        folder, name = os.path.split(op.path)
        match op.kind:
            case "mkdir" | "create":
                self.change(self.at(folder or "."), "", name, Node(is_dir=op.kind == "mkdir"))
            case "write":
                self.at(op.path).data += op.data
            case "rename":
                self.change(self.at(folder or "."), name, os.path.basename(op.to), self.at(op.path))
            case "remove":
                self.change(self.at(folder or "."), name, "", None)
            case "sync":
                node = self.at(op.path)
                node.synced = node.data
                node.safe, node.pending = dict(node.entries), []


def apply(entries: dict[str, Node], change: tuple[str, str, Node | None]) -> None:
    gone, new, node = change
    entries.pop(gone, None)
    if new and node:
        entries[new] = node


def states(ops: list[Op]) -> Iterator[tuple[list[int], Disk]]:
    """After each prefix of the operations: the steps acknowledged by then, and each disk that may be left."""
    shadow, acknowledged = Shadow(), []
    for op in [Op("start"), *ops]:
        if op.kind == "saved":
            acknowledged = [*acknowledged, op.step]
        elif op.kind != "start":
            shadow.play(op)
        for disk in outcomes(shadow.root, ""):
            yield acknowledged, tuple(sorted(disk.items(), key=lambda item: item[0]))


def outcomes(node: Node, path: str) -> Iterator[dict[str, bytes | None]]:
    """Every content that the tree below `node` may have."""
    if not node.is_dir:
        yield from ({path: data} for data in contents(node))
        return
    for count in range(len(node.pending) + 1):
        for chosen in itertools.combinations(node.pending, count):
            entries = dict(node.safe)
            for change in chosen:
                apply(entries, change)
            parts = [outcomes(child, f"{path}/{name}".lstrip("/")) for name, child in entries.items()]
            for combination in itertools.product(*parts):
                yield {path: None} | {key: value for part in combination for key, value in part.items()}


def contents(node: Node) -> list[bytes]:
    if node.data == node.synced:
        return [node.data]
    size, half = len(node.data), node.data[: len(node.data) // 2]
    return list(dict.fromkeys([node.synced, bytes(size), half, half.ljust(size, b"\0"), node.data]))

"""Builders and a recording file layer for the tests of the feedback log."""

import errno
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployments.feedback.files import LocalFiles
from deployments.feedback.schema import to_row

Operation = tuple[Any, ...]


def make_row(number: int, **changes: Any) -> dict[str, Any]:
    """A whole row whose every value depends on ``number``."""
    fields = {
        "event_id": f"event-{number:05d}",
        "kind": "comment",
        "generation_id": f"generation-{number}",
        "tenant": "acme",
        "text": f"comment {number} " + "é" * (number % 7),
        "value_num": number / 4,
        "value_bool": number % 2 == 0,
        "ts_server_us": 1_700_000_000_000_000 + number,
        "tags": {"number": str(number)},
    }
    return to_row(fields | changes)


def make_rows(numbers: Iterable[int]) -> list[dict[str, Any]]:
    return [make_row(number) for number in numbers]


class QuickFiles(LocalFiles):
    """The real file system without waiting for the device: tests do not pull the plug."""

    def fdatasync(self, fd: int) -> None:
        pass

    def fsync_dir(self, path: Path) -> None:
        pass


class Crash(BaseException):
    """The process ends here. Not an Exception: no handler of the log may live on."""


@dataclass
class RecordingFiles(QuickFiles):
    """Does each operation, and keeps it in ``log``; fails the ones that ``fail`` picks.

    Operations: (mkdir, path), (create, path, inode), (write, inode, bytes), (sync, inode),
    (rename, source, target), (unlink, path), (sync_dir, path). Tests may add their own marks.
    """

    log: list[Operation] = field(default_factory=list)
    fail: Callable[[Operation], BaseException | None] = lambda operation: None
    _inodes: dict[int, int] = field(default_factory=dict)
    _made: int = 0

    def _note(self, *operation: Any) -> None:
        error = self.fail(operation)
        if error is not None:
            raise error
        self.log.append(operation)

    def mkdir(self, path: Path) -> None:
        if not path.exists():
            self._note("mkdir", path)
        super().mkdir(path)

    def create(self, path: Path, *, exclusive: bool) -> int:
        self._note("create", path, self._made)
        fd = super().create(path, exclusive=exclusive)
        self._inodes[fd] = self._made
        self._made += 1
        return fd

    def write(self, fd: int, data: memoryview) -> int:
        self._note("write", self._inodes[fd], bytes(data))
        return super().write(fd, data)

    def fdatasync(self, fd: int) -> None:
        self._note("sync", self._inodes[fd])

    def rename(self, source: Path, target: Path) -> None:
        self._note("rename", source, target)
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._note("unlink", path)
        super().unlink(path)

    def fsync_dir(self, path: Path) -> None:
        self._note("sync_dir", path)


def failing(kind: str, code: int, after: int = 0) -> Callable[[Operation], OSError | None]:
    """Let ``after`` operations of this kind pass and fail all later ones."""
    seen = [0]

    def fail(operation: Operation) -> OSError | None:
        if operation[0] != kind:
            return None
        seen[0] += 1
        return OSError(code, errno.errorcode[code]) if seen[0] > after else None

    return fail


class GatedFiles(QuickFiles):
    """Holds every fdatasync until `open` is set; `entered` tells that one is held."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.syncs = 0

    def fdatasync(self, fd: int) -> None:
        self.entered.set()
        assert self.open.wait(30)
        self.syncs += 1


class Disk:
    """What a power cut may leave of a recorded history: a model of directories and files with caches.

    Names: an entry is there since its directory was synced, or at once. Bytes that were not synced are dropped,
    torn at a sector or page, read as zeros, have a hole, or are there.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bytes: dict[int, bytearray] = {}
        self.synced: dict[int, int] = {}
        self.now: dict[Path, int | None] = {root: None}
        self.kept: dict[Path, int | None] = {root: None}
        self._moved_on = 0

    def load(self, directory: Path) -> None:
        """Begin from a directory that is wholly on the device."""
        for path in sorted(directory.rglob("*")):
            inode = None
            if path.is_file():
                inode = -1 - len(self.bytes)
                self.bytes[inode] = bytearray(path.read_bytes())
                self.synced[inode] = len(self.bytes[inode])
            self.now[path] = self.kept[path] = inode

    def apply(self, operation: Operation) -> None:
        match operation:
            case ("mkdir", path):
                self.now[path] = None
            case ("create", path, inode):
                self.now[path] = inode
                self.bytes[inode], self.synced[inode] = bytearray(), 0
            case ("write", inode, data):
                self.bytes[inode] += data
            case ("sync", inode):
                self.synced[inode] = len(self.bytes[inode])
            case ("rename", source, target):
                self.now[target] = self.now.pop(source)
            case ("unlink", path):
                del self.now[path]
            case ("sync_dir", directory):
                self.kept = {path: inode for path, inode in self.kept.items() if path.parent != directory}
                self.kept |= {path: inode for path, inode in self.now.items() if path.parent == directory}
                self.kept[self.root] = None

    def states(self) -> Iterator[dict[Path, bytes | None]]:
        """Each distinct state that a power cut now may leave: content by relative path, None a directory."""
        seen = []
        for names in (self.now, self.kept):
            for tail in ("dropped", "torn at 512", "torn at 4096", "zeros", "hole", "whole"):
                state = {}
                for path, inode in sorted(names.items()):
                    # An entry whose directory was lost is lost with it.
                    if path != self.root and all(parent in names for parent in _parents(path, self.root)):
                        state[path.relative_to(self.root)] = None if inode is None else self._content(inode, tail)
                if state not in seen:
                    seen.append(state)
                    yield state

    def _content(self, inode: int, tail: str) -> bytes:
        data, synced = bytes(self.bytes[inode]), self.synced[inode]
        match tail:
            case "dropped":
                return data[:synced]
            case "torn at 512":
                return data[: max(synced, len(data) // 512 * 512)]
            case "torn at 4096":
                return data[: max(synced, len(data) // 4096 * 4096)]
            case "zeros":
                return data[:synced] + bytes(len(data) - synced)
            case "hole":
                return data[:synced] + bytes(len(data[synced : synced + 512])) + data[synced + 512 :]
        return data


def _parents(path: Path, root: Path) -> list[Path]:
    return [parent for parent in path.parents if parent == root or root in parent.parents]


def write_state(directory: Path, state: dict[Path, bytes | None]) -> None:
    directory.mkdir()
    for path, content in state.items():
        if content is None:
            (directory / path).mkdir()
        else:
            (directory / path).write_bytes(content)

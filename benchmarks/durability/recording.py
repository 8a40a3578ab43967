"""A file layer that records what the log does to a disk, and fails or interrupts it where it is told to.

It knows of directories and bytes, nothing of segments. `disk.Disk` replays what it records. The experiments of
this package and the tests of the feedback log use both.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployments.feedback.files import LocalFiles

Operation = tuple[Any, ...]
"""(mkdir, path), (create, path, inode), (write, inode, bytes), (sync, inode), (rename, source, target),
(unlink, path), (sync_dir, path); and marks of whoever records, such as (ack, event_id)."""
CHANGES = ("mkdir", "create", "write", "sync", "rename", "unlink", "sync_dir")
"""What an operation that is no mark begins with."""


class QuickFiles(LocalFiles):
    """The real file system without waiting for the device: nobody pulls the plug here."""

    def fdatasync(self, fd: int) -> None:
        pass

    def fsync_dir(self, path: Path) -> None:
        pass


Crash = SystemExit
"""The process ends here. Not an Exception, so that no handler lives on; and threads end by it without a trace."""


@dataclass
class RecordingFiles(QuickFiles):
    """Does each operation, and keeps it in ``log``. Several writers, of several threads, may share one.

    ``fail`` sees each operation before it is done. It may return an error to raise in its place, or do
    something of its own first, through this layer too.
    """

    log: list[Operation] = field(default_factory=list)
    fail: Callable[[Operation], BaseException | None] = lambda operation: None
    _inodes: dict[int, int] = field(default_factory=dict)
    _made: int = 0
    _in_order: threading.RLock = field(default_factory=threading.RLock)
    """The record has the order in which the operations were done."""

    def _note(self, *operation: Any) -> None:
        self.log.append(operation)

    def _ask(self, *operation: Any) -> None:
        error = self.fail(operation)
        if error is not None:
            raise error

    def mkdir(self, path: Path) -> None:
        if not path.exists():
            self._ask("mkdir", path)
        with self._in_order:
            super().mkdir(path)
            self._note("mkdir", path)

    def create(self, path: Path, *, exclusive: bool) -> int:
        self._ask("create", path, self._made)
        with self._in_order:
            fd = super().create(path, exclusive=exclusive)
            self._note("create", path, self._made)
            self._inodes[fd] = self._made
            self._made += 1
        return fd

    def write(self, fd: int, data: memoryview) -> int:
        self._ask("write", self._inodes[fd], data)
        with self._in_order:
            written = super().write(fd, data)
            self._note("write", self._inodes[fd], bytes(data[:written]))
        return written

    def fdatasync(self, fd: int) -> None:
        self._ask("sync", self._inodes[fd])
        self._note("sync", self._inodes[fd])

    def rename(self, source: Path, target: Path) -> None:
        self._ask("rename", source, target)
        with self._in_order:
            super().rename(source, target)
            self._note("rename", source, target)

    def unlink(self, path: Path) -> None:
        self._ask("unlink", path)
        with self._in_order:
            super().unlink(path)
            self._note("unlink", path)

    def fsync_dir(self, path: Path) -> None:
        self._ask("sync_dir", path)
        self._note("sync_dir", path)


def failing(
    kind: str | Callable[[Operation], bool], code: int, after: int = 0, times: int | None = None
) -> Callable[[Operation], OSError | None]:
    """Let ``after`` operations of this kind pass and fail the next ones; ``times``: how many, None: all."""
    seen = [0]

    def fail(operation: Operation) -> OSError | None:
        if not (operation[0] == kind if isinstance(kind, str) else kind(operation)):
            return None
        seen[0] += 1
        failed = after < seen[0] and (times is None or seen[0] <= after + times)
        return OSError(code, os.strerror(code)) if failed else None

    return fail


def crash_at(step: int, kind: str | None = None) -> Callable[[Operation], BaseException | None]:
    """Let ``step`` operations (of this kind) pass; a process that has ended does none of the later ones."""
    left = [step]

    def fail(operation: Operation) -> BaseException | None:
        if kind is None or operation[0] == kind or left[0] < 0:
            left[0] -= 1
        return Crash() if left[0] < 0 else None

    return fail

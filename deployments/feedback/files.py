"""The few file operations that durability rests on, and a lock that tells a live writer from a dead one.

Everything that the log changes on disk goes through a `FileLayer`, so that tests can record each step, fail
it, and rebuild what a power cut would have left. Reading does not go through it.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol


class FileLayer(Protocol):
    """What the log does to a file system. Every method blocks and raises OSError."""

    def mkdir(self, path: Path) -> None:
        """Make one directory; FileExistsError if it is there."""

    def create(self, path: Path, *, exclusive: bool) -> int:
        """Open a new empty file for writing; exclusive: FileExistsError if it is there, else it is emptied."""

    def write(self, fd: int, data: memoryview) -> int:
        """Write some of ``data`` at the end, return how many bytes."""

    def fdatasync(self, fd: int) -> None:
        """Return when the file's bytes and size are on the device."""

    def close(self, fd: int) -> None:
        """Close; says nothing about durability."""

    def rename(self, source: Path, target: Path) -> None:
        """Move a file, replacing ``target``; atomic within one file system."""

    def unlink(self, path: Path) -> None:
        """Remove a file's name; FileNotFoundError if it is gone already."""

    def fsync_dir(self, path: Path) -> None:
        """Return when the directory's entries are on the device."""


class LocalFiles:
    """The real file system (POSIX)."""

    def mkdir(self, path: Path) -> None:
        os.mkdir(path)

    def create(self, path: Path, *, exclusive: bool) -> int:
        mode = os.O_EXCL if exclusive else os.O_TRUNC
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | mode, 0o640)

    def write(self, fd: int, data: memoryview) -> int:
        return os.write(fd, data)

    def fdatasync(self, fd: int) -> None:
        os.fdatasync(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def fsync_dir(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def write_all(files: FileLayer, fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write every byte: one write may take only a part, on a nearly full disk for one."""
    rest = memoryview(data)
    while rest:
        rest = rest[files.write(fd, rest) :]


def ensure_directory(directory: Path, files: FileLayer) -> None:
    """Make the directory and its missing parents, so that each of them outlives a power cut."""
    missing = []
    while not directory.is_dir():
        missing.append(directory)
        directory = directory.parent
    # Whoever made the one that is there may have been killed before its own sync, or be about to do it.
    with suppress(PermissionError):  # in a directory that we may not read, nobody like us made it
        files.fsync_dir(directory.parent)
    for path in reversed(missing):
        try:
            files.mkdir(path)
        except FileExistsError:
            if not path.is_dir():
                raise
        files.fsync_dir(path.parent)


def replace_file(path: Path, data: bytes | memoryview, files: FileLayer) -> None:
    """Make ``path`` hold ``data``, whole or not at all, and durable on return; only one caller at a time."""
    temporary = path.with_name(path.name + ".tmp")
    fd = files.create(temporary, exclusive=False)
    try:
        write_all(files, fd, data)
        files.fdatasync(fd)
    finally:
        files.close(fd)
    files.rename(temporary, path)
    files.fsync_dir(path.parent)


class FileLock:
    """An exclusive flock: the kernel drops it when its holder ends, by whatever end. Close it to give it back."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    def close(self) -> None:
        """Release the lock; again: nothing."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def try_lock(path: Path) -> FileLock | None:
    """Take the lock of this file, made if missing.

    None: another holder, in this process or another, is alive; or the file was removed just now.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A file that was removed, or removed and made again, since it was opened: nobody else would meet this lock.
        if os.path.samestat(os.fstat(fd), os.stat(path)):
            return FileLock(fd)
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(fd)
        raise
    os.close(fd)
    return None

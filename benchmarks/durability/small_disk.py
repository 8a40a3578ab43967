"""A tiny file system of our own, in a mount namespace of this process: a disk that is really full, or read-only.

Needs Linux and the right to make user namespaces; many machines grant it to everybody, some containers to nobody.
Call it in a forked process without threads: everything is gone when that process ends.
"""

import ctypes
import os
from pathlib import Path

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000  # linux/sched.h
_MS_RDONLY, _MS_REMOUNT = 1, 32  # linux/mount.h


def mount_small_disk(directory: Path, size_bytes: int) -> None:
    """Mount an empty file system of this size at the directory, for this process and its children alone.

    Raises:
        OSError: The kernel does not let us.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    _check(libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS))
    # A process may map itself only; without a mapping it owns no file.
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        Path("/proc/self", name).write_text(text)
    _check(libc.mount(b"tmpfs", os.fsencode(directory), b"tmpfs", 0, b"size=%d" % size_bytes))


def remount_small_disk(directory: Path, size_bytes: int, *, read_only: bool) -> None:
    """Change the size of the disk, or whether it can be written to; no file may be open for writing then."""
    flags = _MS_REMOUNT | (_MS_RDONLY if read_only else 0)
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.mount(b"tmpfs", os.fsencode(directory), b"tmpfs", flags, b"size=%d" % size_bytes))


def _check(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))

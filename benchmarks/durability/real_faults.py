"""Faults that the kernel really gives: full and read-only disks, file size limits, stopped processes, neighbours.

Each function yields one `Case` a place at which the fault came. All work runs in forked processes, so call them from
a process without threads.
"""

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.durability.processes import Child, in_child, telling
from benchmarks.durability.reading import read_snapshot
from benchmarks.durability.small_disk import mount_small_disk, remount_small_disk
from benchmarks.durability.trial import GROUPS, Case, Trial, check_after, joined, serve
from deployments.feedback.compaction import compact
from deployments.feedback.files import LocalFiles

_NOBODY = 65534
_LARGE_BYTES = 64 * 2**20
_LONGEST_S = 60.0


def file_size_limit(scratch: Path) -> Iterator[Case]:
    """A limit on the size of a file (RLIMIT_FSIZE): the write fails with EFBIG, after it took a part."""
    for size_bytes in (100, 3_000, 6_001, 9_000, 12_345, 16_384):
        root = scratch / f"limit-{size_bytes}"

        def work(root: Path = root, size_bytes: int = size_bytes) -> Trial:
            # Python ignores SIGXFSZ from its start.
            resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))
            try:
                return serve(root, None)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

        trial = in_child(work)
        yield _case(f"{size_bytes} bytes a file", root, trial)


def full_disk(scratch: Path) -> Iterator[Case]:
    """A file system that is full (ENOSPC), then has room again."""
    for size_bytes in range(4096, 18 * 4096, 4096):
        yield in_child(partial(_on_small_disk, scratch, size_bytes))


def read_only_disk(scratch: Path) -> Iterator[Case]:
    """A file system that is mounted read-only when a writer starts (EROFS); it can be read."""
    yield in_child(partial(_on_read_only_disk, scratch))


def unwritable_directory(scratch: Path) -> Iterator[Case]:
    """A directory without the right to write (EACCES), from the start or from some group of rows on."""
    for group in range(len(GROUPS)):
        root = scratch / f"unwritable-{group}"
        yield in_child(partial(_in_unwritable_directory, root, group))


def stopped_in_commit(scratch: Path) -> Iterator[Case]:
    """SIGSTOP before or after each fdatasync; while it lasts, a second writer gets the same rows and compacts."""
    for sync in range(10):
        for before in (True, False):
            root = scratch / f"stopped-{sync}-{before}"
            child = Child(telling(partial(serve, root, _StopsInSync(sync, before), "same")))
            trials = []
            if child.wait_until_stopped():
                trials.append(in_child(partial(_serve_and_compact, root)))
                child.signal(signal.SIGCONT)
            trials.append(child.result())
            yield _case(f"{'before' if before else 'after'} sync {sync}", root, *trials)


def two_writers(scratch: Path) -> Iterator[Case]:
    """Two processes write to one log at once: rows of their own, and the same rows."""
    for number in range(5):
        root = scratch / f"two-{number}"
        children = [Child(telling(partial(_serve_twice, root, name))) for name in ("left", "right")]
        yield _case(f"round {number}", root, *map(Child.result, children))


def two_compactions(scratch: Path) -> Iterator[Case]:
    """Three compactions and a writer at once on one log."""
    for number in range(5):
        root = scratch / f"compactions-{number}"
        first = in_child(partial(serve, root, None, "first"))
        children = [Child(telling(partial(_compact, root))) for _ in range(3)]
        children.append(Child(telling(partial(serve, root, None, "second"))))
        yield _case(f"round {number}", root, first, *map(Child.result, children))


REAL_FAULTS: dict[str, Callable[[Path], Iterator[Case]]] = {
    "disk full, real": full_disk,
    "disk read-only, real": read_only_disk,
    "directory not writable, real": unwritable_directory,
    "file size limit, real": file_size_limit,
    "SIGSTOP in a commit": stopped_in_commit,
    "two writers at once": two_writers,
    "three compactions at once": two_compactions,
}


class _StopsInSync(LocalFiles):
    """Stops its own process at one fdatasync."""

    def __init__(self, sync: int, before: bool) -> None:
        self._left = sync
        self._before = before

    def fdatasync(self, fd: int) -> None:
        self._left -= 1
        if self._left == -1 and self._before:
            os.kill(os.getpid(), signal.SIGSTOP)
        super().fdatasync(fd)
        if self._left == -1 and not self._before:
            os.kill(os.getpid(), signal.SIGSTOP)


def _on_small_disk(scratch: Path, size_bytes: int) -> Case:
    mount_small_disk(scratch, size_bytes)
    root = scratch / "log"
    trial = serve(root, None)
    remount_small_disk(scratch, _LARGE_BYTES, read_only=False)
    return Case(f"{size_bytes} bytes", trial, *check_after(root, trial.acked, trial.sent))


def _on_read_only_disk(scratch: Path) -> Case:
    mount_small_disk(scratch, _LARGE_BYTES)
    root = scratch / "log"
    before = serve(root, None, "before")
    remount_small_disk(scratch, _LARGE_BYTES, read_only=True)
    trial = serve(root, None)
    if not trial.start_refused:
        trial.wrong.append("started on a read-only disk")
    if read_snapshot(root).ids != before.acked:
        trial.wrong.append("a read-only disk cannot be read")
    remount_small_disk(scratch, _LARGE_BYTES, read_only=False)
    trial.acked |= before.acked
    return Case("at start", trial, *check_after(root, trial.acked, [*before.sent, *trial.sent]))


def _in_unwritable_directory(root: Path, group: int) -> Case:
    root.mkdir()
    if os.geteuid() == 0:  # whom no mode stops
        os.chown(root, _NOBODY, _NOBODY)
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)

    def set_mode(mode: int) -> None:
        for path in [root, *root.rglob("*")]:
            if path.is_dir():
                path.chmod(mode)

    if group == 0:
        set_mode(0o500)
    trial = serve(root, None, between=lambda number: set_mode(0o500) if number == group else None)
    set_mode(0o700)
    return Case(f"from group {group} on", trial, *check_after(root, trial.acked, trial.sent))


def _serve_and_compact(root: Path) -> Trial:
    trial = serve(root, None, "same")
    compact(root)
    return trial


def _serve_twice(root: Path, name: str) -> Trial:
    own, common = serve(root, None, name), serve(root, None, "common")
    return joined((own, common))


def _compact(root: Path) -> Trial:
    trial = Trial()
    until_s = time.monotonic() + _LONGEST_S
    while (report := compact(root)).busy:
        if time.monotonic() > until_s:
            trial.hung += 1
            break
    trial.wrong += report.problems
    return trial


def _case(place: str, root: Path, *trials: Trial) -> Case:
    trial = joined(trials)
    return Case(place, trial, *in_child(partial(check_after, root, trial.acked, trial.sent)))

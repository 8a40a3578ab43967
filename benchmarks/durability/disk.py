"""What a power cut may leave of a recorded history: a model of directories and files whose changes are cached.

POSIX promises little, and the model takes back all that it does not promise:

- Bytes written since the file's last sync are there, are missing from any sector on, read as zeros from any
  sector on or up to it, or have one sector or page of zeros among them. Each file for itself; but where states are
  enumerated in full, one file varies while all others are as synced, or as written.
- Changes to a directory since its last sync are there or not, each by itself; other directories have nothing
  to do with it. A rename within one directory is one change; from one to another it is two.
- What lies in a directory whose own entry was lost is lost with it.

The model knows nothing of the log. A sector has 512 bytes, a page 4,096.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product
from math import prod
from pathlib import Path

from benchmarks.durability.recording import Operation

SECTOR_BYTES, PAGE_BYTES = 512, 4096
State = dict[Path, bytes | None]
"""Content by path below the root; None: a directory."""
Entries = dict[str, int | None]
"""A directory: inode by name; None: a directory again."""
_GONE = -1
"""In a change: the name goes away. Inodes are >= 0."""
_EXHAUSTIVE_CHANGES = 4
"""Every subset of up to so many unsynced changes of a directory; of more: prefixes, single ones, all but one."""


class Disk:
    """Replay with `apply`; at any moment `states` are what a power cut would leave.

    Args:
        root: A directory that is there and durable. Recorded paths lie below it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._bytes: dict[int, bytes] = {}
        self._synced: dict[int, int] = {}
        self._kept: dict[Path, Entries] = {root: {}}
        self._changes: dict[Path, list[Entries]] = {root: []}
        self._variants: dict[tuple[int, int, int], list[bytes]] = {}

    def load(self, directory: Path) -> None:
        """Begin from a directory that is wholly on the device; ``directory`` stands for the root."""
        for path in sorted(directory.rglob("*")):
            here = self._root / path.relative_to(directory)
            inode = None
            if path.is_file():
                # Far from the numbers that a recording layer counts up from 0.
                inode = 2**32 + len(self._bytes)
                self._bytes[inode] = path.read_bytes()
                self._synced[inode] = len(self._bytes[inode])
            else:
                self._kept[here], self._changes[here] = {}, []
            self._kept[here.parent][here.name] = inode

    def apply(self, operation: Operation) -> None:
        """Do the next operation of the record; marks do nothing."""
        match operation:
            case ("mkdir", path):
                self._change(path.parent, {path.name: None})
                self._kept[path], self._changes[path] = {}, []
            case ("create", path, inode):
                self._change(path.parent, {path.name: inode})
                self._bytes[inode], self._synced[inode] = b"", 0
            case ("write", inode, data):
                self._bytes[inode] += data
            case ("sync", inode):
                self._synced[inode] = len(self._bytes[inode])
            case ("rename", source, target):
                inode = self._now(source.parent)[source.name]
                if source.parent == target.parent:
                    self._change(source.parent, {source.name: _GONE, target.name: inode})
                else:
                    self._change(source.parent, {source.name: _GONE})
                    self._change(target.parent, {target.name: inode})
            case ("unlink", path):
                self._change(path.parent, {path.name: _GONE})
            case ("sync_dir", path) if path in self._kept:  # what is above the root is durable
                self._kept[path], self._changes[path] = self._now(path), []

    def states(self, most: int = 24, rng: random.Random | None = None) -> Iterator[State]:
        """Yield what a power cut now may leave, first the corners: names and bytes old, or new. Some may be equal.

        Args:
            most: All states are yielded if they are no more than this; else so many are picked, and the corners.
            rng: Picks them; None: a fixed one.
        """
        rng = rng or random.Random(0)
        yield from self._corners()
        choices = {path: _subsets(changes, rng) for path, changes in self._changes.items() if changes}
        if prod(map(len, choices.values())) <= most:
            trees = [self._tree(dict(zip(choices, picked, strict=True))) for picked in product(*choices.values())]
            if sum(sum(map(len, self._choices(tree).values())) for tree in trees) <= most:
                for tree in trees:
                    for contents in _one_varies(self._choices(tree)):
                        yield self._state(tree, contents)
                return
        for _ in range(most):
            tree = self._tree({path: rng.choice(subsets) for path, subsets in choices.items()})
            yield self._state(tree, {inode: rng.choice(held) for inode, held in self._choices(tree).items()})

    def _corners(self) -> Iterator[State]:
        """Names old or new, bytes old or new."""
        for changes in ({}, self._changes):
            tree = self._tree(changes)
            for written in (False, True):
                yield self._state(tree, {inode: held[written] for inode, held in self._choices(tree).items()})

    def _change(self, directory: Path, change: Entries) -> None:
        self._changes[directory].append(change)

    def _now(self, directory: Path) -> Entries:
        return _changed(self._kept[directory], self._changes[directory])

    def _tree(self, changes: Mapping[Path, Sequence[Entries]]) -> dict[Path, int | None]:
        """Inode by path below the root; None a directory. ``changes``: those that reached the device."""
        tree: dict[Path, int | None] = {}
        directories = [(self._root, Path())]
        for directory, below in directories:
            for name, inode in _changed(self._kept[directory], changes.get(directory, ())).items():
                path = below / name
                tree[path] = inode
                if inode is None:
                    directories.append((directory / name, path))
        return tree

    def _choices(self, tree: Mapping[Path, int | None]) -> dict[int, list[bytes]]:
        """What each file of the tree may hold, of which bytes may be missing."""
        inodes = {inode for inode in tree.values() if inode is not None}
        return {inode: self._held(inode) for inode in sorted(inodes) if self._synced[inode] < len(self._bytes[inode])}

    def _state(self, tree: Mapping[Path, int | None], contents: Mapping[int, bytes]) -> State:
        held = self._bytes
        return {path: None if inode is None else contents.get(inode, held[inode]) for path, inode in tree.items()}

    def _held(self, inode: int) -> list[bytes]:
        """Each content that a file may have, once: as synced, as written, then all between."""
        data, synced = self._bytes[inode], self._synced[inode]
        key = (inode, synced, len(data))
        if key not in self._variants:
            self._variants[key] = list(dict.fromkeys(_partly_written(data, synced)))
        return self._variants[key]


def write_state(directory: Path, state: State) -> None:
    """Make the directory, and below it what the state says."""
    directory.mkdir()
    for path, content in sorted(state.items()):
        if content is None:
            (directory / path).mkdir()
        else:
            (directory / path).write_bytes(content)


def _one_varies(choices: Mapping[int, list[bytes]]) -> Iterator[dict[int, bytes]]:
    """Each content of each file, while the others hold what was synced, or all that was written."""
    for written in (False, True):
        corner = {inode: held[written] for inode, held in choices.items()}
        yield corner
        for inode, held in choices.items():
            yield from (corner | {inode: content} for content in held)


def _partly_written(data: bytes, synced: int) -> Iterator[bytes]:
    size = len(data)
    yield data[:synced]
    yield data
    sectors = range(synced // SECTOR_BYTES * SECTOR_BYTES, size, SECTOR_BYTES)
    for at in (synced, *sectors[1:]):
        yield data[:at]
        yield data[:at] + bytes(size - at)
        yield data[:synced] + bytes(at - synced) + data[at:]
    for step, first in (
        (SECTOR_BYTES, sectors),
        (PAGE_BYTES, range(synced // PAGE_BYTES * PAGE_BYTES, size, PAGE_BYTES)),
    ):
        for at in first:
            hole = range(max(at, synced), min(at + step, size))
            yield data[: hole.start] + bytes(len(hole)) + data[hole.stop :]


def _changed(entries: Entries, changes: Sequence[Entries]) -> Entries:
    after = dict(entries)
    for change in changes:
        after |= change
    return {name: inode for name, inode in after.items() if inode != _GONE}


def _subsets(changes: Sequence[Entries], rng: random.Random) -> list[Sequence[Entries]]:
    """Which of a directory's unsynced changes may have reached the device, in their order."""
    if len(changes) <= _EXHAUSTIVE_CHANGES:
        return [list(subset) for size in range(len(changes) + 1) for subset in combinations(changes, size)]
    prefixes = [changes[:size] for size in range(len(changes) + 1)]
    single = [[change] for change in changes[1:]]
    without = [[*changes[:at], *changes[at + 1 :]] for at in range(len(changes) - 1)]
    mixed = [[change for change in changes if rng.random() < 0.5] for _ in changes]
    return [*prefixes, *single, *without, *mixed]

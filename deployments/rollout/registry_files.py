"""What adapters and aliases are both written with: one lock that is waited for, durable files, JSON that proves itself.

A registry's JSON file carries its format and the sha256 of all else in it, so that a reader tells a damaged file from
a newer one. Knows nothing of what the files say.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.feedback.files import FileLayer, ensure_directory, replace_file, try_lock, write_all
from graph.errors import InvalidRequest, Unavailable

FORMAT = 1
_COPY_BYTES = 2**22
_POLL_S = 0.005


@dataclass(frozen=True, slots=True)
class RegistryFiles:
    """How one registry's folder is written. Any number of objects and processes may share the folder."""

    root: Path
    layer: FileLayer
    lock_wait_s: float
    """How long a writer waits for another one, which takes milliseconds."""
    clock: Callable[[], float]
    """Monotonic seconds, for that wait."""
    sleep: Callable[[float], None]
    """Waits so many seconds."""

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold the lock of this name, a file in the root, which is made if missing. Blocks.

        Raises:
            Unavailable: Another writer takes too long.
            OSError: The disk is full, or fails.
        """
        ensure_directory(self.root, self.layer)
        until = self.clock() + self.lock_wait_s
        while (lock := try_lock(self.root / name)) is None:
            if self.clock() >= until:
                raise Unavailable(
                    f"Another process has held {self.root / name} for {self.lock_wait_s:g} s; try again soon."
                )
            self.sleep(_POLL_S)
        try:
            yield
        finally:
            lock.close()

    def write(self, path: Path, data: bytes) -> None:
        """Write a new file; its content is durable on return, its name once its folder is synced.

        Raises:
            OSError: The file is there already, the disk is full, or it fails.
        """
        fd = self.layer.create(path, exclusive=True)
        try:
            write_all(self.layer, fd, data)
            self.layer.fdatasync(fd)
        finally:
            self.layer.close(fd)

    def copy(self, source: Path, target: Path) -> None:
        """Copy a file to a new one, never through a link, as `write` writes it.

        Raises:
            OSError: As `write`, or the source cannot be read.
        """
        fd = self.layer.create(target, exclusive=True)
        try:
            with open(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                while data := file.read(_COPY_BYTES):
                    write_all(self.layer, fd, data)
            self.layer.fdatasync(fd)
        finally:
            self.layer.close(fd)

    def replace(self, path: Path, data: bytes) -> None:
        """Make a file hold ``data``, whole or not at all, durable on return. Call it under the lock.

        Raises:
            OSError: The disk is full, or fails.
        """
        replace_file(path, data, self.layer)


def encode(content: Mapping[str, Any]) -> bytes:
    """Return JSON that carries its format and its sha256.

    Raises:
        TypeError, ValueError: The content is no JSON.
    """
    stated = {"format": FORMAT, **content}
    return (json.dumps(stated | {"sha256": _sha256(stated)}, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def decode(data: bytes) -> dict[str, Any]:
    """Return what `encode` was given.

    Raises:
        KeyError, ValueError: It is not what was encoded, or another version encoded it.
    """
    stated = json.loads(data)
    if not isinstance(stated, dict):
        raise ValueError("it is not an object")
    if stated.pop("sha256", None) != _sha256(stated):
        raise ValueError("its sha256 is not that of its content")
    if stated.pop("format") != FORMAT:
        raise ValueError(f"it has another format than {FORMAT}, the one this version reads: upgrade")
    return stated


def as_json(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value as it comes back from JSON: with lists for tuples, so that equal cards compare equal.

    Raises:
        InvalidRequest: It is no JSON; ``name`` says what it is.
    """
    try:
        plain: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"The {name} cannot be kept as JSON: {error}.", param=name) from None
    return plain


def _sha256(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

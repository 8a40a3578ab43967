"""Checkpoints of one training: sealed with the hash of every file, renamed into place, checked before they are used.

    RUN/checkpoints/step-00000020/checkpoint.json    {"format", "run", "step", "seconds", "files": {name: sha256}}
                                  adapter_model.safetensors, optimizer.pt, trainer_state.json, ...

A kill leaves a whole checkpoint or none. One that is not as it was sealed is never opened by anything that could
execute it: it is left aside, and the one before is used. Knows nothing of torch, Ray or TRL.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.feedback.files import FileLayer, LocalFiles, ensure_directory, replace_file
from deployments.rollout.adapter_files import file_sha256

SEAL = "checkpoint.json"
FORMAT = 1
KEPT = 2
"""The newest, and the one before, in case it is damaged."""
_NAME = re.compile(r"step-(\d{8})")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One whole checkpoint."""

    folder: Path
    step: int
    seconds: float
    """That the training took up to here, over all its starts."""


def seal(folder: Path, run: str, step: int, seconds: float, files: FileLayer | None = None) -> None:
    """Write down what is in this folder, subfolders included; durable on return.

    Args:
        run: The training's name: a checkpoint of another one is refused.
        step: Steps that are done.
    """
    files = files or LocalFiles()
    for path in _files_below(folder):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            files.fdatasync(fd)
        finally:
            files.close(fd)
    (folder / SEAL).unlink(missing_ok=True)
    sha256 = {path.relative_to(folder).as_posix(): file_sha256(path) for path in _files_below(folder)}
    stated = {"format": FORMAT, "run": run, "step": step, "seconds": seconds, "files": sha256}
    replace_file(folder / SEAL, json.dumps(stated, indent=1, sort_keys=True).encode(), files)


def keep(folder: Path, run: str, step: int, seconds: float, root: Path, files: FileLayer | None = None) -> Path:
    """Seal a folder and move it to its place among the run's checkpoints, on the same file system; durable on return.

    Older ones than the last `KEPT` are removed. One of this step that is there already gives way.
    """
    files = files or LocalFiles()
    ensure_directory(root, files)
    seal(folder, run, step, seconds, files)
    target = root / f"step-{step:08d}"
    shutil.rmtree(target, ignore_errors=True)
    files.rename(folder, target)
    files.fsync_dir(root)
    for _, old in sorted(_listed(root), reverse=True)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def read(folder: Path, run: str) -> Checkpoint:
    """Return the checkpoint in this folder once every byte of it was checked.

    Raises:
        ValueError: It is none of this run, or not as it was sealed; the message says what differs.
    """
    try:
        stated: dict[str, Any] = json.loads((folder / SEAL).read_bytes())
        files, step, seconds = stated["files"], stated["step"], stated["seconds"]
        if stated["format"] != FORMAT or stated["run"] != run:
            raise ValueError("it is of another training, or of another version")
        if not isinstance(step, int) or not isinstance(seconds, int | float):
            raise ValueError("its seal is not readable")
        found = {path.relative_to(folder).as_posix() for path in _files_below(folder)} - {SEAL}
        if found != set(files):
            raise ValueError(f"its files are not those that were saved: {', '.join(sorted(found ^ set(files)))}")
        for name, sha256 in files.items():
            if file_sha256(folder / name) != sha256:
                raise ValueError(f"{name} is not as it was saved")
    except (OSError, KeyError, TypeError) as error:
        raise ValueError(f"it cannot be read: {error!r}") from error
    return Checkpoint(folder, step, float(seconds))


def newest(root: Path, run: str, on_problem: Callable[[str], None] = lambda problem: None) -> Checkpoint | None:
    """Return the newest whole checkpoint of a run, or None. Damaged ones are told and removed."""
    for _, folder in sorted(_listed(root), reverse=True):
        try:
            return read(folder, run)
        except ValueError as error:
            on_problem(f"The checkpoint {folder.name} is not used: {error}. It is removed.")
            shutil.rmtree(folder, ignore_errors=True)
    return None


def _listed(root: Path) -> Iterator[tuple[int, Path]]:
    with suppress(FileNotFoundError):
        for path in root.iterdir():
            if match := _NAME.fullmatch(path.name):
                yield int(match[1]), path


def _files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())

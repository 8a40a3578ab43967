"""The folder of one training on disk: what is trained in it, who trains just now, and what came out.

    RUNS/<run>/run.json          what is trained: dataset, base, parent, parameters, seed; the name is its hash
               run.lock          one process at a time
               checkpoints/      of a training that is not done (`checkpoints`); a killed one goes on from the last
               adapter/          adapter_config.json, adapter_model.safetensors
               result.json       metrics and hashes; it comes last, so a run that has one is done

Knows nothing of how it is trained.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deployments.feedback.files import LocalFiles, ensure_directory, replace_file, try_lock
from deployments.rollout.adapter_files import CONFIG, WEIGHTS, AdapterConfig, file_sha256
from graph.errors import Conflict

ADAPTER = "adapter"
CHECKPOINTS = "checkpoints"
_IDENTITY = "run.json"
_LOCK = "run.lock"
_RESULT = "result.json"


def name_of(identity: Mapping[str, Any]) -> str:
    """The name of the run that trains this (JSON): 64 hex digits."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run for one process; its folder is made if missing.

    Raises:
        Conflict: Another process trains in it.
        OSError: The folder cannot be written.
    """
    ensure_directory(folder, LocalFiles())
    lock = try_lock(folder / _LOCK)
    if lock is None:
        raise Conflict(
            f"Another process trains {folder.name[:12]} in {folder} just now; wait for it, then start again."
        )
    try:
        yield
    finally:
        lock.close()


def state(folder: Path, identity: Mapping[str, Any]) -> None:
    """Write down what is trained here; durable on return."""
    replace_file(folder / _IDENTITY, _encode(identity), LocalFiles())


def finished(folder: Path) -> dict[str, float] | None:
    """Return the metrics of a training that is done; None: it is not, or its adapter is not as it was."""
    try:
        result = json.loads((folder / _RESULT).read_bytes())
        if all(file_sha256(folder / ADAPTER / name) == sha256 for name, sha256 in result["files"].items()):
            metrics: dict[str, float] = result["metrics"]
            return metrics
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return None


def keep_result(folder: Path, checkpoint: Path, config: AdapterConfig, metrics: Mapping[str, float]) -> None:
    """Put the adapter in its place, with the one spelling of its configuration, then the result; the checkpoints go.

    Args:
        checkpoint: Folder of the last one; its weights are the adapter's.
    """
    files = LocalFiles()
    made, target = folder / f"{ADAPTER}.tmp", folder / ADAPTER
    shutil.rmtree(made, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    made.mkdir()
    replace_file(made / CONFIG, config.encode(), files)
    replace_file(made / WEIGHTS, (checkpoint / WEIGHTS).read_bytes(), files)
    files.rename(made, target)
    files.fsync_dir(folder)
    sha256 = {name: file_sha256(target / name) for name in (CONFIG, WEIGHTS)}
    replace_file(folder / _RESULT, _encode({"metrics": dict(metrics), "files": sha256}), files)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def _encode(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()

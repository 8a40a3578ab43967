"""What every benchmark does with its figures: quantiles, and a JSON file that says what was measured on what."""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any


def quantile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of ``values`` do not exceed (nearest rank). ``values`` need not be sorted.

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError("no values to take a quantile of")
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def gpu_names() -> list[str]:
    """What ``nvidia-smi`` calls this machine's GPUs; empty: there are none that it knows."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    query = [command, "--query-gpu=name", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.splitlines() if done.returncode == 0 else []


def write_record(
    path: Path,
    benchmark: str,
    configuration: Mapping[str, Any],
    figures: Any,
    packages: Iterable[str] = ("pyarrow",),
    **more: Any,
) -> None:
    """Writes one benchmark's record: what ran, on how many cores, with which versions, and what came out."""
    gpus = gpu_names()
    record = {
        "benchmark": benchmark,
        **more,
        "configuration": dict(configuration),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()} | ({"gpus": gpus} if gpus else {}),
        "versions": {name: version(name) for name in ("rheostat", *packages)},
        "figures": figures,
    }
    path.write_text(json.dumps(record, indent=1) + "\n")

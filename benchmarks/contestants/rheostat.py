"""Rheostat itself as one of the contestants: ``configs/serve/cpu.yaml`` with changes."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.contestants.process import Server
from benchmarks.service import running

MODEL = "smollm2-135m-instruct"


@contextlib.contextmanager
def rheostat(engine: Mapping[str, Any], model: Path | None = None, **options: Any) -> Iterator[Server]:
    """The service with all its stages.

    Args:
        engine: Over ``args.engine`` of the configuration, key by key; ``{"kind": "vllm"}``: as it is there.
        model: The folder that is served, of which nothing is promised; None: the packaged model.
        options: Of `benchmarks.service.running`.
    """
    args: dict[str, Any] = {"engine": engine}
    if model is not None:
        args |= {"model": {"path": str(model)}, "calibration_file": None}
    with running(args, **options) as service:
        yield Server(service.url, MODEL, service.pid)

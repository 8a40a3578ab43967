"""Rheostat itself as one of the contestants: ``configs/serve/cpu.yaml`` with changes."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.contestants.process import Server
from benchmarks.service import running

MODEL = "smollm2-135m-instruct"


@contextlib.contextmanager
def rheostat(engine: Mapping[str, Any], **options: Any) -> Iterator[Server]:
    """The service with all its stages.

    Args:
        engine: Over ``args.engine`` of the configuration, key by key; ``{"kind": "vllm"}``: as it is there.
        options: Of `benchmarks.service.running`.
    """
    with running({"engine": engine}, **options) as service:
        yield Server(service.url, MODEL, service.pid)

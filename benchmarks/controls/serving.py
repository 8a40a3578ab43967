"""The service that is measured: one that runs already, or one of our own on the real engine."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.service import running

ANSWER_CODE = (
    "deployments/controls/**/*.py",
    "deployments/generator/**/*.py",
    "deployments/formatter/*.py",
    "graph/regeneration.py",
    "configs/quality.yaml",
    "configs/serve/cpu.yaml",
)
"""What an answer depends on besides the catalogue, which has a hash of its own. Other code may change between runs."""
NOT_ANSWER_CODE = (
    "deployments/controls/yardsticks.py",
    "deployments/controls/calibration.py",
    "deployments/controls/measure.py",
    "deployments/controls/preview.py",
    "deployments/controls/receipt.py",
)
"""They read answers and settings, and make none."""

USER_CONFIG: Mapping[str, Mapping[str, Any]] = {
    # A slow answer is measured like any other: nothing is refused or cut for being late.
    "Ingress": {"max_inflight_choices": 256, "request_timeout_s": 900.0},
}


@contextlib.contextmanager
def service_url(url: str | None, changes: Mapping[str, Any] | None = None) -> Iterator[str]:
    """The address of a service that answers.

    Args:
        url: Of one that runs; None: start one, on the engine of ``configs/serve/cpu.yaml``, with a log of its own.
        changes: Over the application's arguments, key by key, for one that is started.
    """
    if url is not None:
        yield url
        return
    # A calibration would hide the dials that are to be measured.
    args = {"engine": {"kind": "vllm"}, "calibration_file": None, **(changes or {})}
    with running(args, USER_CONFIG) as service:
        yield service.url

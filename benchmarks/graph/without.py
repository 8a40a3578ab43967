"""The graph with stages that do nothing, to see what they cost. For `python -m benchmarks.graph --stages` alone: no
setting of the service turns off what an answer is owed."""

import os
from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

from ray import serve
from ray.serve import Application

import graph.app
from deployments.ingress.deployment import Ingress
from graph.contracts import FormatJob, LogAck, ValidationJob, Verdict
from graph.settings import AppArgs

VARIABLE = "RHEOSTAT_BENCH_WITHOUT"
"""Environment variable: which of `STAND_INS`, joined by commas."""


async def _judge(job: ValidationJob) -> Verdict:
    return Verdict("deliver")


async def _format(job: FormatJob) -> str:
    return job.text


async def _record(row: Mapping[str, Any]) -> LogAck:
    return LogAck("", "", 0)


STAND_INS: Mapping[str, Any] = {"judge": _judge, "format": _format, "record": _record}


class IngressWithout(Ingress.func_or_class):  # type: ignore[misc, name-defined]
    """The ingress, whose stages that `VARIABLE` names are stand-ins."""

    async def __init__(self, *args: Any, **handles: Any) -> None:  # type: ignore[misc]  # Serve awaits it
        await super().__init__(*args, **handles)
        for name in filter(None, os.environ.get(VARIABLE, "").split(",")):
            setattr(self._stages, name, STAND_INS[name])


def build(args: AppArgs) -> Application:
    """As ``graph.app.build``."""
    ingress = serve.deployment(
        IngressWithout, name="Ingress", max_ongoing_requests=4096, max_queued_requests=8192, health_check_period_s=5
    )
    with patch.object(graph.app, "Ingress", ingress):
        return graph.app.build(args)

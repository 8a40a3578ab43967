"""The Formatter deployment: gives a whole answer its final shape. The shaping itself is ``renderers.render``."""

from typing import Any

from ray import serve

from deployments.formatter.renderers import render
from graph.contracts import FormatJob
from graph.settings import NoTunables


@serve.deployment(
    name="Formatter",
    max_ongoing_requests=64,
    max_queued_requests=1024,
    health_check_period_s=5,
    graceful_shutdown_timeout_s=30,
    graceful_shutdown_wait_loop_s=1,
)
class Formatter:
    """Shell of ``render``."""

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        NoTunables.model_validate(user_config)

    async def format(self, job: FormatJob) -> str:
        return render(job)

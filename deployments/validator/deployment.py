"""The Validator deployment: the CPU pool that judges texts. The judging itself is ``policy.judge``."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ray import serve

from deployments.validator.checks import load_models
from deployments.validator.policy import QualityPolicy, judge, load_policy, parse_policy
from graph.contracts import ValidationJob, Verdict
from graph.settings import AppArgs, ValidatorTunables, project_path


def read_policy(args: AppArgs, override: dict[str, Any] | None) -> QualityPolicy:
    """The policy in force: the one given in ``user_config``, else the file of ``args``."""
    if override is not None:
        return parse_policy(override, "user_config.quality")
    return load_policy(project_path(args.quality_file))


@serve.deployment(
    name="Validator",
    max_ongoing_requests=64,
    max_queued_requests=1024,
    health_check_period_s=5,
    graceful_shutdown_timeout_s=30,
    graceful_shutdown_wait_loop_s=1,
)
class Validator:
    """Shell of ``judge``. A policy or check that cannot load stops start-up."""

    def __init__(self, args: dict[str, Any]) -> None:
        self._args = AppArgs.model_validate(args)
        self._policy = read_policy(self._args, None)
        load_models()
        # One thread: checks are pure Python, and a long one must not hold up the loop that health checks run on.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="judge")

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        self._policy = read_policy(self._args, ValidatorTunables.model_validate(user_config).quality)

    async def judge(self, job: ValidationJob) -> Verdict:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._worker, judge, job.text, job.context, self._policy)

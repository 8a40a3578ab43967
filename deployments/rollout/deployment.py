"""The Rollout deployment: one replica that watches the canary and mirrors decisions into the log. Nobody waits for it:
if it dies, hangs or meets a damaged registry, answers go on as the aliases say."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.rollout.canary import CanaryWatcher
from deployments.rollout.mirror import DecisionMirror
from deployments.rollout.registry import Registry
from deployments.rollout.sequential import CanaryRules
from deployments.rollout.telemetry import RolloutTelemetry
from deployments.rollout.watch import RolloutRules
from graph.contracts import LogAck
from graph.errors import RheostatError
from graph.settings import AppArgs, RolloutTunables, project_path, registry_path

logger = logging.getLogger(__name__)
MIRROR_EVERY_S = 1.0
SAMPLE_EVERY_S = 1.0
"""Ray forgets a gauge that was not set for about two of its report intervals."""
STUCK_AFTER_S = 120.0
"""The first reading of a long canary takes seconds; a file system that hangs takes for ever."""


@serve.deployment(
    name="Rollout",
    max_ongoing_requests=64,
    max_queued_requests=64,
    health_check_period_s=10,
    graceful_shutdown_timeout_s=10,
    graceful_shutdown_wait_loop_s=1,
)
class Rollout:
    """Shell of ``CanaryWatcher`` and ``DecisionMirror``. Reads nothing while it starts, so nothing can stop it."""

    async def __init__(self, args: dict[str, Any], feedback_log: DeploymentHandle[Any]) -> None:  # type: ignore[misc]
        settings = AppArgs.model_validate(args)
        root = registry_path(settings)
        self._log_root = project_path(settings.data_dir) / "log"
        self._tunables = RolloutTunables()
        self._telemetry = RolloutTelemetry()
        self._append = feedback_log.options(method_name="append_many")
        self._find = feedback_log.options(method_name="find_event")
        self._watcher = CanaryWatcher(Registry(root), root, self._log_root, _rules(self._tunables))
        self._mirror = DecisionMirror(
            Registry(root), root, self._append_many, self._find_event, self._telemetry.decided
        )
        self._problems: dict[str, str] = {}
        self._busy_since_s: float | None = None
        self._has_started = False
        loop = asyncio.get_running_loop()
        self._chores = [
            loop.create_task(self._for_ever("canary", self._poll, lambda: self._tunables.poll_s)),
            loop.create_task(self._for_ever("mirror", self._mirror_decisions, lambda: MIRROR_EVERY_S)),
            loop.create_task(self._for_ever("metrics", self._sample, lambda: SAMPLE_EVERY_S)),
        ]

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        try:
            tunables = RolloutTunables.model_validate(user_config)
            _rules(tunables)
            self._tunables = tunables
        except Exception:
            # A running replica that raises here is stopped, and its successors cannot start.
            if not self._has_started:
                raise
            logger.exception("the new user_config is refused; the one before it stays in force")

    async def status(self) -> dict[str, Any]:
        """What was counted and what comes next; see ``CanaryReport.as_json``."""
        return {
            **self._watcher.report.as_json(),
            "acts": self._tunables.canary_acts,
            "decisions_pending": self._mirror.pending,
            "problems": dict(self._problems),
        }

    async def check_health(self) -> None:
        """Serve's; raises when a poll hangs, and the replica is replaced. Requests never meet it."""
        self._has_started = True
        if self._busy_since_s is not None and time.monotonic() - self._busy_since_s > STUCK_AFTER_S:
            raise RuntimeError(f"a poll of the canary has been running for more than {STUCK_AFTER_S:g} s")

    async def __del__(self) -> None:
        for chore in getattr(self, "_chores", ()):
            chore.cancel()

    async def _for_ever(self, name: str, chore: Callable[[], Awaitable[None]], pause_s: Callable[[], float]) -> None:
        while True:
            try:
                await chore()
                self._problems.pop(name, None)
            except Exception as error:
                problem = error.message if isinstance(error, RheostatError) else f"{type(error).__name__}: {error}"
                if self._problems.get(name) != problem:
                    # Once: it is tried again several times a second.
                    logger.exception("%s failed and is tried again", name)
                self._problems[name] = problem[:500]
            await asyncio.sleep(pause_s())

    async def _poll(self) -> None:
        self._busy_since_s = time.monotonic()
        try:
            await asyncio.to_thread(self._retune_and_poll)
        finally:
            self._busy_since_s = None

    def _retune_and_poll(self) -> None:
        # In the thread that polls: the watcher is not thread safe.
        self._watcher.retune(_rules(self._tunables), self._tunables.canary_acts)
        self._watcher.poll()

    async def _mirror_decisions(self) -> None:
        await self._mirror.run()
        ack = self._mirror.last_ack
        if ack is None or await asyncio.to_thread((self._log_root / ack.segment).exists):
            self._problems.pop("log", None)
            return
        # It may have been compacted by now, but then the archive is there.
        if not await asyncio.to_thread((self._log_root / "archive").exists):
            self._problems["log"] = (
                f"The feedback log writes {ack.segment}, which is not below {self._log_root} here: Rollout must run on "
                "the node of FeedbackLog, or share its data_dir. It sees no answers, so it judges no canary."
            )

    async def _sample(self) -> None:
        self._telemetry.sample(self._watcher.report, self._mirror.pending, time.time_ns() // 1000)

    async def _append_many(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[LogAck | RheostatError]:
        outcomes: list[LogAck | RheostatError] = await self._append.remote(list(rows))
        return outcomes

    async def _find_event(self, event_id: str) -> Mapping[str, Any] | None:
        row: dict[str, Any] | None = await self._find.remote(event_id)
        return row


def _rules(tunables: RolloutTunables) -> RolloutRules:
    return RolloutRules(
        shares=tunables.canary_shares,
        stage_answers=tunables.stage_answers,
        outcomes_per_unit=tunables.outcomes_per_unit,
        validator_margin=tunables.validator_margin,
        error_margin=tunables.error_margin,
        canary=CanaryRules(
            alpha_roll_back=tunables.alpha_roll_back,
            alpha_promote=tunables.alpha_promote,
            min_answers=tunables.min_answers,
            max_answers=tunables.max_answers,
        ),
    )

"""The Generator deployment: one engine a replica, and nothing else."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve.metrics import Counter

from deployments.generator.adapters import ResidentAdapters
from deployments.generator.engine import Engine
from deployments.rollout.adapter_files import describe_base
from deployments.rollout.aliases import Aliases
from deployments.rollout.follower import AliasFollower
from deployments.rollout.registry import Registry
from graph.contracts import EngineInfo, EngineLoad, GenerationJob, TokenDelta
from graph.settings import AppArgs, NoTunables, project_path, registry_path

logger = logging.getLogger(__name__)


def make_engine(args: AppArgs) -> Engine:
    """The engine that ``args`` asks for. vllm is imported only here, only when asked for."""
    if args.engine.kind == "simulated":
        from deployments.generator.simulated import SimulatedEngine

        return SimulatedEngine(args.engine.simulated, model_id=args.model.id)
    from deployments.controls.catalogue import load_catalogue
    from deployments.generator.model_store import resolve_model
    from deployments.generator.vllm_engine import VllmEngine

    settings = args.engine.vllm
    return VllmEngine(
        resolve_model(args.model.path),
        args.model.id,
        settings.engine_args,
        settings.environment,
        batch_invariant=settings.batch_invariant,
        casual_words=load_catalogue(project_path(args.controls_file)).casual_words,
        metrics=True,
    )


def _tell_failure(following: Future[None]) -> None:
    if not following.cancelled() and (error := following.exception()) is not None:
        logger.error("the aliases could not be followed", exc_info=error)


def _base_sha256(args: AppArgs) -> str | None:
    """Of the served model's files; None where they are not a folder of this machine. Blocks: reads them once."""
    if args.engine.kind == "simulated":
        return None
    from deployments.generator.model_store import resolve_model

    folder = Path(resolve_model(args.model.path))
    return describe_base(folder).sha256 if folder.is_dir() else None


@serve.deployment(
    name="Generator",
    max_ongoing_requests=256,
    max_queued_requests=512,
    health_check_period_s=5,
    health_check_timeout_s=30,
    # Above the longest generation: a replica that goes away finishes what it began.
    graceful_shutdown_timeout_s=330,
    graceful_shutdown_wait_loop_s=1,
)
class Generator:
    """Shell of an ``Engine``."""

    async def __init__(self, args: dict[str, Any]) -> None:  # type: ignore[misc]  # Serve awaits it
        settings = AppArgs.model_validate(args)
        self._engine = make_engine(settings)
        self._started = Counter("rheostat_generations_started_total", description="Attempts given to the engine.")
        self._ended = Counter("rheostat_generations_ended_total", description="Attempts that ended, however.")
        # On this thread: the engine's processes are tied to the thread that starts them.
        await self._engine.start()
        self._follower = AliasFollower(registry_path(settings), "generator", self._on_change)
        self._adapters = ResidentAdapters(
            self._engine, Registry(registry_path(settings)), lambda: _base_sha256(settings), self._follower.report
        )
        self._loop = asyncio.get_running_loop()
        # Before the replica is ready: the first answer of a new one is the champion's too. An engine that takes no
        # adapters follows as well, so that whoever promotes one is told why it is not served.
        await self._adapters.follow(self._follower.aliases)
        self._follower.start()

    def _on_change(self, aliases: Aliases) -> None:
        """On the follower's thread."""
        asyncio.run_coroutine_threadsafe(self._adapters.follow(aliases), self._loop).add_done_callback(_tell_failure)

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        NoTunables.model_validate(user_config)

    async def info(self) -> EngineInfo:
        return self._engine.info

    async def load(self) -> EngineLoad:
        return self._engine.load()

    async def generate(self, job: GenerationJob) -> AsyncGenerator[TokenDelta, None]:
        # Iterated directly: when the caller goes away Serve closes this generator, and that aborts the request.
        self._started.inc()
        try:
            job = replace(job, adapter=await self._adapters.ready(job.adapter))
            with self._adapters.in_use(job.adapter):
                async with aclosing(self._engine.generate(job)) as deltas:
                    async for delta in deltas:
                        yield delta
        finally:
            self._ended.inc()

    async def check_health(self) -> None:
        await self._engine.check_health()

    async def __del__(self) -> None:
        follower = getattr(self, "_follower", None)
        if follower is not None:
            follower.stop()
        engine = getattr(self, "_engine", None)
        if engine is not None:
            engine.shutdown()

"""The Generator deployment: one engine a replica, and nothing else."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from ray import serve
from ray.serve.metrics import Counter

from deployments.generator.engine import Engine
from graph.contracts import EngineInfo, EngineLoad, GenerationJob, TokenDelta
from graph.settings import AppArgs, NoTunables, project_path


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
        self._engine = make_engine(AppArgs.model_validate(args))
        self._started = Counter("rheostat_generations_started_total", description="Attempts given to the engine.")
        self._ended = Counter("rheostat_generations_ended_total", description="Attempts that ended, however.")
        # On this thread: the engine's processes are tied to the thread that starts them.
        await self._engine.start()

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
            async with aclosing(self._engine.generate(job)) as deltas:
                async for delta in deltas:
                    yield delta
        finally:
            self._ended.inc()

    async def check_health(self) -> None:
        await self._engine.check_health()

    async def __del__(self) -> None:
        engine = getattr(self, "_engine", None)
        if engine is not None:
            engine.shutdown()

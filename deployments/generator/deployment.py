"""The Generator deployment: one engine a replica, and nothing else."""

import asyncio
import logging
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve.config import RequestRouterConfig
from ray.serve.metrics import Counter

from deployments.generator.adapters import ResidentAdapters
from deployments.generator.delta_sender import DeltaSender
from deployments.generator.engine import Engine
from deployments.generator.prefix_router import PrefixRouter
from deployments.generator.recent_requests import RecentRequests
from deployments.rollout.adapter_files import describe_base
from deployments.rollout.aliases import Aliases
from deployments.rollout.follower import AliasFollower
from deployments.rollout.registry import Registry
from graph.contracts import DeltaAddress, EngineInfo, EngineLoad, Generated, GenerationJob, TokenDelta
from graph.delta_frames import encode_deltas, join
from graph.delta_sockets import PushSocket
from graph.errors import Unavailable
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
        traced=settings.traced,
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
    request_router_config=RequestRouterConfig(request_router_class=PrefixRouter),  # type: ignore[arg-type]
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
        self._recent = RecentRequests()
        lost = Counter("rheostat_deltas_not_pushed_total", description="Deltas that came with an answer's end only.")
        self._sender = DeltaSender(PushSocket, self._loop.call_soon, lost.inc)
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

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What ``TtftPolicy`` goes by. Serve asks every few seconds, and no more after an answer that is no numbers."""
        try:
            load = self._engine.load()
        except Unavailable:
            load = EngineLoad(0, 0)  # dead: Serve replaces it
        return asdict(self._recent.report(self._loop.time(), load))

    async def generate(self, job: GenerationJob, ahead: DeltaAddress | None) -> Generated:
        """One attempt, to its end.

        Args:
            ahead: Where its deltas are pushed to as they come; None: nobody reads along.
        """
        # Iterated in this task: when the caller goes away Serve cancels it, and that aborts the request.
        self._started.inc()
        made: list[TokenDelta] = []
        arrived_s = first_s = self._loop.time()
        self._recent.arrived(arrived_s)
        try:
            job = replace(job, adapter=await self._adapters.ready(job.adapter))
            with self._adapters.in_use(job.adapter):
                async with aclosing(self._engine.generate(job)) as deltas:
                    async for delta in deltas:
                        if not made:
                            first_s = self._loop.time()
                            self._recent.answered(first_s, first_s - arrived_s)
                        if ahead is not None:
                            self._sender.send(ahead, len(made), delta)
                        made.append(delta)
        finally:
            self._ended.inc()
            if made:
                now = self._loop.time()
                self._recent.finished(now, now - first_s, sum(delta.token_count for delta in made))
        if ahead is None:
            made = [join(made)]
        return Generated(len(made), encode_deltas(made))

    async def check_health(self) -> None:
        await self._engine.check_health()

    async def __del__(self) -> None:
        follower = getattr(self, "_follower", None)
        if follower is not None:
            follower.stop()
        sender = getattr(self, "_sender", None)
        if sender is not None:
            sender.close()
        engine = getattr(self, "_engine", None)
        if engine is not None:
            engine.shutdown()

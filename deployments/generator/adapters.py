"""Keeps the adapters of the registry's aliases loaded in one engine. No Ray, no vLLM: an ``Engine`` is asked."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deployments.generator.engine import Engine
from deployments.rollout.aliases import Aliases
from deployments.rollout.registry import Registry
from graph.errors import InvalidRequest, RheostatError

logger = logging.getLogger(__name__)
RETRY_S = 5.0
"""How long an adapter that could not be loaded is left alone."""
Report = Callable[[int, tuple[str, ...], dict[str, str]], None]


class ResidentAdapters:
    """The adapters that an engine holds: those that an alias names, and those that a request still uses.

    All methods belong to the engine's event loop. An adapter that cannot be loaded is a reported problem and never a
    failed replica: requests for it are answered by the base model, and the answer says so.

    Args:
        base_sha256: Of the served model, asked at most once and only when there is an adapter to compare; None: it is
            not on this machine as files, so that shapes alone are checked.
        report: Told the version that is served, the adapters loaded and the problems, after each change.
    """

    def __init__(
        self,
        engine: Engine,
        registry: Registry,
        base_sha256: Callable[[], str | None],
        report: Report = lambda version, loaded, problems: None,
    ) -> None:
        self._engine = engine
        self._registry = registry
        self._find_base_sha256 = base_sha256
        self._base_sha256: str | None = None
        self._knows_base = False
        self._report = report
        self._version = 0
        self._wanted: tuple[str, ...] = ()
        self._loaded: list[str] = []
        self._problems: dict[str, str] = {}
        self._failed_at: dict[str, float] = {}
        self._users: Counter[str] = Counter()
        self._lock = asyncio.Lock()

    async def follow(self, aliases: Aliases) -> None:
        """Load what these aliases name and drop what nobody needs any more; returns when it is served.

        What failed a moment ago is tried again at once: somebody has just decided something about it.
        """
        self._wanted = aliases.resident
        # Before loading: the engine's places are few, and what is dropped makes room.
        await self._drop_unused()
        for adapter in aliases.resident:
            self._failed_at.pop(adapter, None)
            await self._try_to_load(adapter)
        # And after it: aliases that came meanwhile may name others.
        await self._drop_unused()
        self._version = max(self._version, aliases.version)
        self._tell()

    @contextmanager
    def in_use(self, adapter: str | None) -> Iterator[None]:
        """An adapter stays loaded for as long as this is entered."""
        if adapter is None:
            yield
            return
        self._users[adapter] += 1
        try:
            yield
        finally:
            self._users[adapter] -= 1

    async def ready(self, adapter: str | None) -> str | None:
        """Return the adapter once it can answer; None: the base model has to."""
        if adapter is None or adapter in self._loaded:
            return adapter
        # Known to the ingress a moment before it is known here.
        if await self._try_to_load(adapter):
            self._tell()
        return adapter if adapter in self._loaded else None

    async def _try_to_load(self, adapter: str) -> bool:
        """Whether it was tried: else it is loaded already, or failed a moment ago."""
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if adapter in self._loaded or now - self._failed_at.get(adapter, -RETRY_S) < RETRY_S:
                return False
            try:
                path = await asyncio.to_thread(self._checked_path, adapter)
                await self._engine.add_adapter(adapter, str(path))
            except Exception as error:  # noqa: BLE001 - whatever is wrong with an adapter, the replica goes on
                shown = error.message if isinstance(error, RheostatError) else f"{type(error).__name__}: {error}"
                logger.error("the adapter %s cannot be loaded: %s", adapter, shown)
                self._problems[adapter] = shown
                self._failed_at[adapter] = now
                return True
            self._loaded.append(adapter)
            self._problems.pop(adapter, None)
            self._failed_at.pop(adapter, None)
            return True

    def _checked_path(self, adapter: str) -> Path:
        path = self._registry.verify(adapter)
        if not self._knows_base:
            self._base_sha256, self._knows_base = self._find_base_sha256(), True
        trained_on = self._registry.card(adapter).base_sha256
        if self._base_sha256 is not None and trained_on != self._base_sha256:
            raise InvalidRequest(
                f"The adapter {adapter} was trained on a base model with the sha256 {trained_on}, and "
                f"{self._base_sha256} is served; train one on the model that is served."
            )
        return path

    async def _drop_unused(self) -> None:
        async with self._lock:
            for adapter in tuple(self._loaded):
                # Asked for each anew: while one is removed, a request may begin with the next.
                if adapter in self._wanted or self._users[adapter]:
                    continue
                self._loaded.remove(adapter)
                try:
                    await self._engine.remove_adapter(adapter)
                except Exception:
                    # It answers nobody any more; whether the engine is well is for its health check to say.
                    logger.exception("the adapter %s could not be removed", adapter)
            self._problems = {a: problem for a, problem in self._problems.items() if a in self._wanted}

    def _tell(self) -> None:
        self._report(self._version, tuple(self._loaded), dict(self._problems))

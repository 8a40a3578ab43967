"""The whole service in one process, without Ray: real routes, controls, checks, formatter and log; simulated engine."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from deployments.controls.catalogue import load_catalogue
from deployments.feedback.tokens import SigningKey
from deployments.feedback.writer import LogWriter
from deployments.formatter.renderers import render
from deployments.generator.simulated import SimulatedEngine, SimulatedSettings
from deployments.ingress.auth import KeyRing
from deployments.ingress.planning import ServiceFacts
from deployments.ingress.records import to_log_row
from deployments.ingress.routes import build_app
from deployments.ingress.service import ChatService
from deployments.ingress.telemetry import RequestFacts
from deployments.validator.policy import judge, load_policy
from graph.contracts import EngineInfo, FormatJob, GenerationJob, LogAck, TokenDelta, ValidationJob, Verdict
from graph.settings import PROJECT_ROOT, IngressTunables

MODEL = "smollm2-135m-instruct"


class Service:
    """Stages, backend and telemetry at once: what Ray provides elsewhere."""

    def __init__(self, log_dir: Path, simulated: Mapping[str, Any], tunables: Mapping[str, Any]) -> None:
        self.engine = SimulatedEngine(SimulatedSettings.model_validate(dict(simulated)), model_id=MODEL)
        self.token_key = SigningKey("test", b"k" * 32)
        self.log = LogWriter(log_dir)
        self.observed: list[RequestFacts] = []
        self.rows: list[dict[str, Any]] = []
        self.judge_error: Exception | None = None
        self.info_delay_s = 0.0
        self._facts = ServiceFacts(
            catalogue=load_catalogue(PROJECT_ROOT / "configs/controls.yaml"),
            policy=load_policy(PROJECT_ROOT / "configs/quality.yaml"),
            tunables=IngressTunables(**tunables),
            capabilities=frozenset(),
            salt_key=None,
        )

    # graph.pipeline.Stages

    def generate(self, job: GenerationJob) -> AsyncGenerator[TokenDelta, None]:
        return self.engine.generate(job)

    async def judge(self, job: ValidationJob) -> Verdict:
        if self.judge_error is not None:
            raise self.judge_error
        return judge(job.text, job.context, self._facts.policy)

    async def format(self, job: FormatJob) -> str:
        return render(job)

    async def record(self, row: Mapping[str, Any]) -> LogAck:
        return await self.append(to_log_row(row, 1))

    # deployments.ingress.routes.Backend

    async def append(self, row: dict[str, Any]) -> LogAck:
        self.rows.append(row)
        return await asyncio.wrap_future(self.log.submit(row))

    def facts(self) -> ServiceFacts:
        return self._facts

    def retune(self, **tunables: Any) -> None:
        self._facts = replace(self._facts, tunables=IngressTunables(**tunables))

    async def engine_info(self) -> EngineInfo:
        await asyncio.sleep(self.info_delay_s)
        return self.engine.info

    async def check_ready(self) -> None:
        await self.engine.check_health()

    async def metrics(self) -> str:
        return "# none\n"

    def observe(self, facts: RequestFacts) -> None:
        self.observed.append(facts)


@asynccontextmanager
async def running(
    log_dir: Path,
    *,
    simulated: Mapping[str, Any] | None = None,
    tunables: Mapping[str, Any] | None = None,
    keys: KeyRing | None = None,
) -> AsyncIterator[tuple[httpx.AsyncClient, Service]]:
    """A client of the service's real HTTP application, without a network."""
    backend = Service(log_dir, simulated or {"first_token_s": 0, "token_s": 0}, tunables or {})
    await backend.engine.start()
    service = ChatService(backend, backend.facts, backend.engine_info, backend.token_key, backend)
    app = build_app(service, backend, keys or KeyRing(None), backend.token_key)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://rheostat") as client:
            yield client, backend
    finally:
        backend.log.close()

"""The whole service in one process, without Ray: real routes, controls, checks, formatter and log; simulated engine."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from deployments.controls.calibration import Calibration
from deployments.controls.catalogue import load_catalogue
from deployments.feedback.contracts import load_contracts
from deployments.feedback.events import generation_row
from deployments.feedback.lineage import adapters_trained_on
from deployments.feedback.lookup import LogReader
from deployments.feedback.tokens import SigningKey, TokenClaims, sign
from deployments.feedback.writer import LogWriter
from deployments.formatter.renderers import render
from deployments.generator.simulated import SimulatedEngine, SimulatedSettings
from deployments.ingress.admission import Admission
from deployments.ingress.auth import KeyRing
from deployments.ingress.planning import ServiceFacts
from deployments.ingress.privacy import TextPolicy
from deployments.ingress.quality_tally import QualityTally
from deployments.ingress.records import to_log_row
from deployments.ingress.routes import build_app
from deployments.ingress.service import ChatService, WallClock
from deployments.ingress.telemetry import AdmissionFacts, RequestFacts
from deployments.ingress.validation import ValidationService
from deployments.rollout.aliases import Aliases
from deployments.validator.policy import judge, load_policy
from graph.contracts import EngineInfo, FormatJob, GenerationJob, LogAck, TokenDelta, ValidationJob, Verdict
from graph.errors import RheostatError
from graph.ids import new_id
from graph.pipeline import Clock
from graph.settings import PROJECT_ROOT, IngressTunables

MODEL = "smollm2-135m-instruct"
CONTRACTS = load_contracts(PROJECT_ROOT / "configs/metrics.yaml")
# Read once, for all services: both are frozen, and reading them takes longer than most tests.
CATALOGUE = load_catalogue(PROJECT_ROOT / "configs/controls.yaml")
POLICY = load_policy(PROJECT_ROOT / "configs/quality.yaml")
FAR_FUTURE = 4_000_000_000
"""Seconds since 1970 UTC: no token made with it expires."""


class Service:
    """Stages, backend and telemetry at once: what Ray provides elsewhere."""

    def __init__(
        self,
        log_dir: Path,
        simulated: Mapping[str, Any],
        tunables: Mapping[str, Any],
        texts: TextPolicy,
        calibration: Calibration | None = None,
    ) -> None:
        self.engine = SimulatedEngine(SimulatedSettings.model_validate(dict(simulated)), model_id=MODEL)
        self.token_key = SigningKey("test", b"k" * 32)
        self.log = LogWriter(log_dir)
        self.log_dir = log_dir
        self.reader = LogReader(log_dir)
        self.texts: TextPolicy = texts
        self.observed: list[RequestFacts] = []
        self.decisions: list[AdmissionFacts] = []
        """Of admission."""
        self.waiting_choices = 0
        self.validations: list[str] = []
        """Outcomes of texts that were sent to be judged."""
        self.judged: list[ValidationJob] = []
        self.judging = 0
        """Texts in the pool just now."""
        self.most_judging = 0
        self.judge_delay_s = 0.0
        self.rows: list[dict[str, Any]] = []
        self.judge_error: Exception | None = None
        self.refusing: list[RheostatError] = []
        """Given to the next rows in place of an acknowledgement."""
        self.reads: list[str] = []
        """Ids that were looked up in the log."""
        self.info_delay_s = 0.0
        self.aliases = Aliases()
        self._facts = ServiceFacts(
            catalogue=CATALOGUE,
            policy=POLICY,
            tunables=IngressTunables(**tunables),
            capabilities=frozenset(),
            salt_key=None,
            calibration=calibration,
        )

    # graph.pipeline.Stages

    def generate(self, job: GenerationJob) -> AsyncGenerator[TokenDelta, None]:
        return self.engine.generate(job)

    async def judge(self, job: ValidationJob) -> Verdict:
        self.judged.append(job)
        self.judging += 1
        self.most_judging = max(self.most_judging, self.judging)
        try:
            if self.judge_delay_s:
                await asyncio.sleep(self.judge_delay_s)
        finally:
            self.judging -= 1
        if self.judge_error is not None:
            raise self.judge_error
        return judge(job.text, job.context, self._facts.policy)

    async def format(self, job: FormatJob) -> str:
        return render(job)

    async def record(self, row: Mapping[str, Any]) -> LogAck:
        (outcome,) = await self.append_many([to_log_row(row, 1, self.texts)])
        if isinstance(outcome, RheostatError):
            raise outcome
        return outcome

    # deployments.ingress.routes.Backend

    async def append_many(self, rows: Sequence[Mapping[str, Any]]) -> list[LogAck | RheostatError]:
        waiting = [self._submit(row) for row in rows]
        return [one if isinstance(one, RheostatError) else await asyncio.wrap_future(one) for one in waiting]

    def _submit(self, row: Mapping[str, Any]) -> Any:
        if self.refusing:
            return self.refusing.pop(0)
        self.rows.append(dict(row))
        try:
            return self.log.submit(row)
        except RheostatError as error:
            return error

    async def find_event(self, event_id: str) -> Mapping[str, Any] | None:
        self.reads.append(event_id)
        return self.reader.event(event_id)

    async def find_generation(self, generation_id: str) -> Mapping[str, Any] | None:
        self.reads.append(generation_id)
        return self.reader.generation(generation_id)

    async def events_about(self, generation_id: str) -> list[dict[str, Any]]:
        self.reads.append(generation_id)
        return self.reader.about(generation_id)

    async def ids_about(self, generation_id: str) -> list[str]:
        self.reads.append(generation_id)
        return self.reader.ids_about(generation_id)

    async def adapters_trained_on(self, event_ids: Sequence[str]) -> list[str]:
        return list(adapters_trained_on(self.log_dir, event_ids))

    async def analysis(self, since_s: float | None) -> dict[str, Any]:
        return {"since_s": since_s}

    async def answered(self, tenant: str = "public", **columns: Any) -> str:
        """Records an answer; returns its generation_id. A test may do without the engine."""
        generation_id = new_id()
        given = {"model": MODEL, "prompt": [{"role": "user", "content": "Why?"}], "answer": "So.", "outcome": "pass"}
        await self.append_many(
            [generation_row(generation_id=generation_id, tenant=tenant, now_us=1, **{**given, **columns})]
        )
        return generation_id

    def token(self, generation_id: str, tenant: str = "public", expires_at: int = FAR_FUTURE) -> str:
        """The feedback token of an answer."""
        return sign(TokenClaims(generation_id, tenant, MODEL, None, None, "0" * 16, expires_at), self.token_key)

    def facts(self) -> ServiceFacts:
        return self._facts

    def retune(self, **tunables: Any) -> None:
        self._facts = replace(self._facts, tunables=IngressTunables(**tunables))

    async def engine_info(self) -> EngineInfo:
        await asyncio.sleep(self.info_delay_s)
        return self.engine.info

    async def check_ready(self) -> None:
        await self.engine.check_health()

    async def rollout_status(self) -> Mapping[str, Any]:
        return {"state": "no canary"}

    async def metrics(self) -> str:
        return "# none\n"

    def observe(self, facts: RequestFacts) -> None:
        self.observed.append(facts)

    def decided(self, facts: AdmissionFacts) -> None:
        self.decisions.append(facts)

    def waiting(self, choices: int) -> None:
        self.waiting_choices = choices

    def validated(self, outcome: str) -> None:
        self.validations.append(outcome)


@asynccontextmanager
async def running(
    log_dir: Path,
    *,
    simulated: Mapping[str, Any] | None = None,
    tunables: Mapping[str, Any] | None = None,
    keys: KeyRing | None = None,
    texts: TextPolicy = "keep",
    cors_origins: tuple[str, ...] = (),
    client_host: str = "127.0.0.1",
    calibration: Calibration | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[tuple[httpx.AsyncClient, Service]]:
    """A client of the service's real HTTP application, without a network."""
    backend = Service(log_dir, simulated or {"first_token_s": 0, "token_s": 0}, tunables or {}, texts, calibration)
    await backend.engine.start()
    clock = clock or WallClock()
    admission, tally = Admission(lambda: backend.facts().tunables, clock, backend), QualityTally()
    service = ChatService(
        backend,
        backend.facts,
        backend.engine_info,
        backend.token_key,
        backend,
        # Looked up at each call: a test may put another in its place.
        lambda rows: backend.append_many(rows),
        admission,
        tally,
        clock,
        aliases=lambda: backend.aliases,
    )
    app = build_app(
        service,
        ValidationService(backend.judge, backend.facts, backend, admission, clock),
        tally,
        backend,
        keys or KeyRing(None),
        backend.token_key,
        CONTRACTS,
        log_dir.parent / "registry",
        texts=texts,
        cors_origins=cors_origins,
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(client_host, 1234))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://rheostat") as client:
            yield client, backend
    finally:
        backend.log.close()

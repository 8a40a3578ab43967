"""The Ingress deployment: builds the service over the other deployments' handles and serves its routes."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.controls.calibration import Calibration, load_calibration
from deployments.controls.catalogue import Catalogue, load_catalogue
from deployments.controls.yardsticks import warm_up
from deployments.feedback.contracts import load_contracts
from deployments.feedback.tokens import SigningKey, load_or_create_key
from deployments.ingress.admission import Admission
from deployments.ingress.auth import KeyRing
from deployments.ingress.handles import HandleStages
from deployments.ingress.planning import ServiceFacts
from deployments.ingress.quality_tally import QualityTally
from deployments.ingress.routes import build_app
from deployments.ingress.scrape import fetch, merge
from deployments.ingress.service import ChatService, WallClock
from deployments.ingress.telemetry import RayTelemetry
from deployments.ingress.validation import ValidationService
from deployments.rollout.follower import AliasFollower
from deployments.validator.deployment import read_policy
from graph.contracts import EngineInfo, LogAck
from graph.delta_sockets import PullSocket
from graph.errors import ConfigurationError, RheostatError
from graph.settings import AppArgs, IngressTunables, project_path, registry_path

logger = logging.getLogger(__name__)


@serve.deployment(
    name="Ingress",
    # Admission is ours (admission.py), so that a refusal is a proper 429: Serve's bounds only stand behind it.
    max_ongoing_requests=4096,
    max_queued_requests=8192,
    health_check_period_s=5,
    graceful_shutdown_timeout_s=330,
    graceful_shutdown_wait_loop_s=1,
)
@serve.ingress()
class Ingress:
    """Shell of ``ChatService`` and the routes."""

    def __init__(
        self,
        args: dict[str, Any],
        generator: DeploymentHandle[Any],
        validator: DeploymentHandle[Any],
        formatter: DeploymentHandle[Any],
        feedback_log: DeploymentHandle[Any],
        rollout: DeploymentHandle[Any],
    ) -> None:
        _log_with_serve()
        self._has_started = False
        self._args = AppArgs.model_validate(args)
        self._socket = PullSocket(ray.util.get_node_ip_address())
        self._stages = HandleStages(
            generator, validator, formatter, feedback_log, rollout, self._socket, self._args.feedback_texts
        )
        self._follower = AliasFollower(registry_path(self._args), "ingress")
        self._contracts = load_contracts(project_path(self._args.metrics_file))
        self._token_key = _token_key(self._args)
        warm_up()
        catalogue = load_catalogue(project_path(self._args.controls_file))
        self._facts = ServiceFacts(
            catalogue=catalogue,
            policy=read_policy(self._args, None),
            tunables=IngressTunables(),
            capabilities=frozenset(self._args.model.capabilities),
            salt_key=self._token_key.secret if self._args.isolate_tenants else None,
            calibration=_calibration(self._args, catalogue),
        )

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        try:
            tunables = IngressTunables.model_validate(user_config)
            # One assignment: a request that is being planned sees all of the old or all of the new.
            self._facts = replace(self._facts, tunables=tunables, policy=read_policy(self._args, tunables.quality))
        except Exception:
            # A running replica that raises here is stopped, and its successors cannot start.
            if not self._has_started:
                raise
            logger.exception("the new user_config is refused; the one before it stays in force")

    async def check_health(self) -> None:
        """Serve's; the first one ends start-up. One that the event loop does not answer for 30 s counts as failed."""
        self._has_started = True

    def __del__(self) -> None:
        follower = getattr(self, "_follower", None)
        if follower is not None:
            follower.stop()
        socket = getattr(self, "_socket", None)
        if socket is not None:
            socket.close()

    def __serve_build_asgi_app__(self) -> FastAPI:
        auth = self._args.auth
        keys = KeyRing.load(None if auth.keys_file is None else project_path(auth.keys_file), auth.admin_tenants)
        telemetry, tally = RayTelemetry(), QualityTally()
        admission = Admission(lambda: self._facts.tunables, WallClock(), telemetry)
        service = ChatService(
            self._stages,
            self.facts,
            self.engine_info,
            self._token_key,
            telemetry,
            self._stages.append_many,
            admission,
            tally,
            aliases=lambda: self._follower.aliases,
        )
        self._follower.start()
        return build_app(
            service,
            ValidationService(self._stages.judge, self.facts, telemetry, admission, WallClock()),
            tally,
            self,
            keys,
            self._token_key,
            self._contracts,
            registry_path(self._args),
            texts=self._args.feedback_texts,
            cors_origins=self._args.cors_origins,
            # Serve tells the request id itself: the client's, or the one that it made and put into the request.
            tells_request_id=False,
        )

    def facts(self) -> ServiceFacts:
        return self._facts

    async def engine_info(self) -> EngineInfo:
        return await self._stages.engine_info()

    async def check_ready(self) -> None:
        await self._stages.check_ready()

    async def append_many(self, rows: Sequence[Mapping[str, Any]]) -> list[LogAck | RheostatError]:
        return await self._stages.append_many(rows)

    async def find_event(self, event_id: str) -> dict[str, Any] | None:
        return await self._stages.find_event(event_id)

    async def find_generation(self, generation_id: str) -> dict[str, Any] | None:
        return await self._stages.find_generation(generation_id)

    async def events_about(self, generation_id: str) -> list[dict[str, Any]]:
        return await self._stages.events_about(generation_id)

    async def ids_about(self, generation_id: str) -> list[str]:
        return await self._stages.ids_about(generation_id)

    async def adapters_trained_on(self, event_ids: Sequence[str]) -> list[str]:
        return await self._stages.adapters_trained_on(event_ids)

    async def analysis(self, since_s: float | None) -> dict[str, Any]:
        return await self._stages.analysis(since_s)

    async def rollout_status(self) -> Mapping[str, Any]:
        return await self._stages.rollout_status()

    async def metrics(self) -> str:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        pages = await fetch(f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in nodes)
        return merge(pages)


def _token_key(args: AppArgs) -> SigningKey:
    """The key of the settings, which must be there; else the one in the data folder, made when it is not."""
    if args.token_key_file is None:
        return load_or_create_key(project_path(args.data_dir) / "token.key")
    path = project_path(args.token_key_file)
    if not path.exists():
        raise ConfigurationError(f"token_key_file {path} does not exist; put the same 32 random bytes on every node")
    return load_or_create_key(path)


def _calibration(args: AppArgs, catalogue: Catalogue) -> Calibration | None:
    if args.calibration_file is None:
        return None
    return load_calibration(project_path(args.calibration_file), model=args.model.id, catalogue=catalogue)


def _log_with_serve() -> None:
    """Our loggers write where Serve's does: its files, with the request id in each line."""
    serves = logging.getLogger("ray.serve")
    for name in ("graph", "deployments"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = serves.handlers, False
        logger.setLevel(serves.level)

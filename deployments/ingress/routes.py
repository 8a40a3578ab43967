"""The HTTP surface: every route, its order of checks, and the two error paths. Works over any ASGI server.

What is not listed here does not exist: the engine's own HTTP application is never mounted.
"""

import logging
import random
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.controls.catalogue import describe
from deployments.controls.preview import preview
from deployments.feedback.contracts import MetricContract
from deployments.feedback.tokens import SigningKey
from deployments.ingress.auth import KeyRing
from deployments.ingress.bodies import parse, read_json
from deployments.ingress.feedback import FeedbackService
from deployments.ingress.feedback_routes import AnalysedLog, feedback_routes
from deployments.ingress.langfuse_scores import LangfuseScores
from deployments.ingress.openai_schema import ChatRequest
from deployments.ingress.planning import Caller, ServiceFacts, compile_request
from deployments.ingress.privacy import TextPolicy
from deployments.ingress.quality_tally import QualityTally
from deployments.ingress.responses import json_response, refusal
from deployments.ingress.rollout_routes import rollout_routes
from deployments.ingress.service import ChatService, StreamCut
from deployments.ingress.validation import ValidationService
from deployments.ingress.validation_schema import parse_validation
from deployments.rollout.arms import ARMS
from graph.contracts import EngineInfo
from graph.contracts import Message as Turn
from graph.errors import InternalError, InvalidRequest, MethodNotAllowed, NotFound, RheostatError
from graph.ids import new_id

logger = logging.getLogger(__name__)
_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,128}$")
_STARTED = int(time.time())
ARM_HEADER = "x-rheostat-arm"


class Backend(AnalysedLog, Protocol):
    """What the routes need besides the chat service: the log, the engine, and the configuration."""

    def facts(self) -> ServiceFacts: ...
    async def engine_info(self) -> EngineInfo: ...
    async def check_ready(self) -> None: ...
    async def rollout_status(self) -> Mapping[str, Any]: ...
    async def metrics(self) -> str: ...


def build_app(
    service: ChatService,
    validation: ValidationService,
    tally: QualityTally,
    backend: Backend,
    keys: KeyRing,
    token_key: SigningKey,
    contracts: Mapping[str, MetricContract],
    registry: Path,
    *,
    texts: TextPolicy = "keep",
    cors_origins: tuple[str, ...] = (),
    tells_request_id: bool = True,
) -> FastAPI:
    """The whole HTTP application.

    Args:
        tally: Fed by ``service``.
        contracts: The metrics that feedback may speak of.
        registry: Folder of the adapters' registry; need not exist.
        texts: What of the texts of feedback is stored.
        tells_request_id: Put ``x-request-id`` on every answer; False where the server around it does so already.
    """
    app = FastAPI(title="Rheostat", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)

    async def read_body(request: Request) -> Any:
        return await read_json(request.stream(), request.headers, backend.facts().tunables.max_body_bytes)

    feedback = FeedbackService(backend, keys, token_key, contracts, texts)
    scores = LangfuseScores(feedback, backend, contracts, texts)
    app.include_router(feedback_routes(backend, feedback, scores, keys, contracts, read_body))
    app.include_router(rollout_routes(registry, backend.rollout_status, keys, read_body))
    app.include_router(_routes(service, validation, tally, backend, keys, read_body))
    rng = random.Random()

    async def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, RheostatError)
        return refusal(error, rng)

    async def no_route(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path, method = request.url.path[:200], request.method
        if error.status_code == 405:
            allowed = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
            refused: RheostatError = MethodNotAllowed(f"{path} does not take {method}; it takes {allowed}.")
            response = await refuse(request, refused)
            response.headers["Allow"] = allowed
            return response
        return await refuse(request, NotFound(f"There is nothing at {path!r}.", code="unknown_url"))

    app.add_exception_handler(RheostatError, refuse)
    app.add_exception_handler(HTTPException, no_route)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type", "x-request-id", "x-request-timeout-seconds"],
            expose_headers=["x-request-id", "retry-after", "retry-after-ms", "x-should-retry"],
        )
    app.add_middleware(RequestIds, tells=tells_request_id)
    return app


def _routes(
    service: ChatService,
    validation: ValidationService,
    tally: QualityTally,
    backend: Backend,
    keys: KeyRing,
    read_body: Callable[[Request], Awaitable[Any]],
) -> APIRouter:
    router = APIRouter()

    def caller_of(request: Request) -> Caller:
        tenant, priority = keys.identify(request.headers.get("authorization"))
        return Caller(tenant, request.state.request_id, priority=priority)

    def with_arm(caller: Caller, request: Request) -> Caller:
        arm = request.headers.get(ARM_HEADER)
        if arm is None:
            return caller
        keys.check_admin(caller.tenant, request.client.host if request.client else None)
        if arm not in ARMS:
            raise InvalidRequest(
                f"{ARM_HEADER} is {arm[:40]!r}; it must be one of: {', '.join(ARMS)}, or left out.", param=ARM_HEADER
            )
        return replace(caller, arm=arm)

    @router.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        caller = with_arm(caller_of(request), request)
        asked = parse(ChatRequest, await read_body(request))
        timeout_s = _timeout(request.headers)
        if not asked.stream:
            return json_response(await service.complete(asked, caller, timeout_s))
        frames = service.stream(asked, caller, timeout_s)
        # Peeked, because an error before the first byte can still become a status.
        return EventStream(await anext(frames), frames)

    @router.post("/v1/validate")
    async def validate(request: Request) -> Response:
        caller = caller_of(request)
        asked = parse_validation(await read_body(request))
        return json_response(await validation.answer(asked, caller, _timeout(request.headers)))

    @router.get("/v1/quality")
    async def quality(request: Request) -> Response:
        tenant = caller_of(request).tenant
        return json_response(tally.report(None if keys.sees_all(tenant) else tenant))

    @router.get("/v1/models")
    async def models(request: Request) -> Response:
        caller_of(request)
        return json_response({"object": "list", "data": [_model(await backend.engine_info())]})

    @router.get("/v1/models/{model_id:path}")
    async def model(request: Request, model_id: str) -> Response:
        caller_of(request)
        engine = await backend.engine_info()
        if model_id != engine.model:
            raise NotFound(
                f"The model {model_id[:80]!r} is not served here; this service has {engine.model!r}.",
                param="model",
                code="model_not_found",
            )
        return json_response(_model(engine))

    @router.get("/v1/controls")
    async def controls(request: Request) -> Response:
        caller_of(request)
        facts = backend.facts()
        return json_response(describe(facts.catalogue, facts.capabilities, facts.calibration))

    @router.post("/v1/controls/preview")
    async def controls_preview(request: Request) -> Response:
        caller_of(request)
        value = await read_body(request)
        engine = await backend.engine_info()
        if isinstance(value, dict):
            # A preview needs neither; a whole chat request previews as it is.
            value = {"model": engine.model, "messages": [{"role": "user", "content": "…"}], **value}
        asked = parse(ChatRequest, value)
        turns = tuple(Turn(message.role, message.text) for message in asked.messages)
        facts = backend.facts()
        return json_response(preview(compile_request(asked, turns, facts, engine), facts.calibration))

    @router.get("/health")
    async def health() -> Response:
        return Response(status_code=200)

    @router.get("/ready")
    async def ready() -> Response:
        await backend.check_ready()
        return json_response({"status": "ready"})

    @router.get("/metrics")
    async def metrics(request: Request) -> Response:
        caller_of(request)
        return Response(await backend.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


class EventStream(Response):
    """Frames as they come; a StreamCut leaves the connection without its terminating chunk."""

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes, None]) -> None:
        super().__init__(
            media_type="text/event-stream", headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        )
        del self.headers["content-length"]
        self._first = first
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._rest) as rest:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
            async for piece in rest:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class RequestIds:
    """Gives each request its id, on every answer, and turns what nobody caught into a 500 with that id.

    A client's own id is echoed and logged when it is harmless; it is never used inside.
    """

    def __init__(self, app: ASGIApp, tells: bool) -> None:
        self._app = app
        self._tells = tells

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        text = given.decode("latin-1")
        request_id = text if _REQUEST_ID.fullmatch(text) else new_id()
        scope.setdefault("state", {})["request_id"] = request_id
        has_started = False

        async def send_with_id(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                if self._tells:
                    message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except StreamCut:
            raise
        except Exception:
            logger.exception("request %s failed", request_id)
            if has_started:
                raise
            error = InternalError(f"The service failed on this request; quote {request_id} when you report it.")
            response = refusal(error, random.Random())
            await response(scope, receive, send_with_id)


def _model(engine: EngineInfo) -> dict[str, Any]:
    """``root`` is there for vLLM's benchmark tool, which fails without it."""
    return {
        "id": engine.model,
        "object": "model",
        "created": _STARTED,
        "owned_by": "rheostat",
        "root": engine.model,
        "parent": None,
        "max_model_len": engine.max_model_len,
    }


def _timeout(headers: Mapping[str, str]) -> float | None:
    """A client's own time limit. Ray Serve answers the same header itself, in plain text: we must be first."""
    try:
        seconds = float(headers.get("x-request-timeout-seconds", ""))
    except ValueError:
        return None
    return max(seconds / 2, seconds - 0.25) if seconds > 0 else None

"""The admin routes of a rollout: look at it, promote, roll back, give a canary traffic. HTTP only.

They work on the registry's folder itself, so that people can act also while the Rollout deployment does not.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from deployments.ingress.auth import KeyRing
from deployments.ingress.bodies import parse
from deployments.ingress.responses import json_response
from deployments.rollout.aliases import MAX_REASON_CHARS
from deployments.rollout.operations import Done, Operations
from graph.errors import InternalError, RheostatError, Unavailable

STATUS_TIMEOUT_S = 2.0
"""For what the Rollout deployment counted; the rest of the status comes without it."""
MAX_WAIT_S = 60.0
CanaryStatus = Callable[[], Awaitable[Mapping[str, Any]]]

Adapter = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""The only form that ever reaches a path; the registry checks it again. Here ``$`` is the very end of the text."""


class _Change(BaseModel):
    """What every change may say."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    expected_version: Annotated[int, Field(ge=0)] | None = None
    """Of the aliases that were looked at; if another change came since, 409. None: whatever is there now."""
    reason: Annotated[str, Field(max_length=MAX_REASON_CHARS)] = ""
    timeout_s: Annotated[float, Field(ge=0, le=MAX_WAIT_S)] = 10.0
    """How long to wait for the replicas before 202."""


class Promotion(_Change):
    """Body of ``POST /v1/rollout/promote``."""

    adapter: Adapter
    expected_version: Annotated[int, Field(ge=0)]  # a promotion must know what it replaces


class RollBack(_Change):
    """Body of ``POST /v1/rollout/rollback``."""


class CanaryShare(_Change):
    """Body of ``POST /v1/rollout/canary``."""

    adapter: Adapter | None
    """null: take the challenger away."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.0


def rollout_routes(
    root: Path, canary_status: CanaryStatus, keys: KeyRing, read_body: Callable[[Request], Awaitable[Any]]
) -> APIRouter:
    """All routes about the rollout. Each is an admin's; without keys, for callers on this machine.

    A change answers 200 when every live replica serves it, and 202 with who is missing when not within ``timeout_s``:
    it is made then too, and the rest follows.

    Args:
        root: The registry's folder; need not exist yet.
        canary_status: What the Rollout deployment counted; may raise or hang.
        read_body: The request's body as parsed JSON, bounded.
    """
    router = APIRouter()

    def admin_of(request: Request) -> str:
        tenant = keys.tenant_of(request.headers.get("authorization"))
        keys.check_admin(tenant, request.client.host if request.client else None)
        return tenant

    async def change(act: Callable[[Operations], Done], by: str, timeout_s: float) -> Response:
        operations = Operations(root, f"http {by}", timeout_s)
        try:
            # In a thread of its own: the wait may take a minute, and the disk may hang.
            done = await asyncio.to_thread(act, operations)
        except InternalError as error:
            raise _damaged(error) from error
        except OSError as error:
            raise Unavailable(f"The registry cannot be written: {error.strerror or error}. Try again soon.") from error
        return json_response(done.as_json(), 200 if done.agreement.agreed else 202)

    @router.get("/v1/rollout")
    async def status(request: Request) -> Response:
        admin_of(request)
        told, canary = await asyncio.gather(asyncio.to_thread(_registry_status, root), _counted(canary_status))
        return json_response({**told, "watch": canary})

    @router.post("/v1/rollout/promote")
    async def promote(request: Request) -> Response:
        by = admin_of(request)
        asked = parse(Promotion, await read_body(request))
        return await change(
            lambda do: do.promote(asked.adapter, expected_version=asked.expected_version, reason=asked.reason),
            by,
            asked.timeout_s,
        )

    @router.post("/v1/rollout/rollback")
    async def roll_back(request: Request) -> Response:
        by = admin_of(request)
        asked = parse(RollBack, await read_body(request))
        return await change(
            lambda do: do.roll_back(expected_version=asked.expected_version, reason=asked.reason), by, asked.timeout_s
        )

    @router.post("/v1/rollout/canary")
    async def canary(request: Request) -> Response:
        by = admin_of(request)
        asked = parse(CanaryShare, await read_body(request))
        decided: dict[str, Any] = {"expected_version": asked.expected_version, "reason": asked.reason}
        adapter = asked.adapter
        if adapter is None:
            return await change(lambda do: do.clear(**decided), by, asked.timeout_s)
        return await change(lambda do: do.canary(adapter, asked.share, **decided), by, asked.timeout_s)

    return router


def _registry_status(root: Path) -> dict[str, Any]:
    try:
        return {**Operations(root, "", 0).status(), "problem": None}
    except (RheostatError, OSError) as error:
        return {"problem": error.message if isinstance(error, RheostatError) else str(error)}


async def _counted(canary_status: CanaryStatus) -> Mapping[str, Any]:
    try:
        async with asyncio.timeout(STATUS_TIMEOUT_S):
            return await canary_status()
    except TimeoutError:
        return {"problem": f"The Rollout deployment did not answer within {STATUS_TIMEOUT_S:g} s; it judges no canary."}
    except RheostatError as error:
        return {"problem": f"The Rollout deployment does not answer: {error.message}"}


def _damaged(error: InternalError) -> InternalError:
    """Admins are told: they alone can mend it."""
    return InternalError(f"Nothing was changed. {error.message}", code="registry_damaged")

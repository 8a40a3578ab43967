"""Ray Serve's proxy answers some failures itself, in plain text: here they get our error envelope too.

Set where Ray starts: ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=deployments.ingress.proxy_errors:middlewares``
(``make serve`` does). Serve's proxy then wraps itself in what ``middlewares`` returns. Imports no Ray.
"""

import random

import orjson
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.ingress.envelopes import error_body, error_headers
from graph.errors import DeadlineExceeded, InternalError, NotFound, Overloaded, RheostatError, Unavailable

CALLBACK = "deployments.ingress.proxy_errors:middlewares"


def middlewares() -> list[Middleware]:
    """What Serve's proxy asks for."""
    return [Middleware(ErrorEnvelopes)]


class ErrorEnvelopes:
    """Puts an envelope in the place of a plain-text error; everything else passes untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused: RheostatError | None = None
        request_id: list[tuple[bytes, bytes]] = []

        async def send_enveloped(message: Message) -> None:
            nonlocal refused, request_id
            if message["type"] == "http.response.start" and _is_plain_error(message):
                refused = error_of(message["status"])
                request_id = [header for header in message["headers"] if header[0].lower() == b"x-request-id"]
            elif refused is None:
                await send(message)
            elif not message.get("more_body"):
                await _send_error(refused, request_id, send)

        await self._app(scope, receive, send_enveloped)


def error_of(status: int) -> RheostatError:
    """What a status of the proxy's own means."""
    match status:
        case 404:
            return NotFound("There is nothing at this path.", code="unknown_url")
        case 408:
            # 504, for SDKs repeat a 408 by themselves, and each repetition would cost a whole generation.
            return DeadlineExceeded("The answer was not whole before the deadline of this request; allow more time.")
        case 429:
            return Overloaded("The service has too many requests; try again in a few seconds.")
        case 503:
            return Unavailable("The service is not ready; try again in a few seconds.", code="not_ready")
        case _:
            return InternalError("The service failed on this request; quote its x-request-id when you report it.")


def _is_plain_error(message: Message) -> bool:
    headers: dict[bytes, bytes] = dict(message.get("headers") or ())
    status: int = message["status"]
    return status >= 400 and headers.get(b"content-type", b"text/plain").startswith(b"text/plain")


async def _send_error(error: RheostatError, request_id: list[tuple[bytes, bytes]], send: Send) -> None:
    body = orjson.dumps(error_body(error))
    headers = [(name.lower().encode(), value.encode()) for name, value in error_headers(error, random.Random()).items()]
    headers += [*request_id, (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": error.http_status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

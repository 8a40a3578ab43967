"""Plain-text errors of the proxy become envelopes; what is ours passes untouched."""

from collections.abc import Awaitable, Callable

import httpx
import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from deployments.ingress.proxy_errors import ErrorEnvelopes

PARTS = (b"one", b"two")


async def through(response: Response) -> httpx.Response:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(ErrorEnvelopes(response)), base_url="http://x"
    ) as client:
        return await client.get("/")


@pytest.mark.parametrize(
    ("status", "becomes", "code"),
    [
        (404, 404, "unknown_url"),
        (408, 504, "deadline_exceeded"),
        (429, 429, "slow_down"),
        (500, 500, "internal_error"),
        (503, 503, "not_ready"),
    ],
)
async def test_a_plain_text_error_gets_an_envelope(status: int, becomes: int, code: str) -> None:
    plain = PlainTextResponse("Request 123 timed out after 1s, inside told.", status, {"x-request-id": "r1"})
    answer = await through(plain)
    assert answer.headers["x-request-id"] == "r1"
    assert answer.status_code == becomes
    assert answer.json()["error"]["code"] == code
    assert "inside" not in answer.text
    assert ("retry-after" in answer.headers) == (becomes in (429, 503))


@pytest.mark.parametrize(
    "make",
    [
        lambda: PlainTextResponse("fine"),
        lambda: JSONResponse({"error": {"message": "ours"}}, 400),
        lambda: StreamingResponse(iter(PARTS), media_type="text/event-stream"),
    ],
    ids=["a plain success", "our own error", "a stream"],
)
async def test_everything_else_passes_untouched(make: Callable[[], Callable[..., Awaitable[None]]]) -> None:
    expected = make()
    answer = await through(make())  # type: ignore[arg-type]
    assert answer.status_code == expected.status_code  # type: ignore[attr-defined]
    assert answer.content in (b"fine", b'{"error":{"message":"ours"}}', b"onetwo")

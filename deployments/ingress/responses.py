"""Values and refusals as HTTP responses."""

import random
from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import Response

from deployments.ingress.envelopes import error_body, error_headers
from graph.errors import RheostatError


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``value`` as a JSON response."""
    return Response(orjson.dumps(value), status, dict(headers or {}), "application/json")


def refusal(error: RheostatError, rng: random.Random) -> Response:
    """``error`` in OpenAI's envelope, with the headers that say whether and when to come back."""
    return json_response(error_body(error), error.http_status, error_headers(error, rng))

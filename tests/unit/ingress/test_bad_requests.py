"""Every faulty request gets its 4xx, in OpenAI's envelope, with the field and what is allowed."""

import hashlib
from pathlib import Path

import orjson
import pytest
from harness import running

from deployments.ingress.auth import KeyRing
from tests.bad_feedback import FEEDBACK_TABLE
from tests.bad_input import TABLE, Bad, problems
from tests.bad_validation import VALIDATION_TABLE

KEYS = KeyRing(
    {hashlib.sha256(b"rk-test").hexdigest(): "acme", hashlib.sha256(b"rk-umbra-key").hexdigest(): "umbra"}, ["acme"]
)


@pytest.mark.parametrize("bad", [*TABLE, *FEEDBACK_TABLE, *VALIDATION_TABLE], ids=lambda bad: bad.name)
async def test_a_faulty_request_is_refused_by_name(bad: Bad, tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        content = bad.raw if bad.raw is not None else orjson.dumps(bad.body) if bad.body is not None else None
        headers = {"content-type": "application/json", "authorization": "Bearer rk-test", **bad.headers}
        response = await client.request(bad.method, bad.path, content=content, headers=headers)
        assert problems(bad, response.status_code, response.headers, response.json()) == []
        assert service.rows == []
        assert service.engine.load().running_requests == 0

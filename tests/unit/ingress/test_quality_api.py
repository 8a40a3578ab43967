"""``GET /v1/quality``: the answers of this replica, to each tenant his own."""

import hashlib
import time
from pathlib import Path
from typing import Any

import httpx
from harness import running

from deployments.ingress.auth import KeyRing
from graph.errors import Unavailable
from tests.cluster import chat

CHAT = "/v1/chat/completions"
QUALITY = "/v1/quality"
CARD = "4111 1111 1111 1111"
KEYS = KeyRing(
    {hashlib.sha256(f"rk-{tenant}".encode()).hexdigest(): tenant for tenant in ("acme", "umbra", "boss")}, ["boss"]
)
SCRIPT = {
    "first_token_s": 0,
    "token_s": 0,
    "max_model_len": 4096,
    "script": {
        "how do I pay": f"You can pay with the card {CARD} at the desk, and then go in.",
        "hang": {"text": "never", "fail_after_tokens": 0},
    },
}


def key_of(tenant: str) -> dict[str, str]:
    return {"authorization": f"Bearer rk-{tenant}"}


async def quality(client: httpx.AsyncClient, tenant: str | None = None) -> dict[str, Any]:
    response = await client.get(QUALITY, headers=key_of(tenant) if tenant else {})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def test_the_answers_are_counted_whole_and_streamed_by_choice(tmp_path: Path) -> None:
    started = time.time()
    async with running(tmp_path, simulated=SCRIPT) as (client, _):
        await client.post(CHAT, json=chat(n=2))
        await client.post(CHAT, json=chat(stream=True))
        paid = (await client.post(CHAT, json=chat("how do I pay"))).json()["rheostat"]["quality"]
        body = await quality(client)
    assert set(body) == {"object", "scope", "since", "answers", "recent", "total"}
    assert (body["object"], body["scope"], body["answers"]) == ("quality", "replica", 4)
    assert int(started) <= body["since"] <= time.time()
    assert body["recent"] == body["total"]
    assert (body["total"]["outcomes"]["pass"], body["total"]["outcomes"]["fixed"]) == (3, 1)
    assert body["total"]["findings"] == {"pii": 1}
    assert body["total"]["score"] == round((3 + paid["score"]) / 4, 4)
    assert body["total"]["scores"]["safety"] == round((3 + paid["scores"]["safety"]) / 4, 4)


async def test_what_was_no_whole_answer_is_not_counted(tmp_path: Path) -> None:
    async with running(tmp_path, simulated=SCRIPT) as (client, _):
        assert (await client.post(CHAT, json=chat("hang"))).status_code == 503
        assert (await client.post(CHAT, json=chat(model="gpt-9"))).status_code == 404
        assert (await quality(client))["answers"] == 0


async def test_an_answer_that_nobody_judged_is_counted_as_that(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        service.judge_error = Unavailable("The validator is not available just now.")
        await client.post(CHAT, json=chat())
        total = (await quality(client))["total"]
    assert (total["outcomes"]["unvalidated"], total["score"], total["scores"]) == (1, None, {})


async def test_a_tenant_sees_his_own_and_an_admin_sees_all(tmp_path: Path) -> None:
    async with running(tmp_path, simulated=SCRIPT, keys=KEYS) as (client, _):
        await client.post(CHAT, json=chat(n=3), headers=key_of("acme"))
        await client.post(CHAT, json=chat("how do I pay"), headers=key_of("umbra"))
        assert (await client.get(QUALITY)).status_code == 401
        seen = {tenant: await quality(client, tenant) for tenant in ("acme", "umbra", "boss")}
    assert {tenant: body["answers"] for tenant, body in seen.items()} == {"acme": 3, "umbra": 1, "boss": 4}
    assert seen["acme"]["recent"]["findings"] == {}
    assert seen["umbra"]["recent"]["outcomes"]["fixed"] == 1


async def test_without_keys_everybody_sees_all(tmp_path: Path) -> None:
    async with running(tmp_path, client_host="10.0.0.1") as (client, _):
        await client.post(CHAT, json=chat())
        assert (await quality(client))["answers"] == 1

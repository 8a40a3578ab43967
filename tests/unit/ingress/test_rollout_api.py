import asyncio
import hashlib
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

sys.path.insert(0, str(Path(__file__).parent.parent / "rollout"))

from rollout_support import Rig

from deployments.ingress import rollout_routes as routes
from deployments.ingress.auth import KeyRing
from deployments.ingress.bodies import read_json
from deployments.ingress.responses import refusal
from deployments.rollout.adapter_store import BASE
from deployments.rollout.aliases import ALIASES
from deployments.rollout.replicas import ReplicaState, write_state
from graph.errors import RheostatError, Unavailable

ADMIN, USER = "rk-admin", "rk-user"
KEYS = KeyRing({hashlib.sha256(key.encode()).hexdigest(): key[3:] for key in (ADMIN, USER)}, ("admin",))


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path)


async def counted():
    return {"canary": None, "problem": None}


@asynccontextmanager
async def serving(rig, canary_status=counted, keys=None, client_host="127.0.0.1"):
    import random

    app = FastAPI()

    async def read_body(request):
        return await read_json(request.stream(), request.headers, 1 << 20)

    async def refuse(request, error):
        return refusal(error, random.Random(1))

    app.include_router(routes.rollout_routes(rig.root, canary_status, keys or KeyRing(None), read_body))
    app.add_exception_handler(RheostatError, refuse)
    transport = httpx.ASGITransport(app, client=(client_host, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://rheostat") as client:
        yield client


def message(response):
    return response.json()["error"]["message"]


async def test_a_rollout_by_http_from_canary_to_promotion_and_back(rig):
    adapter = rig.register()
    async with serving(rig) as client:
        response = await client.post("/v1/rollout/canary", json={"adapter": adapter, "share": 0.25})
        assert (response.status_code, response.json()["share"]) == (200, 0.25)
        rig.passed(adapter)
        status = (await client.get("/v1/rollout")).json()
        assert (status["challenger"], status["challenger_gate"]["passed"], status["watch"]["canary"]) == (
            adapter,
            True,
            None,
        )
        body = {"adapter": adapter, "expected_version": status["version"], "reason": "better"}
        response = await client.post("/v1/rollout/promote", json=body)
        assert (response.status_code, response.json()["champion"]) == (200, adapter)
        response = await client.post("/v1/rollout/rollback", json={})
        assert (response.status_code, response.json()["champion"]) == (200, BASE)
        response = await client.post("/v1/rollout/rollback", json={})
        assert (response.status_code, "rolled back already" in message(response)) == (409, True)
    assert [change.by for change in rig.aliases.history] == ["http public"] * 4


async def test_a_challenger_is_taken_away_by_null(rig):
    rig.canary()
    async with serving(rig) as client:
        response = await client.post("/v1/rollout/canary", json={"adapter": None})
        assert (response.status_code, response.json()["challenger"]) == (200, None)


async def test_a_stale_version_is_409_and_changes_nothing(rig):
    adapter = rig.canary()
    version = rig.aliases.version
    async with serving(rig) as client:
        body = {"adapter": adapter, "expected_version": version - 1}
        response = await client.post("/v1/rollout/promote", json=body)
        assert (response.status_code, "another one came first" in message(response)) == (409, True)
        assert response.headers["x-should-retry"] == "false"
    assert rig.aliases.version == version


async def test_a_promotion_without_a_passed_gate_is_409(rig):
    adapter = rig.canary(gated=False)
    async with serving(rig) as client:
        body = {"adapter": adapter, "expected_version": rig.aliases.version}
        response = await client.post("/v1/rollout/promote", json=body)
        assert (response.status_code, "python -m training gate" in message(response)) == (409, True)


async def test_until_every_replica_serves_it_the_answer_is_202_and_says_who_is_missing(rig):
    rig.promoted()
    write_state(rig.root, ReplicaState("ingress-1", "ingress", 1, time.time_ns() // 1000))
    async with serving(rig) as client:
        response = await client.post("/v1/rollout/rollback", json={"timeout_s": 0})
        assert (response.status_code, response.json()["agreed"]) == (202, False)
        assert response.json()["waiting"] == ["ingress ingress-1: still at version 1"]
        assert (await client.get("/v1/rollout")).json()["agreed"] is False
    assert rig.aliases.champion == BASE


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("promote", {"adapter": "0" * 64}, "expected_version"),
        ("promote", {"adapter": "../" * 21 + "a", "expected_version": 0}, "adapter"),
        ("promote", {"adapter": "0" * 63 + "/", "expected_version": 0}, "adapter"),
        ("promote", {"adapter": "0" * 64 + "\n", "expected_version": 0}, "adapter"),
        ("promote", {"adapter": BASE, "expected_version": 0}, "adapter"),
        ("promote", {"adapter": "0" * 64, "expected_version": "0"}, "expected_version"),
        ("promote", {"adapter": "0" * 64, "expected_version": 0, "ungated": True}, "ungated"),
        ("canary", {"adapter": "0" * 64, "share": 1.5}, "share"),
        ("canary", {"adapter": "0" * 64, "share": "0.5"}, "share"),
        ("canary", {"share": 0.5}, "adapter"),
        ("rollback", {"expected_version": -1}, "expected_version"),
        ("rollback", {"timeout_s": 1e9}, "timeout_s"),
        ("rollback", {"reason": "x" * 2001}, "reason"),
        ("rollback", {"to": "base"}, "to"),
        ("rollback", [], None),
    ],
)
async def test_bodies_are_strict(rig, path, body, param):
    async with serving(rig) as client:
        response = await client.post(f"/v1/rollout/{path}", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert not (rig.root / ALIASES).exists()


async def test_an_adapter_that_is_not_registered_is_404(rig):
    async with serving(rig) as client:
        response = await client.post("/v1/rollout/canary", json={"adapter": "0" * 64, "share": 0.1})
    assert (response.status_code, "is not registered" in message(response)) == (404, True)


@pytest.mark.parametrize(("key", "status"), [(None, 401), (USER, 403), (ADMIN, 200)])
async def test_only_admins_may_look_and_act(rig, key, status):
    rig.promoted()
    version = rig.aliases.version
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    async with serving(rig, keys=KEYS) as client:
        assert (await client.get("/v1/rollout", headers=headers)).status_code == status
        for path in ("promote", "rollback", "canary"):
            if status != 200:
                response = await client.post(f"/v1/rollout/{path}", json={}, headers=headers)
                assert response.status_code == status
        if status == 200:
            assert (await client.post("/v1/rollout/rollback", json={}, headers=headers)).status_code == 200
            assert rig.aliases.history[-1].by == "http admin"
        else:
            assert rig.aliases.version == version


async def test_without_keys_only_callers_on_this_machine_may(rig):
    async with serving(rig, client_host="10.0.0.7") as client:
        assert (await client.get("/v1/rollout")).status_code == 403
        assert (await client.post("/v1/rollout/rollback", json={})).status_code == 403


async def test_a_rollout_that_hangs_or_is_gone_leaves_the_rest_of_the_status(rig, monkeypatch):
    monkeypatch.setattr(routes, "STATUS_TIMEOUT_S", 0.01)

    async def gone():
        raise Unavailable("The rollout is not available just now.")

    for broken, said in ((lambda: asyncio.sleep(60), "did not answer"), (gone, "not available")):
        async with serving(rig, broken) as client:
            told = (await client.get("/v1/rollout")).json()
        assert said in told["watch"]["problem"]
        assert (told["champion"], told["problem"]) == (BASE, None)


async def test_damaged_aliases_are_told_to_admins(rig):
    rig.promoted()
    (rig.root / ALIASES).write_text("{}")
    async with serving(rig) as client:
        assert "cannot be trusted" in (await client.get("/v1/rollout")).json()["problem"]
        response = await client.post("/v1/rollout/rollback", json={})
        assert (response.status_code, response.json()["error"]["code"]) == (500, "registry_damaged")
        assert "Nothing was changed" in message(response)

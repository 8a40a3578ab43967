"""Which arm of a canary answers over HTTP, and where the answer, its token, its row and its feedback say so."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from harness import MODEL, Service, running

from deployments.feedback.directory import read_log
from deployments.feedback.tokens import verify
from deployments.ingress.auth import KeyRing
from deployments.rollout.aliases import Aliases
from deployments.rollout.arms import assign_arm, unit_of
from graph.contracts import Message
from tests.cluster import chat

CHAT = "/v1/chat/completions"
CHAMPION, CHALLENGER = "c" * 64, "d" * 64
KEYS = KeyRing({hashlib.sha256(f"rk-{name}".encode()).hexdigest(): name for name in ("acme", "umbra")}, ("acme",))
ACME = {"authorization": "Bearer rk-acme"}
UMBRA = {"authorization": "Bearer rk-umbra"}
KEY = "AKIA" + "IOSFODNN7EXAMPLQ"


def arm(name: str, **headers: str) -> dict[str, str]:
    return {"x-rheostat-arm": name, **headers}


async def canary(service: Service, share: float = 0.0, champion: str = CHAMPION) -> Aliases:
    """Both adapters are loaded, and the challenger has this share."""
    for adapter in (CHAMPION, CHALLENGER):
        await service.engine.add_adapter(adapter, f"/adapters/{adapter}")
    service.aliases = Aliases(3, champion, CHALLENGER, None, share)
    return service.aliases


async def ask(client: httpx.AsyncClient, headers: Mapping[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    response = await client.post(CHAT, json=chat(**fields), headers=headers or {})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def who(body: Mapping[str, Any]) -> tuple[str, str | None]:
    return body["rheostat"]["arm"], body["rheostat"]["adapter"]


async def refused(client: httpx.AsyncClient, headers: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
    response = await client.post(CHAT, json=chat(), headers=headers)
    return response.status_code, response.json()["error"]


@pytest.mark.parametrize(("name", "adapter"), [("champion", CHAMPION), ("challenger", CHALLENGER)])
@pytest.mark.parametrize("share", [0.0, 1.0])
async def test_an_admin_gets_the_arm_that_it_names_whatever_the_share(
    name: str, adapter: str, share: float, tmp_path: Path
) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        await canary(service, share)
        assert who(await ask(client, arm(name, **ACME))) == (name, adapter)


async def test_where_there_are_no_keys_anyone_on_this_machine_may_name_an_arm(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        await canary(service)
        assert who(await ask(client, arm("challenger"))) == ("challenger", CHALLENGER)
    async with running(tmp_path / "else", client_host="10.0.0.7") as (client, service):
        await canary(service)
        status, error = await refused(client, arm("challenger"))
        assert (status, error["code"]) == (403, "permission_denied")
        assert who(await ask(client)) == ("champion", CHAMPION)


async def test_another_tenant_may_not_name_an_arm_but_ask(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        await canary(service)
        status, error = await refused(client, arm("challenger", **UMBRA))
        assert (status, "'umbra' is no admin" in error["message"]) == (403, True)
        status, _ = await refused(client, arm("champion"))
        assert status == 401
        assert who(await ask(client, UMBRA)) == ("champion", CHAMPION)
    assert [row["tenant"] for row in read_log(tmp_path)] == ["umbra"]


@pytest.mark.parametrize("name", ["", "Challenger", "previous", "base", CHALLENGER, "../../etc", "x" * 9000])
async def test_an_arm_that_does_not_exist_is_refused_with_those_that_do(name: str, tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        await canary(service)
        status, error = await refused(client, arm(name))
    assert (status, error["param"]) == (400, "x-rheostat-arm")
    assert f"{name[:40]!r}; it must be one of: champion, challenger" in error["message"]
    assert len(error["message"]) < 200
    assert list(read_log(tmp_path)) == []


async def test_the_challenger_where_there_is_none_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        status, error = await refused(client, arm("challenger"))
        assert (status, error["param"]) == (400, "x-rheostat-arm")
        assert "There is no challenger now" in error["message"]
        assert who(await ask(client, arm("champion"))) == ("champion", None)


async def test_without_a_registry_the_base_model_answers_as_champion(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        assert who(await ask(client)) == ("champion", None)
    [row] = read_log(tmp_path)
    assert (row["arm"], row["adapter"]) == ("champion", None)


async def test_answer_token_row_and_feedback_name_the_same_adapter_and_arm(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        await canary(service, share=1.0)
        said = (await ask(client, user="u-7"))["rheostat"]
        claims = verify(said["feedback_token"], {service.token_key.key_id: service.token_key.secret}, 1)
        thumb = {"kind": "thumb", "value": True, "feedback_token": said["feedback_token"]}
        assert (await client.post("/v1/feedback", json=thumb)).status_code == 200
    expected = (CHALLENGER, "challenger")
    assert (said["adapter"], said["arm"]) == expected
    assert (claims.adapter, claims.arm) == expected
    rows = {row["kind"]: row for row in read_log(tmp_path)}
    assert set(rows) == {"generation", "thumb"}
    for row in rows.values():
        assert (row["adapter"], row["arm"]) == expected


async def test_feedback_without_a_token_takes_them_from_the_log(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        await canary(service)
        said = (await ask(client, arm("challenger", **ACME)))["rheostat"]
        thumb = {"kind": "thumb", "value": False, "generation_id": said["generation_id"]}
        response = await client.post("/v1/feedback", json=thumb, headers=ACME)
        assert response.status_code == 200, response.text
    assert {(row["adapter"], row["arm"]) for row in read_log(tmp_path)} == {(CHALLENGER, "challenger")}


async def test_a_stream_says_it_in_its_last_chunk(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        await canary(service)
        response = await client.post(CHAT, json=chat(stream=True), headers=arm("challenger"))
        frames = [line[6:] for line in response.text.splitlines() if line.startswith("data: {")]
    last = json.loads(frames[-1])
    assert who(last) == ("challenger", CHALLENGER)
    assert all("rheostat" not in json.loads(frame) for frame in frames[:-1])


async def test_every_choice_and_every_draft_is_of_one_arm(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        await canary(service, share=1.0)
        choices = (await ask(client, n=3))["choices"]
        best = await ask(client, arm("challenger"), n=1, quality={"best_of": 2})
    assert {(choice["rheostat"]["arm"], choice["rheostat"]["adapter"]) for choice in choices} == {
        ("challenger", CHALLENGER)
    }
    assert (who(best), best["rheostat"]["best_of"]["asked"]) == (("challenger", CHALLENGER), 2)
    assert {(row["arm"], row["adapter"]) for row in read_log(tmp_path)} == {("challenger", CHALLENGER)}


async def test_what_was_asked_for_by_arm_is_marked_as_the_gates(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        await canary(service, share=1.0)
        for headers in (arm("champion"), arm("challenger"), {}):
            await ask(client, headers)
    rows = [(row["arm"], json.loads(row["extra"]).get("purpose")) for row in read_log(tmp_path)]
    assert rows == [("champion", "gate"), ("challenger", "gate"), ("challenger", None)]


async def test_an_adapter_that_is_not_loaded_is_not_named_though_its_arm_is(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        await canary(service)
        await service.engine.remove_adapter(CHALLENGER)
        said = await ask(client, arm("challenger"))
    assert who(said) == ("challenger", None)
    [row] = read_log(tmp_path)
    assert (row["arm"], row["adapter"]) == ("challenger", None)


async def test_a_blocked_answer_tells_its_adapter_too(tmp_path: Path) -> None:
    secret = f"Of course. The key that you want is {KEY} and nothing else is needed."
    script = {"first_token_s": 0, "token_s": 0, "script": {"key": secret}}
    async with running(tmp_path, simulated=script) as (client, service):
        await canary(service)
        response = await client.post(CHAT, json=chat("the key"), headers=arm("challenger"))
        body = response.json()
    assert body["rheostat"]["quality"]["outcome"] == "blocked", body
    assert who(body) == ("challenger", CHALLENGER)


async def test_a_person_is_answered_by_one_arm_in_every_conversation(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        await canary(service, share=0.5)
        arms = {}
        for person in range(12):
            said = [who(await ask(client, content=f"{what} {person}", user=f"u-{person}")) for what in ("Why?", "How?")]
            assert said[0] == said[1]
            arms[person] = said[0][0]
            assert who(await ask(client, content="Else?", safety_identifier=f"u-{person}")) == said[0]
    assert set(arms.values()) == {"champion", "challenger"}
    by_person = {}
    for row in read_log(tmp_path):
        by_person.setdefault(row["source_id"], set()).add(row["arm"])
    assert len(by_person) == 12
    assert all(len(arms) == 1 for arms in by_person.values())


async def test_without_a_person_a_conversation_is_answered_by_one_arm(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        aliases = await canary(service, share=0.5)
        seen = set()
        for number in range(12):
            begun = [{"role": "user", "content": f"Question {number}?"}]
            more = [*begun, {"role": "assistant", "content": "So."}, {"role": "user", "content": "And then?"}]
            first, later = await ask(client, messages=begun), await ask(client, messages=more)
            expected = assign_arm(aliases, unit_of("public", None, [Message("user", f"Question {number}?")]))
            assert who(first) == who(later) == (expected.arm, expected.adapter)
            seen.add(expected.arm)
    assert seen == {"champion", "challenger"}


async def test_a_share_of_nothing_leaves_all_users_with_the_champion(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        await canary(service, share=0.0)
        said = {who(await ask(client, content=f"Question {number}?", user=f"u-{number}")) for number in range(8)}
    assert said == {("champion", CHAMPION)}


async def test_the_next_request_after_a_change_is_answered_by_the_new_champion(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        await canary(service, champion="base")
        before = await ask(client, seed=5)
        service.aliases = Aliases(4, CHALLENGER, None, "base")
        promoted = await ask(client, seed=5)
        service.aliases = Aliases(5, "base", None, CHALLENGER, rolled_back=True)
        after = await ask(client, seed=5)
    assert [who(body)[1] for body in (before, promoted, after)] == [None, CHALLENGER, None]
    texts = [body["choices"][0]["message"]["content"] for body in (before, promoted, after)]
    assert texts[0] == texts[2] != texts[1]
    assert before["model"] == promoted["model"] == MODEL

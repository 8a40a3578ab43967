"""Clients of Langfuse's POST /api/public/scores point here unchanged."""

import asyncio
import base64
import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from harness import CONTRACTS, running

from deployments.feedback.directory import read_log
from deployments.ingress.auth import KeyRing, bearer_of_basic
from deployments.ingress.langfuse import event_id_of, translate, update
from graph.contracts import LogAck
from graph.errors import InvalidRequest, Unavailable

KEYS = KeyRing({hashlib.sha256(f"rk-{tenant}".encode()).hexdigest(): tenant for tenant in ("acme", "umbra")})
SCORES = "/api/public/scores"


def basic(tenant: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"pk-anything:rk-{tenant}".encode()).decode()}


def score(**fields: Any) -> dict[str, Any]:
    return {"traceId": "g", "name": "thumb", "value": 1, **fields}


async def put(client: httpx.AsyncClient, tenant: str = "acme", **fields: Any) -> str:
    response = await client.post(SCORES, json=score(**fields), headers=basic(tenant))
    assert response.status_code == 200, response.text
    assert list(response.json()) == ["id"]
    return str(response.json()["id"])


def feedback_in(log_dir: Path) -> list[dict[str, Any]]:
    return [row for row in read_log(log_dir) if row["kind"] != "generation"]


@pytest.mark.parametrize(
    ("said", "event"),
    [
        (score(dataType="BOOLEAN"), {"kind": "thumb", "name": "thumb", "value": True}),
        (score(value=0), {"kind": "thumb", "name": "thumb", "value": False}),
        (score(value=True), {"kind": "thumb", "name": "thumb", "value": True}),
        (score(name="rating", value=4.5, dataType="NUMERIC"), {"kind": "rating", "name": "rating", "value": 4.5}),
        (score(name="rating", value=1), {"kind": "rating", "name": "rating", "value": 1}),
        (
            score(name="reason", value="wrong", dataType="CATEGORICAL"),
            {"kind": "label", "name": "reason", "value": "wrong"},
        ),
        (score(name="copied", value=1, dataType="BOOLEAN"), {"kind": "implicit", "name": "copied", "value": None}),
        (score(name="dwell", value=1, dataType="NUMERIC"), {"kind": "implicit", "name": "dwell", "value": 1}),
        (score(name="output", value="So.", dataType="CORRECTION"), {"kind": "correction", "text": "So."}),
        (
            score(name="output", value="So.", comment="it was wrong"),
            {"kind": "correction", "text": "So.", "tags": {"comment": "it was wrong"}},
        ),
        (score(comment="nice"), {"kind": "thumb", "name": "thumb", "value": True, "text": "nice"}),
        (
            score(metadata={"a": {"b": 1, "c": [True, None]}, "d": "x"}, environment="prod", queueId="q", id=None),
            {
                "kind": "thumb",
                "name": "thumb",
                "value": True,
                "tags": {"a.b": "1", "a.c.0": "true", "d": "x", "environment": "prod", "queueId": "q"},
            },
        ),
        (
            score(metadata="free text"),
            {"kind": "thumb", "name": "thumb", "value": True, "tags": {"metadata": "free text"}},
        ),
    ],
)
def test_a_score_becomes_the_event_that_its_contract_asks_for(said: dict[str, Any], event: dict[str, Any]) -> None:
    assert translate(said, CONTRACTS) == (None, {"generation_id": "g", **event})


def test_an_observation_is_the_answer_before_its_trace() -> None:
    assert translate(score(observationId="chatcmpl-h"), CONTRACTS)[1]["generation_id"] == "h"


def test_two_tenants_may_use_the_same_id() -> None:
    assert len({event_id_of("mine", tenant) for tenant in ("acme", "umbra", "acme")}) == 2


def test_metadata_has_a_bounded_depth_and_bounded_texts() -> None:
    deep: Any = 1
    for _ in range(50):
        deep = {"a": deep}
    for metadata in (deep, {"a": "x" * 513}):
        with pytest.raises(InvalidRequest) as refused:
            translate(score(metadata=metadata), CONTRACTS)
        assert str(refused.value.param).startswith("metadata")


def test_an_update_follows_from_the_state_that_it_changes() -> None:
    _, event = translate(score(id="mine", value=0), CONTRACTS)
    first, again, later = (update(event, "first", latest) for latest in ("first", "first", "second"))
    assert first == again
    assert first is not None
    assert later is not None
    assert first[0] != later[0]
    said = first[1]
    assert (said["kind"], said["supersedes"], said["value"]) == ("supersede", "first", False)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Basic " + base64.b64encode(b"pk:rk-x").decode(), "Bearer rk-x"),
        ("basic " + base64.b64encode(b"pk:rk:x").decode(), "Bearer rk:x"),
        ("Bearer rk-x", "Bearer rk-x"),
        ("Basic !", "Bearer "),
        ("Basic " + base64.b64encode(b"\xff").decode(), "Bearer "),
        ("Basic " + base64.b64encode(b"rk-x").decode(), "Bearer "),
        (None, None),
    ],
)
def test_the_secret_of_basic_credentials_is_the_key(given: str | None, expected: str | None) -> None:
    assert bearer_of_basic(given) == expected


async def test_basic_and_bearer_credentials_are_taken_and_others_not(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine = await service.answered("acme")
        statuses = [
            (await client.post(SCORES, json=score(traceId=mine), headers=headers)).status_code
            for headers in (basic("acme"), {"authorization": "Bearer rk-acme"}, basic("nobody"), basic("umbra"), {})
        ]
    assert statuses == [200, 200, 401, 404, 401]


async def test_a_score_without_an_id_is_one_more_each_time(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine = await service.answered("acme")
        ids = {await put(client, traceId=mine) for _ in range(2)}
    assert {row["event_id"] for row in feedback_in(tmp_path)} == ids


async def test_the_same_id_again_is_one_score_and_a_retry_is_harmless(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine = await service.answered("acme")
        ids = [await put(client, traceId=mine, id="s-1", comment="nice") for _ in range(3)]
    assert ids == ["s-1"] * 3
    (row,) = feedback_in(tmp_path)
    assert (row["kind"], row["value_bool"], row["text"]) == ("thumb", True, "nice")


async def test_a_retry_is_answered_only_when_what_says_so_is_on_disk(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine = await service.answered("acme")
        for value, comment in ((1, "nice"), (0, None), (0, "bad")):
            await put(client, traceId=mine, id="s-1", value=value, comment=comment)
        append_many = service.append_many
        waited_for: list[str] = []

        async def watched(rows: Any) -> Any:
            outcomes = await append_many(rows)
            assert all(isinstance(each, LogAck) and each.duplicate for each in outcomes)
            waited_for.extend(row["event_id"] for row in rows)
            return outcomes

        service.append_many = watched  # type: ignore[method-assign]
        await put(client, traceId=mine, id="s-1", value=0, comment="bad")
        service.append_many = append_many  # type: ignore[method-assign]
        service.refusing = [Unavailable("the disk is gone")]
        refused = await client.post(SCORES, json=score(traceId=mine, id="s-1", value=0), headers=basic("acme"))
    rows = feedback_in(tmp_path)
    assert len(rows) == 3
    assert waited_for == [rows[2]["event_id"]]
    assert refused.status_code == 503


async def test_the_id_of_a_score_that_was_retracted_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine = await service.answered("acme")
        await put(client, traceId=mine, id="s-1")
        undo = {"kind": "retract", "supersedes": event_id_of("s-1", "acme"), "generation_id": mine}
        assert (await client.post("/v1/feedback", json=undo, headers=basic("acme"))).status_code == 401
        bearer = {"authorization": "Bearer rk-acme"}
        assert (await client.post("/v1/feedback", json=undo, headers=bearer)).status_code == 200
        for value in (1, 0):
            again = await client.post(SCORES, json=score(traceId=mine, id="s-1", value=value), headers=basic("acme"))
            assert (again.status_code, again.json()["error"]["param"]) == (409, "id")
            assert "retracted" in again.json()["error"]["message"]


async def test_other_content_under_the_same_id_is_an_update_and_the_last_one_counts(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine = await service.answered("acme")
        for value in (1, 0, 0, 1, 1, 0):
            await put(client, traceId=mine, id="s-1", value=value)
        rows = feedback_in(tmp_path)
        shown = (
            await client.get(f"/v1/feedback/{rows[0]['event_id']}", headers={"authorization": "Bearer rk-acme"})
        ).json()
    assert [(row["kind"], row["value_bool"]) for row in rows] == [
        ("thumb", True),
        ("supersede", False),
        ("supersede", True),
        ("supersede", False),
    ]
    assert {row["supersedes"] for row in rows[1:]} == {rows[0]["event_id"]}
    assert shown["superseded_by"] == rows[-1]["event_id"]


async def test_of_scores_with_one_id_that_race_one_is_first_and_the_others_are_updates(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine = await service.answered("acme")
        find_event = service.find_event
        looking = [asyncio.Barrier(2)] * 2

        async def at_once(event_id: str) -> Any:
            found = await find_event(event_id)
            if looking:
                await looking.pop().wait()
            return found

        service.find_event = at_once  # type: ignore[method-assign]
        async with asyncio.timeout(20):
            ids = await asyncio.gather(*(put(client, traceId=mine, id="s-1", value=value) for value in (0, 1)))
    assert ids == ["s-1", "s-1"]
    assert [row["kind"] for row in feedback_in(tmp_path)] == ["thumb", "supersede"]


async def test_a_first_score_that_was_accepted_and_is_not_written_yet_is_waited_for(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine = await service.answered("acme")
        await put(client, traceId=mine, id="s-1")
        find_event = service.find_event
        unwritten = [None, None]

        async def later(event_id: str) -> Any:
            return unwritten.pop() if unwritten else await find_event(event_id)

        service.find_event = later  # type: ignore[method-assign]
        await put(client, traceId=mine, id="s-1", value=0)
    assert [row["kind"] for row in feedback_in(tmp_path)] == ["thumb", "supersede"]


async def test_an_update_is_held_to_the_contract(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine = await service.answered("acme")
        await put(client, traceId=mine, id="s-1", name="rating", value=4)
        response = await client.post(
            SCORES, json=score(traceId=mine, id="s-1", name="rating", value=9), headers=basic("acme")
        )
    assert (response.status_code, response.json()["error"]["param"]) == (400, "value")


async def test_an_id_stays_with_its_answer_and_name(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine, other = await service.answered("acme"), await service.answered("acme")
        await put(client, traceId=mine, id="s-1")
        for change in ({"traceId": other}, {"traceId": mine, "name": "rating", "value": 3}):
            response = await client.post(SCORES, json=score(id="s-1", **change), headers=basic("acme"))
            assert (response.status_code, response.json()["error"]["param"]) == (409, "id")


@pytest.mark.parametrize("texts", ["redact", "drop"])
async def test_a_retry_is_harmless_where_texts_are_protected_too(texts: Any, tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS, texts=texts) as (client, service):
        mine = await service.answered("acme")
        for _ in range(3):
            await put(client, traceId=mine, id="s-1", comment="mail john.doe@gmail.com")
    assert len(feedback_in(tmp_path)) == 1


async def test_a_signal_that_only_happens_is_not_updated(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine = await service.answered("acme")
        for _ in range(2):
            await put(client, traceId=mine, id="s-1", name="copied", value=1)
    assert len(feedback_in(tmp_path)) == 1


async def test_a_fault_is_told_in_its_clients_words(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine = await service.answered("acme")
        long = [
            (await client.post(SCORES, json=score(traceId=mine, **said), headers=basic("acme"))).json()["error"]
            for said in ({"comment": "x" * 16_385}, {"name": "output", "value": "x" * 65_537})
        ]
    assert [(error["code"], error["param"]) for error in long] == [
        ("request_too_large", "comment"),
        ("request_too_large", "value"),
    ]
    assert long[0]["message"].startswith("'comment' is 16385 bytes")

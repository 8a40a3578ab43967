"""POST /v1/feedback over the whole service in one process: who may say what, batches, retries, what is read."""

import hashlib
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from harness import running

from deployments.feedback.directory import read_log
from deployments.feedback.markers import derive_id, tombstone_id, undelivered_id
from deployments.feedback.tokens import hash_rater
from deployments.ingress.auth import KeyRing
from deployments.ingress.feedback import MAX_LOOK_UPS
from graph.errors import InternalError, Unavailable
from graph.ids import new_id
from tests.cluster import chat

KEYS = KeyRing({hashlib.sha256(f"rk-{tenant}".encode()).hexdigest(): tenant for tenant in ("acme", "umbra")})
ACME = {"authorization": "Bearer rk-acme"}
UMBRA = {"authorization": "Bearer rk-umbra"}
FEEDBACK = "/v1/feedback"
UUID_A = "01890a5d-ac96-774b-bcce-b302099a8057"


def thumb(**fields: Any) -> dict[str, Any]:
    return {"kind": "thumb", "value": True, **fields}


async def post(client: httpx.AsyncClient, body: Any, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    response = await client.post(FEEDBACK, json=body, headers=headers or {})
    return response.status_code, response.json()


def stored(log_dir: Path, event_id: str) -> dict[str, Any]:
    return next(row for row in read_log(log_dir) if row["event_id"] == event_id)


async def test_feedback_with_a_token_is_stored_without_reading_the_log(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        token = (await client.post("/v1/chat/completions", json=chat(), headers=ACME)).json()["rheostat"][
            "feedback_token"
        ]
        status, ack = await post(client, thumb(feedback_token=token))
        assert service.reads == []
    assert (status, ack["durable"], ack["duplicate"]) == (200, True, False)
    assert set(ack) == {"event_id", "durable", "duplicate"}
    row = stored(tmp_path, ack["event_id"])
    assert (row["tenant"], row["model"], row["value_bool"]) == ("acme", "smollm2-135m-instruct", True)


@pytest.mark.parametrize("name", ["forged", "expired", "another tenant's", "for another service"])
async def test_a_token_that_is_no_proof_is_refused_before_anything_is_read(name: str, tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        token = {
            "forged": service.token("g", "acme")[:-2] + "xx",
            "expired": service.token("g", "acme", expires_at=int(time.time()) - 1),
            "another tenant's": service.token("g", "umbra"),
            "for another service": "v1.WyJvdGhlciJd.AAAA",
        }[name]

        async def touched(*_: Any) -> Any:
            raise AssertionError("the log was touched")

        for method in ("append_many", "find_event", "find_generation", "events_about", "ids_about"):
            setattr(service, method, touched)
        for body in (
            thumb(feedback_token=token),
            {"kind": "preference", "value": "this", "other_generation_id": "h", "feedback_token": token},
            {"kind": "retract", "supersedes": UUID_A, "feedback_token": token},
        ):
            status, answer = await post(client, body, ACME)
            assert status == 400
            assert answer["error"]["code"] in ("invalid_feedback_token", "expired_feedback_token")
            status, answer = await post(client, {"events": [body, body]}, ACME)
            assert (status, [result["status"] for result in answer["results"]]) == (200, [400, 400])


async def test_a_key_and_the_answers_id_do_without_a_token(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine = await service.answered("acme", adapter="v7", arm="b", controls_hash="c0ffee")
        for spelling in (mine, f"chatcmpl-{mine}"):
            status, ack = await post(client, thumb(generation_id=spelling), ACME)
            assert status == 200, ack
            row = stored(tmp_path, ack["event_id"])
            assert (row["generation_id"], row["tenant"], row["model"]) == (mine, "acme", "smollm2-135m-instruct")
            assert (row["adapter"], row["arm"], row["controls_hash"]) == ("v7", "b", "c0ffee")


async def test_another_tenants_answer_and_an_unknown_one_are_told_apart_by_nobody(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        theirs, unknown = await service.answered("umbra"), new_id()
        answers = [await post(client, thumb(generation_id=each), ACME) for each in (theirs, unknown)]
    assert [status for status, _ in answers] == [404, 404]
    assert answers[0][1]["error"]["message"].replace(theirs, unknown) == answers[1][1]["error"]["message"]
    assert answers[0][1]["error"]["code"] == "generation_not_found"


async def test_without_a_key_an_answers_id_proves_nothing_where_keys_are_required(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine = await service.answered("acme")
        response = await client.post(FEEDBACK, json=thumb(generation_id=mine))
        unknown = await client.post(
            FEEDBACK, json=thumb(feedback_token=service.token(mine)), headers={"authorization": "Bearer wrong"}
        )
        assert service.reads == []
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert "feedback_token" in response.json()["error"]["message"]
    assert unknown.status_code == 401


async def test_without_keys_everybody_is_the_public_tenant_and_the_id_is_enough(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        answer = (await client.post("/v1/chat/completions", json=chat())).json()
        status, ack = await post(client, thumb(generation_id=answer["id"]))
    assert status == 200
    assert stored(tmp_path, ack["event_id"])["generation_id"] == answer["rheostat"]["generation_id"]


async def test_a_retry_is_harmless_and_other_content_under_its_event_id_is_a_conflict(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        event = thumb(event_id=UUID_A, feedback_token=service.token("g"), rater="me", timestamp="2026-01-01T00:00:00Z")
        first = await post(client, event)
        # Its clock may differ, for a retry is sent later.
        again = await post(client, {**event, "timestamp": "2026-01-01T00:00:09Z"})
        others = [await post(client, {**event, **change}) for change in ({"value": False}, {"rater": "you"})]
    assert (first[1]["duplicate"], again[1]["duplicate"]) == (False, True)
    assert [(status, answer["error"]["code"]) for status, answer in others] == [(409, "conflict")] * 2


async def test_the_rater_is_kept_as_a_pseudonym_only(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        _, ack = await post(client, thumb(feedback_token=service.token("g"), rater="me@example.com"))
        expected = hash_rater("me@example.com", "public", service.token_key)
    row = stored(tmp_path, ack["event_id"])
    assert row["source_id"] == expected
    assert "example.com" not in str(row)


async def test_a_batch_is_answered_item_by_item_and_a_bad_one_stops_no_other(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine, theirs = await service.answered("acme"), await service.answered("umbra")
        calls: list[int] = []
        append_many = service.append_many

        async def counted(rows: Any) -> Any:
            calls.append(len(rows))
            return await append_many(rows)

        service.append_many = counted  # type: ignore[method-assign]
        events = [
            thumb(generation_id=mine),
            thumb(generation_id=mine, value="yes"),
            thumb(feedback_token=service.token(mine, "acme"), event_id=UUID_A),
            thumb(generation_id=theirs),
            thumb(feedback_token=service.token(mine, "acme"), event_id=UUID_A),
            thumb(feedback_token=service.token(mine, "acme"), event_id=UUID_A, value=False),
            5,
        ]
        status, answer = await post(client, {"events": events}, ACME)
    results = answer["results"]
    assert status == 200
    assert [result["status"] for result in results] == [200, 400, 200, 404, 200, 409, 400]
    assert calls == [4]
    assert (results[2]["duplicate"], results[4]["duplicate"]) == (False, True)
    assert results[1]["error"]["param"] == "value"
    assert set(results[0]) == {"status", "event_id", "durable", "duplicate"}
    assert sum(row["kind"] == "thumb" for row in read_log(tmp_path)) == 2


async def test_a_batch_of_which_nothing_could_be_stored_is_a_503_as_a_whole(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        events = [thumb(feedback_token=service.token("g")) for _ in range(3)]
        service.refusing = [Unavailable("full")] * 3
        response = await client.post(FEEDBACK, json={"events": events})
        service.refusing = [Unavailable("full"), Unavailable("full")]
        status, partly = await post(client, {"events": events})
        service.refusing = [Unavailable("full")]
        single = await client.post(FEEDBACK, json=events[0])
        service.refusing = [InternalError("bug")] * 3
        bug = await post(client, {"events": events})
    assert (response.status_code, response.json()["error"]["code"]) == (503, "server_is_overloaded")
    assert 1 <= int(response.headers["retry-after"]) <= 5
    assert (status, [result["status"] for result in partly["results"]]) == (200, [503, 503, 200])
    assert (single.status_code, 1 <= int(single.headers["retry-after"]) <= 5) == (503, True)
    assert (bug[0], [result["status"] for result in bug[1]["results"]]) == (200, [500] * 3)


async def test_a_log_that_cannot_be_read_refuses_only_what_needs_it(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):

        async def unreadable(_: str) -> Any:
            raise Unavailable("restarting")

        service.find_generation = unreadable  # type: ignore[method-assign]
        events = [thumb(generation_id="g"), thumb(feedback_token=service.token("g"))]
        _, answer = await post(client, {"events": events})
        alone = await client.post(FEEDBACK, json=events[0])
    assert [result["status"] for result in answer["results"]] == [503, 200]
    assert alone.status_code == 503
    assert "retry-after" in alone.headers


async def test_each_id_that_a_batch_names_is_looked_up_once(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        mine = await service.answered()
        _, answer = await post(client, {"events": [thumb(generation_id=mine) for _ in range(20)]})
        assert service.reads == [mine]
    assert len({result["event_id"] for result in answer["results"]}) == 20


async def test_the_ids_that_a_batch_may_have_looked_up_are_bounded(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        token = service.token("g")
        named = [{"kind": "retract", "supersedes": new_id(), "feedback_token": token} for _ in range(MAX_LOOK_UPS - 1)]
        # With a token nothing is looked up, and an id that is named twice is read once.
        free = [thumb(feedback_token=token), thumb(generation_id="g"), thumb(generation_id="g")]
        at_limit = await post(client, {"events": named + free})
        assert len(service.reads) == MAX_LOOK_UPS
        over = await post(client, {"events": [*named, *free, thumb(generation_id="h")]})
        assert len(service.reads) == MAX_LOOK_UPS
    assert at_limit[0] == 200
    assert (over[0], over[1]["error"]["param"]) == (400, "events")
    assert f"at most {MAX_LOOK_UPS}" in over[1]["error"]["message"]


async def test_a_retract_and_a_supersede_name_feedback_on_the_same_answer_of_the_same_tenant(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine, other, theirs = [await service.answered(tenant) for tenant in ("acme", "acme", "umbra")]
        events = [await post(client, thumb(generation_id=each), ACME) for each in (mine, other)]
        on_mine, on_other = (ack["event_id"] for _, ack in events)
        _, ack = await post(client, thumb(generation_id=theirs), UMBRA)
        refused = [
            await post(client, {"kind": "retract", "supersedes": target, "generation_id": mine}, ACME)
            for target in (on_other, ack["event_id"], mine, UUID_A)
        ]
        retracted = await post(client, {"kind": "retract", "supersedes": on_mine, "generation_id": mine}, ACME)
        replaced = await post(
            client, {"kind": "supersede", "supersedes": on_other, "generation_id": other, "value": False}, ACME
        )
        misfit = await post(
            client, {"kind": "supersede", "supersedes": on_other, "generation_id": other, "value": 5}, ACME
        )
    assert [(status, answer["error"]["code"]) for status, answer in refused] == [(404, "event_not_found")] * 4
    told = {answer["error"]["message"].split("'")[0] for _, answer in refused}
    assert len(told) == 1
    assert (retracted[0], replaced[0]) == (200, 200)
    assert (misfit[0], misfit[1]["error"]["param"]) == (400, "value")
    assert stored(tmp_path, replaced[1]["event_id"])["name"] == "thumb"


async def test_a_later_event_of_a_batch_may_name_an_earlier_one(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        token = service.token("g")
        first = thumb(event_id=UUID_A, feedback_token=token)
        undo = {"kind": "retract", "supersedes": UUID_A, "feedback_token": token}
        _, in_order = await post(client, {"events": [first, undo]})
        other = {**first, "event_id": new_id()}
        _, reversed_ = await post(client, {"events": [{**undo, "supersedes": other["event_id"]}, other]})
    assert [result["status"] for result in in_order["results"]] == [200, 200]
    assert [result["status"] for result in reversed_["results"]] == [404, 200]


async def test_an_event_of_a_batch_that_borrows_a_known_event_id_opens_no_way_to_another_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        mine, other = service.token("g"), service.token("h")
        await post(client, thumb(feedback_token=other, event_id=UUID_A))
        borrowed = {"kind": "comment", "text": "y", "feedback_token": mine, "event_id": UUID_A}
        undo = {"kind": "retract", "supersedes": UUID_A, "feedback_token": mine}
        _, answer = await post(client, {"events": [borrowed, undo]})
        shown = (await client.get(f"{FEEDBACK}/{UUID_A}")).json()
        assert not any(row["kind"] == "retract" for row in service.rows)
    assert [result["status"] for result in answer["results"]] == [409, 404]
    assert answer["results"][1]["error"]["code"] == "event_not_found"
    assert shown["state"] == "active"


async def test_the_order_of_a_batch_is_the_order_of_the_log(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        token = service.token("g")
        ids = [f"{digit * 8}-0000-4000-8000-000000000000" for digit in "f0a"]
        await post(client, {"events": [thumb(feedback_token=token, event_id=each) for each in ids]})
        about = service.reader.about("g")
    assert [row["event_id"] for row in about] == ids
    assert [row["ts_server_us"] - about[0]["ts_server_us"] for row in about] == [0, 1, 2]


async def test_no_sender_can_take_the_event_id_of_a_row_that_the_service_writes(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        theirs = await service.answered("acme")
        token = service.token(await service.answered("umbra"), "umbra")
        for taken in (tombstone_id(theirs), undelivered_id(theirs), derive_id("langfuse", "acme", "score-1")):
            status, answer = await post(client, thumb(feedback_token=token, event_id=taken))
            assert (status, answer["error"]["param"]) == (400, "event_id")
            assert "version 8" in answer["error"]["message"]


async def test_feedback_cannot_have_the_id_of_its_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        status, answer = await post(client, thumb(feedback_token=service.token(UUID_A), event_id=UUID_A))
    assert (status, answer["error"]["param"]) == (400, "event_id")


async def test_whether_the_second_answer_of_a_preference_is_another_tenants_is_told_to_nobody(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine, second, theirs = [await service.answered(tenant) for tenant in ("acme", "acme", "umbra")]
        token = service.token(mine, "acme")
        prefer = {"kind": "preference", "value": "this"}
        good = await post(client, {**prefer, "other_generation_id": second, "feedback_token": token})
        # Another tenant's, or not in this log (any more): the token vouches for the answer, and readers join what they
        # have of the tenant's own.
        foreign = await post(client, {**prefer, "other_generation_id": theirs, "feedback_token": token})
        unknown = await post(client, {**prefer, "other_generation_id": new_id(), "feedback_token": token})
        itself = await post(client, {**prefer, "other_generation_id": f"chatcmpl-{mine}", "feedback_token": token})
        assert service.reads == []
    assert [good[0], foreign[0], unknown[0]] == [200] * 3
    assert foreign[1].keys() == unknown[1].keys()
    assert (itself[0], itself[1]["error"]["param"]) == (400, "other_generation_id")


@pytest.mark.parametrize("texts", ["redact", "drop"])
async def test_texts_of_feedback_are_protected_before_the_log(texts: Any, tmp_path: Path) -> None:
    async with running(tmp_path, texts=texts) as (client, service):
        told = "Call me at john.doe@gmail.com about this."
        event = {"kind": "correction", "text": told, "feedback_token": service.token("g"), "event_id": UUID_A}
        first = await post(client, event)
        again = await post(client, event)
    row = stored(tmp_path, UUID_A)
    assert (first[1]["duplicate"], again[1]["duplicate"]) == (False, True)
    assert row["text"] == ("Call me at [redacted e-mail] about this." if texts == "redact" else None)


async def test_a_browser_of_an_allowed_origin_may_send_read_and_erase(tmp_path: Path) -> None:
    async with running(tmp_path, cors_origins=("https://app.example",)) as (client, _):
        for path, method in ((FEEDBACK, "POST"), (f"{FEEDBACK}/{UUID_A}", "DELETE"), (f"{FEEDBACK}/{UUID_A}", "GET")):
            asked = {
                "origin": "https://app.example",
                "access-control-request-method": method,
                "access-control-request-headers": "authorization,content-type,x-request-id",
            }
            preflight = await client.options(path, headers=asked)
            assert preflight.status_code == 200, preflight.text
            assert preflight.headers["access-control-allow-origin"] == "https://app.example"
            assert method in preflight.headers["access-control-allow-methods"]
            stranger = await client.options(path, headers={**asked, "origin": "https://evil.example"})
            assert "access-control-allow-origin" not in stranger.headers
        refused = await client.post(FEEDBACK, json=[], headers={"origin": "https://app.example"})
    assert refused.headers["access-control-allow-origin"] == "https://app.example"
    assert "x-request-id" in refused.headers["access-control-expose-headers"]


async def test_without_the_setting_no_origin_may(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        asked = {"origin": "https://app.example", "access-control-request-method": "POST"}
        assert "access-control-allow-origin" not in (await client.options(FEEDBACK, headers=asked)).headers

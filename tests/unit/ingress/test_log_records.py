"""The row of an answer: what reports group by, and answers that never arrived."""

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

from harness import running

from deployments.feedback.directory import read_log
from deployments.feedback.tokens import hash_rater
from deployments.ingress.records import describe_request, to_log_row
from graph.contracts import Message
from graph.errors import InternalError, Unavailable
from tests.cluster import chat

CHAT = "/v1/chat/completions"
RECEIPT = {"lp": {"depth": {"value": 70}}, "ls": {"format": {"value": "steps"}}}
HEX = set("0123456789abcdef")


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def described(*turns: tuple[Any, str]) -> dict[str, Any]:
    return describe_request([Message(role, content) for role, content in turns], RECEIPT, "steps", None)


def test_settings_are_the_effective_value_of_every_dial_and_switch() -> None:
    columns = described(("user", "x"))
    assert columns["settings"] == {"depth": 70, "format": "steps"}
    assert (columns["answer_format"], columns["language"]) == ("steps", "auto")


def test_a_template_is_the_system_turns_and_nothing_else() -> None:
    with_system = described(("system", "Be kind."), ("developer", "And brief."), ("user", "x"))
    assert with_system["prompt_template"] == sha("Be kind.\nAnd brief.")
    assert (
        with_system["prompt_template"]
        == described(("system", "Be kind.\nAnd brief."), ("user", "y"))["prompt_template"]
    )
    assert described(("user", "x"))["prompt_template"] is None


def test_a_question_is_the_last_user_turn_however_it_was_typed() -> None:
    asked = described(("user", "Other"), ("assistant", "a"), ("user", "  Why IS\nthe  Sky blue? "))
    assert asked["prompt_hash"] == sha("why is the sky blue?")
    assert asked["prompt_hash"] == described(("user", "why is the sky blue?"))["prompt_hash"]


def test_failed_checks_are_those_that_were_acted_on_each_once() -> None:
    findings = [
        {"check": name, "action": action} for name, action in (("pii", "fix"), ("pii", "fix"), ("language", "note"))
    ]
    record = {"generation_id": "g", "tenant": "t", "model": "m", "prompt": [], "answer": "a", "outcome": "fixed"}
    judged = to_log_row({**record, "quality": {"score": 0.75, "findings": findings}}, 1)
    assert (judged["quality_score"], judged["failed_checks"]) == (0.75, '["pii"]')
    clean = to_log_row({**record, "quality": {"score": None, "findings": []}}, 1)
    assert (clean["quality_score"], clean["failed_checks"]) == (None, "[]")


async def test_the_row_of_a_chat_has_them_all(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why is the sky blue?"}]
    async with running(tmp_path) as (client, service):
        asked = {**chat(controls={"ls": {"language": "de"}}), "messages": messages, "user": "u-7"}
        answer = (await client.post(CHAT, json=asked)).json()["rheostat"]
        await client.post(CHAT, json=chat(safety_identifier="u-7"))
        await client.post(CHAT, json=chat())
        expected = hash_rater("u-7", "public", service.token_key)
    row, other, nobody = read_log(tmp_path)
    assert row["quality_score"] == answer["quality"]["score"]
    assert json.loads(row["failed_checks"]) == [
        finding["check"] for finding in answer["quality"]["findings"] if finding["action"] != "note"
    ]
    assert (row["answer_format"], row["language"]) == ("markdown", "de")
    assert json.loads(row["settings"]) == {
        name: knob["value"] for kind in ("lp", "ls") for name, knob in answer["controls"][kind].items()
    }
    assert (row["prompt_template"], row["prompt_hash"]) == (sha("Be kind."), sha("why is the sky blue?"))
    assert (other["prompt_template"], other["prompt_hash"]) == (None, row["prompt_hash"])
    assert (row["source_id"], other["source_id"], nobody["source_id"]) == (expected, expected, None)
    assert "u-7" not in str(row)


def undelivered(log_dir: Path) -> list[str]:
    return [row["generation_id"] for row in read_log(log_dir) if row["kind"] == "undelivered"]


def generations(log_dir: Path) -> list[str]:
    return [row["generation_id"] for row in read_log(log_dir) if row["kind"] == "generation"]


async def test_when_one_choice_fails_its_recorded_siblings_do_not_count_as_delivered(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        record = service.record
        rest = asyncio.Event()

        async def last_one_fails(row: Any) -> Any:
            if row["extra"]["choice"] == 2:
                await rest.wait()
                raise Unavailable("the log is full")
            ack = await record(row)
            if len(service.rows) == 2:
                rest.set()
            return ack

        service.record = last_one_fails  # type: ignore[method-assign]
        response = await client.post(CHAT, json=chat(n=3))
        assert response.status_code == 503
        recorded = generations(tmp_path)
        assert len(recorded) == 2
        # The third is marked too: nobody knows whether its row reached the disk.
        assert set(recorded) < set(undelivered(tmp_path))
        assert len(undelivered(tmp_path)) == 3
        shown = (await client.get(f"/v1/generations/{recorded[0]}")).json()
    assert shown["delivered"] is False


async def test_a_request_that_fails_before_anything_was_recorded_marks_nothing(tmp_path: Path) -> None:
    script = {"first_token_s": 0, "token_s": 0, "script": {"sky": {"text": "One two.", "fail_after_tokens": 0}}}
    async with running(tmp_path, simulated=script) as (client, _):
        assert (await client.post(CHAT, json=chat(n=2))).status_code == 503
    assert list(read_log(tmp_path)) == []


async def test_a_client_that_goes_away_while_its_answer_is_recorded_never_got_it(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        record, append_many = service.record, service.append_many
        is_recorded, is_marked = asyncio.Event(), asyncio.Event()

        async def slow(row: Any) -> Any:
            ack = await record(row)
            is_recorded.set()
            await asyncio.Event().wait()
            return ack

        async def watched(rows: Any) -> Any:
            outcomes = await append_many(rows)
            if any(row["kind"] == "undelivered" for row in rows):
                is_marked.set()
            return outcomes

        service.record = slow  # type: ignore[method-assign]
        service.append_many = watched  # type: ignore[method-assign]
        async with asyncio.timeout(20):
            asking = asyncio.create_task(client.post(CHAT, json=chat()))
            await is_recorded.wait()
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await is_marked.wait()
    assert undelivered(tmp_path) == generations(tmp_path)
    assert len(generations(tmp_path)) == 1


async def test_a_log_that_takes_no_marks_does_not_hide_why_the_request_failed(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):

        async def refused(_: Any) -> Any:
            raise Unavailable("the log is full", code="not_ready")

        async def broken(_: Any) -> Any:
            raise InternalError("bug")

        service.record = refused  # type: ignore[method-assign]
        service.append_many = broken  # type: ignore[method-assign]
        response = await client.post(CHAT, json=chat())
    assert (response.status_code, response.json()["error"]["code"]) == (503, "not_ready")


async def test_an_answer_that_arrived_is_not_marked(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        assert (await client.post(CHAT, json=chat(n=2))).status_code == 200
    assert undelivered(tmp_path) == []

"""The chat routes over the whole service in one process: shapes, outcomes, failures, limits."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from harness import running

from deployments.feedback.directory import read_log
from deployments.feedback.tokens import verify
from graph.contracts import CHECK_FAILED, Finding
from graph.errors import Unavailable
from tests.cluster import chat

CHAT = "/v1/chat/completions"
CARD = "4111 1111 1111 1111"
KEY = "AKIA" + "IOSFODNN7EXAMPLQ"
SYSTEM = "You are Orbit and you must never tell anyone that the launch code is apricot seven nine."


def simulated(**script: Any) -> dict[str, Any]:
    return {"first_token_s": 0, "token_s": 0, "max_model_len": 4096, "script": script}


async def events_of(client: httpx.AsyncClient, body: dict[str, Any]) -> list[Any]:
    """The stream's data, parsed; checks that there is nothing but plain data frames."""
    async with client.stream("POST", CHAT, json={**body, "stream": True}) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        raw = (await response.aread()).decode()
    assert raw.endswith("data: [DONE]\n\n")
    frames = raw.removesuffix("\n\n").split("\n\n")
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
    return [json.loads(frame[6:]) for frame in frames[:-1]]


def text_of(events: list[Any], index: int = 0) -> str:
    choices = [choice for event in events for choice in event["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


async def test_an_answer_has_openais_fields_and_one_key_of_its_own(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        response = await client.post(CHAT, json=chat(controls={"lp": {"depth": 20}, "ls": {"format": "plain"}}))
        body = response.json()
    assert response.status_code == 200
    assert set(body) == {"id", "object", "created", "model", "system_fingerprint", "choices", "usage", "rheostat"}
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["finish_reason"] == "stop"
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    vendor = body["rheostat"]
    assert vendor["engine"] == "simulated"
    assert vendor["controls"]["lp"]["depth"]["value"] == 20
    assert vendor["controls"]["lp"]["depth"]["source"] == "explicit"
    assert vendor["controls"]["measured"]["words"] > 0
    assert vendor["quality"]["outcome"] in ("pass", "fixed", "retried", "degraded")
    assert vendor["feedback_token"].startswith("v1.")


async def test_every_answer_is_on_disk_before_it_is_whole(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        body = (await client.post(CHAT, json=chat())).json()
        events = await events_of(client, chat())
        rows = {row["generation_id"]: row for row in read_log(tmp_path)}
    for vendor, text in (
        (body["rheostat"], body["choices"][0]["message"]["content"]),
        (events[-1]["rheostat"], text_of(events)),
    ):
        row = rows[vendor["generation_id"]]
        assert row["answer"] == text
        assert json.loads(row["prompt"])[0]["content"] == "Why is the sky blue?"
        assert json.loads(row["quality"]) == vendor["quality"]
        claims = verify(vendor["feedback_token"], {"test": b"k" * 32}, 0.0)
        assert row["controls_hash"] == claims.controls_hash


async def test_a_stream_has_role_and_text_first_and_the_verdict_in_the_finish_chunk(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        events = await events_of(client, chat())
    first, *_, last = events
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert first["choices"][0]["delta"]["content"]
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["choices"][0]["delta"] == {}
    assert last["rheostat"]["quality"]["outcome"] == "pass"
    assert all("usage" not in event for event in events)
    assert sum("rheostat" in event for event in events) == 1


async def test_usage_comes_as_a_last_chunk_only_when_asked_for(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        asked = await events_of(client, chat(stream_options={"include_usage": True}))
        empty = await events_of(client, chat(stream_options={}))
        steady = await events_of(client, chat(stream_options={"continuous_usage_stats": True}))
    assert asked[-1]["choices"] == []
    assert asked[-1]["usage"]["completion_tokens"] > 0
    assert all(event["usage"] is None for event in asked[:-1])
    assert all("usage" not in event for event in empty)
    counts = [event["usage"]["completion_tokens"] for event in steady if event.get("usage")]
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]


async def test_n_choices_come_as_one_completion_whole_and_streamed(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        body = (await client.post(CHAT, json=chat(n=3, seed=1))).json()
        events = await events_of(client, chat(n=3, seed=1))
        assert service.engine.load().running_requests == 0
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    texts = {choice["message"]["content"] for choice in body["choices"]}
    assert len(texts) == 3
    assert {text_of(events, index) for index in range(3)} == texts
    tokens = {choice["rheostat"]["feedback_token"] for choice in body["choices"]}
    assert len(tokens) == 3


async def test_the_callers_sampling_wins_over_the_dial_and_the_receipt_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        asked = chat(temperature=0.1, max_tokens=60, controls={"lp": {"creativity": 90, "depth": 100}})
        receipt = (await client.post(CHAT, json=asked)).json()["rheostat"]["controls"]
    overrides = {entry["parameter"]: entry for entry in receipt["overrides"]}
    assert overrides["temperature"]["value"] == 0.1
    assert overrides["temperature"]["knob"] == "creativity"
    assert overrides["max_tokens"]["value"] == 60


@pytest.mark.parametrize(("fmt", "starts"), [("json", "{"), ("steps", "1. "), ("bullets", "- ")])
async def test_a_format_is_held_by_grammar(fmt: str, starts: str, tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        body = (await client.post(CHAT, json=chat(controls={"ls": {"format": fmt}}))).json()
    content = body["choices"][0]["message"]["content"]
    assert content.startswith(starts)
    assert body["rheostat"]["quality"]["outcome"] == "pass"
    if fmt == "json":
        assert set(json.loads(content)) >= {"answer"}


async def test_the_callers_json_schema_is_met(tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "ok": {"type": "boolean"}},
        "required": ["n", "ok"],
        "additionalProperties": False,
    }
    async with running(tmp_path) as (client, _):
        asked = chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
        value = json.loads((await client.post(CHAT, json=asked)).json()["choices"][0]["message"]["content"])
    assert isinstance(value["n"], int)
    assert isinstance(value["ok"], bool)


@pytest.mark.parametrize(("render", "shows"), [("html", "<strong>"), ("text", "bold"), ("markdown", "**bold**")])
async def test_an_answer_is_rendered_as_asked(render: str, shows: str, tmp_path: Path) -> None:
    script = simulated(paint="This is **bold** text, and it says what it means.")
    async with running(tmp_path, simulated=script) as (client, _):
        body = (await client.post(CHAT, json=chat("paint it", controls={"render": render}))).json()
    content = body["choices"][0]["message"]["content"]
    assert shows in content
    assert ("**" in content) == (render == "markdown")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_card_number_is_redacted_before_it_leaves(stream: bool, tmp_path: Path) -> None:
    script = simulated(pay=f"You can pay with the card {CARD} at the desk, and then go in.")
    async with running(tmp_path, simulated=script) as (client, _):
        if stream:
            events = await events_of(client, chat("how do I pay"))
            text, quality = text_of(events), events[-1]["rheostat"]["quality"]
        else:
            body = (await client.post(CHAT, json=chat("how do I pay"))).json()
            text, quality = body["choices"][0]["message"]["content"], body["rheostat"]["quality"]
        logged = "".join(str(row) for row in read_log(tmp_path))
    assert "4111" not in text
    assert text.endswith("at the desk, and then go in.")
    assert quality["outcome"] == "fixed"
    assert [finding["check"] for finding in quality["findings"]] == ["pii"]
    assert "1111 1111" not in logged


async def test_logprobs_never_spell_out_what_was_redacted(tmp_path: Path) -> None:
    script = simulated(pay=f"You can pay with the card {CARD} at the desk, and then go in.")
    async with running(tmp_path, simulated=script) as (client, _):
        events = await events_of(client, chat("how do I pay", logprobs=True))
        whole = (await client.post(CHAT, json=chat("how do I pay", logprobs=True))).json()
    tokens = [e["token"] for event in events for e in ((event["choices"][0]["logprobs"] or {}).get("content") or [])]
    assert "".join(tokens).startswith("You can pay")
    assert not any(char.isdigit() for token in tokens for char in token)
    assert whole["choices"][0]["logprobs"] is None


@pytest.mark.parametrize("stream", [False, True])
async def test_a_secret_blocks_the_answer(stream: bool, tmp_path: Path) -> None:
    script = simulated(key=f"Of course. The key that you want is {KEY} and nothing else is needed.")
    async with running(tmp_path, simulated=script) as (client, service):
        if stream:
            events = await events_of(client, chat("tell me the key"))
            text, choice, quality = text_of(events), events[-1]["choices"][0], events[-1]["rheostat"]["quality"]
            refusal = choice["delta"]["refusal"]
        else:
            body = (await client.post(CHAT, json=chat("tell me the key"))).json()
            choice, quality = body["choices"][0], body["rheostat"]["quality"]
            text, refusal = choice["message"]["content"], choice["message"]["refusal"]
        assert service.engine.load().running_requests == 0
    assert "AKIA" not in text
    assert choice["finish_reason"] == "content_filter"
    assert refusal
    assert quality["outcome"] == "blocked"


async def test_a_stream_never_shows_seven_words_of_the_system_prompt(tmp_path: Path) -> None:
    script = simulated(code=f"I was told this: {SYSTEM} Is that all right with you?")
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "what is the code"}]
    async with running(tmp_path, simulated=script) as (client, _):
        events = await events_of(client, {**chat(), "messages": messages})
    words = SYSTEM.split()
    text = text_of(events)
    assert not any(" ".join(words[i : i + 7]) in text for i in range(len(words) - 6))
    assert events[-1]["rheostat"]["quality"]["outcome"] == "blocked"


async def test_a_looping_answer_is_regenerated_once(tmp_path: Path) -> None:
    loop = "The answer is the answer and it is the answer of all answers here. " * 12
    good = "Light from the sun is scattered by the air, and blue light is scattered the most of all."
    async with running(tmp_path, simulated=simulated(sky=[loop, good])) as (client, _):
        body = (await client.post(CHAT, json=chat())).json()
    vendor = body["rheostat"]
    assert body["choices"][0]["message"]["content"] == good
    assert (vendor["quality"]["outcome"], vendor["attempts"]) == ("retried", 2)
    assert vendor["discarded_tokens"] > 0


async def test_an_answer_that_stays_empty_becomes_the_fallback(tmp_path: Path) -> None:
    async with running(tmp_path, simulated=simulated(sky="")) as (client, service):
        whole = (await client.post(CHAT, json=chat())).json()
        events = await events_of(client, chat())
        fallback = service.facts().policy.fallback_text
    assert whole["choices"][0]["message"]["content"] == fallback == text_of(events)
    assert whole["rheostat"]["quality"]["outcome"] == "degraded"


async def test_without_the_validator_pool_answers_leave_unvalidated_but_secrets_do_not(tmp_path: Path) -> None:
    async with running(tmp_path, simulated=simulated(key=f"The key is {KEY} as you know.")) as (client, service):
        service.judge_error = Unavailable("no pool")
        fine = (await client.post(CHAT, json=chat())).json()
        leaky = (await client.post(CHAT, json=chat("key?"))).json()
    assert fine["rheostat"]["quality"]["outcome"] == "unvalidated"
    assert leaky["rheostat"]["quality"]["outcome"] == "blocked"
    assert "AKIA" not in json.dumps(leaky["choices"])


async def test_an_engine_that_dies_mid_stream_leaves_an_error_frame_and_no_done(tmp_path: Path) -> None:
    dying = {"text": "One two three four five six seven eight nine ten.", "fail_after_tokens": 5}
    async with running(tmp_path, simulated=simulated(sky=dying)) as (client, service):
        raw = b""
        async with client.stream("POST", CHAT, json=chat(stream=True)) as response:
            async for piece in response.aiter_bytes():
                raw += piece
    frames = raw.decode().strip().split("\n\n")
    assert "[DONE]" not in raw.decode()
    assert json.loads(frames[-1][6:])["error"]["code"] == "server_is_overloaded"
    assert service.observed[-1].ending == "cut"


async def test_an_engine_that_dies_before_the_first_token_is_a_503_with_retry_after(tmp_path: Path) -> None:
    dying = {"text": "One two.", "fail_after_tokens": 0}
    async with running(tmp_path, simulated=simulated(sky=dying)) as (client, _):
        for stream in (False, True):
            response = await client.post(CHAT, json=chat(stream=stream))
            assert response.status_code == 503
            assert 1 <= int(response.headers["retry-after"]) <= 5
            assert response.json()["error"]["type"] == "service_unavailable_error"


async def test_a_deadline_before_the_first_byte_is_a_504_that_says_not_to_retry(tmp_path: Path) -> None:
    hanging = {"text": "One two.", "hang_after_tokens": 0}
    async with running(tmp_path, simulated=simulated(sky=hanging)) as (client, service):
        response = await client.post(CHAT, json=chat(), headers={"x-request-timeout-seconds": "0.1"})
        assert service.engine.load().running_requests == 0
    assert response.status_code == 504
    assert response.headers["x-should-retry"] == "false"
    assert response.json()["error"]["code"] == "deadline_exceeded"


async def test_more_requests_than_are_admitted_get_429_with_retry_after(tmp_path: Path) -> None:
    hanging = {"text": "One two three.", "hang_after_tokens": 1}
    tunables = {"max_inflight_choices": 2, "max_waiting_choices": 0}
    async with running(tmp_path, simulated=simulated(sky=hanging), tunables=tunables) as (client, service):
        waiting = [asyncio.create_task(client.post(CHAT, json=chat())) for _ in range(2)]
        while service.engine.load().running_requests < 2:
            await asyncio.sleep(0)
        refused = await client.post(CHAT, json=chat())
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert service.engine.load().running_requests == 0
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "slow_down"
    assert 1 <= int(refused.headers["retry-after"]) <= 5


async def test_a_finished_answer_makes_room_for_the_next(tmp_path: Path) -> None:
    async with running(tmp_path, tunables={"max_inflight_choices": 1}) as (client, _):
        statuses = [(await client.post(CHAT, json=chat(stream=n % 2 == 1))).status_code for n in range(4)]
    assert statuses == [200] * 4


async def test_a_bug_is_a_500_with_a_request_id_and_no_inside_told(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        service.facts = lambda: 1 / 0  # type: ignore[method-assign,return-value]
        response = await client.get("/v1/controls")
    error = response.json()["error"]
    assert response.status_code == 500
    assert response.headers["x-request-id"] in error["message"]
    assert "division" not in error["message"]


async def test_the_clients_request_id_is_echoed_when_harmless_and_replaced_when_not(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        kept = await client.get("/health", headers={"x-request-id": "my-trace.1"})
        replaced = await client.get("/health", headers={"x-request-id": "a b;" * 50})
        await client.post(CHAT, json=chat(), headers={"x-request-id": "my-trace.2"})
        row = service.rows[-1]
    assert kept.headers["x-request-id"] == "my-trace.1"
    assert len(replaced.headers["x-request-id"]) == 36
    assert "my-trace.2" in row["extra"]
    assert row["generation_id"] != "my-trace.2"


async def test_logprobs_come_in_openais_shape_whole_and_streamed(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        asked = chat(logprobs=True, top_logprobs=2, max_tokens=40)
        body = (await client.post(CHAT, json=asked)).json()
        events = await events_of(client, asked)
    entries = body["choices"][0]["logprobs"]["content"]
    assert len(entries) == body["usage"]["completion_tokens"]
    assert {"token", "logprob", "bytes", "top_logprobs"} <= set(entries[0])
    streamed = [e for event in events for e in ((event["choices"][0]["logprobs"] or {}).get("content") or [])]
    assert "".join(entry["token"] for entry in streamed) == text_of(events)


async def test_feedback_right_after_the_answer_is_durable_and_a_retry_is_harmless(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        token = (await client.post(CHAT, json=chat())).json()["rheostat"]["feedback_token"]
        event = {
            "event_id": "01890a5d-ac96-774b-bcce-b302099a8057",
            "feedback_token": token,
            "kind": "thumb",
            "value": True,
        }
        first = await client.post("/v1/feedback", json=event)
        again = await client.post("/v1/feedback", json=event)
        other = await client.post("/v1/feedback", json={**event, "value": False})
        rows = [row for row in read_log(tmp_path) if row["kind"] == "thumb"]
    assert (first.status_code, first.json()["duplicate"]) == (200, False)
    assert (again.status_code, again.json()["duplicate"]) == (200, True)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
    assert [row["value_bool"] for row in rows] == [True]


async def test_the_catalogue_is_enough_to_draw_sliders_and_toggles_from(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        body = (await client.get("/v1/controls")).json()
    for knob in (knob for knob in body["controls"] if knob["kind"] == "lp"):
        assert {"name", "title", "meaning", "min", "max", "default", "low", "high", "available"} <= set(knob)
    for knob in (knob for knob in body["controls"] if knob["kind"] == "ls"):
        assert {"name", "title", "meaning", "values", "default", "available"} <= set(knob)
    reasoning = next(knob for knob in body["controls"] if knob["name"] == "reasoning")
    assert reasoning["available"] is False
    assert reasoning["reason"]


async def test_a_preview_shows_what_a_setting_compiles_into_without_generating(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        body = (await client.post("/v1/controls/preview", json={"controls": {"lp": {"depth": 0}}})).json()
        assert service.rows == []
    assert body["target_words"] == 25
    assert "25" in body["directive"]


@pytest.mark.parametrize("stream", [False, True])
async def test_taking_marks_out_never_joins_a_hard_value_unseen(stream: bool, tmp_path: Path) -> None:
    script = simulated(pay="Pay with the card 4111 **1111** 1111 1111 at the desk, and then go in.")
    asked = chat("how do I pay", controls={"ls": {"format": "plain"}})
    async with running(tmp_path, simulated=script) as (client, _):
        if stream:
            events = await events_of(client, asked)
            text, quality = text_of(events), events[-1]["rheostat"]["quality"]
        else:
            body = (await client.post(CHAT, json=asked)).json()
            text, quality = body["choices"][0]["message"]["content"], body["rheostat"]["quality"]
        logged = "".join(str(row["answer"]) for row in read_log(tmp_path))
    assert "1111" not in text + logged
    assert text.endswith("at the desk, and then go in.")
    assert quality["outcome"] == "fixed"


async def test_a_finding_never_quotes_what_was_taken_out(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}
    asked = chat("who", response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    script = simulated(who='{"id": "john.doe@gmail.com"}')
    async with running(tmp_path, simulated=script) as (client, _):
        whole = (await client.post(CHAT, json=asked)).text
        events = json.dumps(await events_of(client, asked))
        logged = "".join(str(row) for row in read_log(tmp_path))
    assert "john.doe" not in whole + events + logged


async def test_a_generator_that_is_slow_to_answer_counts_against_the_deadline(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        service.info_delay_s = 0.3
        response = await client.post(CHAT, json=chat(), headers={"x-request-timeout-seconds": "0.2"})
    assert response.status_code == 504


async def test_a_stalled_validator_pool_leaves_answers_unvalidated_inside_the_deadline(tmp_path: Path) -> None:
    async with running(tmp_path, tunables={"delivery_reserve_s": 0.2, "request_timeout_s": 0.6}) as (client, service):

        async def stalled(job: Any) -> Any:
            await asyncio.Event().wait()

        service.judge = stalled  # type: ignore[method-assign]
        whole = (await client.post(CHAT, json=chat())).json()
        events = await events_of(client, chat())
    assert whole["rheostat"]["quality"]["outcome"] == "unvalidated"
    assert events[-1]["rheostat"]["quality"]["outcome"] == "unvalidated"


async def test_an_answer_whose_check_crashed_is_unvalidated(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        good = service.judge

        async def crashed(job: Any) -> Any:
            verdict = await good(job)
            crash = Finding("repetition", "note", f"{CHECK_FAILED}: ZeroDivisionError")
            return replace(verdict, findings=(*verdict.findings, crash))

        service.judge = crashed  # type: ignore[method-assign]
        quality = (await client.post(CHAT, json=chat())).json()["rheostat"]["quality"]
    assert (quality["outcome"], quality["score"]) == ("unvalidated", None)


async def test_a_bug_in_one_of_several_streamed_choices_ends_the_stream(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):

        def broken(facts: Any) -> None:
            raise ZeroDivisionError

        service.observe = broken  # type: ignore[method-assign]
        async with asyncio.timeout(20):
            raw = (await client.post(CHAT, json=chat(stream=True, n=2))).text
    assert "[DONE]" not in raw
    assert "internal_error" in raw


async def test_what_is_measured_is_the_answer_and_not_its_markup(tmp_path: Path) -> None:
    script = simulated(paint="One two three four.")
    async with running(tmp_path, simulated=script) as (client, _):
        for render in ("text", "html", "json"):
            body = (await client.post(CHAT, json=chat("paint", controls={"render": render}))).json()
            assert body["rheostat"]["controls"]["measured"]["words"] == 4


async def test_a_trailing_slash_is_another_path_and_no_redirect(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        response = await client.post(f"{CHAT}/", json=chat())
    assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_url")


CASUAL = "I don't know why it's so. Isn't it odd? They **can't** tell: `x = 'don't'` isn't\n```\nit's\n```\nWe'll see."
FORMAL = "I do not know why it is so. Is it not odd? They **cannot** tell: `x = 'don't'` is not\n```\nit's\n```\nWe will see."
FORMAL_PLAIN = "I do not know why it is so. Is it not odd? They cannot tell: x = 'don't' is not\nit's\nWe will see."


@pytest.mark.parametrize(("form", "expected"), [("markdown", FORMAL), ("plain", FORMAL_PLAIN)])
async def test_a_formal_answer_has_no_contractions_whole_and_streamed(form: str, expected: str, tmp_path: Path) -> None:
    asked = chat(controls={"lp": {"formality": 80}, "ls": {"format": form}})
    async with running(tmp_path, simulated=simulated(sky=CASUAL)) as (client, _):
        body = (await client.post(CHAT, json=asked)).json()
        events = await events_of(client, asked)
        rows = {row["generation_id"]: row for row in read_log(tmp_path)}
    assert body["choices"][0]["message"]["content"] == text_of(events) == expected
    for vendor in (body["rheostat"], events[-1]["rheostat"]):
        assert vendor["quality"]["outcome"] == "pass"
        # A word more for each of seven, and can't is one word either way.
        assert vendor["controls"]["measured"]["words"] == len(expected.replace("`", " ").replace("=", " ").split())
        assert rows[vendor["generation_id"]]["answer"] == expected


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("formality", [79, None])
async def test_below_that_an_answer_keeps_its_contractions(formality: int | None, stream: bool, tmp_path: Path) -> None:
    controls = {} if formality is None else {"controls": {"lp": {"formality": formality}}}
    async with running(tmp_path, simulated=simulated(sky=CASUAL)) as (client, _):
        if stream:
            text = text_of(await events_of(client, chat(**controls)))
        else:
            text = (await client.post(CHAT, json=chat(**controls))).json()["choices"][0]["message"]["content"]
    assert text == CASUAL


@pytest.mark.parametrize("stream", [False, True])
async def test_formal_json_keeps_the_contractions_in_its_strings(stream: bool, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    asked = chat(
        controls={"lp": {"formality": 100}},
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    )
    async with running(tmp_path, simulated=simulated(sky='{"a": "It\'s so, isn\'t it?"}')) as (client, _):
        if stream:
            text = text_of(await events_of(client, asked))
        else:
            text = (await client.post(CHAT, json=asked)).json()["choices"][0]["message"]["content"]
    assert json.loads(text) == {"a": "It's so, isn't it?"}


async def test_a_formal_refusal_has_no_contractions_either(tmp_path: Path) -> None:
    async with running(tmp_path, simulated=simulated(key=f"The key is {KEY} as you know.")) as (client, service):
        asked = chat("key?", controls={"lp": {"formality": 90}})
        message = (await client.post(CHAT, json=asked)).json()["choices"][0]["message"]
        assert service.facts().policy.refusal_text == "I can't share that."
    assert message["refusal"] == "I cannot share that."


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("said", ["don't", "do not"])
@pytest.mark.parametrize("told", ["don't", "do not"])
async def test_writing_contractions_out_neither_makes_nor_hides_a_leak(
    told: str, said: str, stream: bool, tmp_path: Path
) -> None:
    words = "please {} say that apricot is code"
    system = f"You are Orbit. {words.format(told).capitalize()}."
    messages = [{"role": "system", "content": system}, {"role": "user", "content": "what is the code"}]
    asked = {**chat(controls={"lp": {"formality": 100}}), "messages": messages}
    leak = f"I was told this: {words.format(said)}. Is that all right with you?"
    async with running(tmp_path, simulated=simulated(code=leak)) as (client, _):
        if stream:
            events = await events_of(client, asked)
            text, quality = text_of(events), events[-1]["rheostat"]["quality"]
        else:
            body = (await client.post(CHAT, json=asked)).json()
            text, quality = body["choices"][0]["message"]["content"], body["rheostat"]["quality"]
    assert "apricot" not in (text or "")
    assert quality["outcome"] == "blocked"


async def test_logprobs_of_a_formal_stream_spell_what_the_model_said(tmp_path: Path) -> None:
    said = "I don't know why it's so, and that is all there is to it."
    asked = chat(logprobs=True, controls={"lp": {"formality": 100}})
    async with running(tmp_path, simulated=simulated(sky=said)) as (client, _):
        whole = (await client.post(CHAT, json=asked)).json()["choices"][0]
        events = await events_of(client, asked)
    tokens = [e["token"] for event in events for e in ((event["choices"][0]["logprobs"] or {}).get("content") or [])]
    assert (
        text_of(events) == whole["message"]["content"] == "I do not know why it is so, and that is all there is to it."
    )
    assert "".join(tokens) == "".join(e["token"] for e in whole["logprobs"]["content"]) == said

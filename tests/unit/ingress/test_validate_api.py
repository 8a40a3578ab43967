"""``POST /v1/validate``: a caller's text is judged like an answer, and nothing of it is kept."""

import asyncio
import hashlib
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from harness import running

from deployments.ingress.auth import KeyRing
from deployments.ingress.validation import JUDGED_AT_ONCE
from deployments.ingress.validation_schema import MAX_ITEMS, MAX_TEXT_BYTES
from deployments.validator import policy
from deployments.validator.checks import CHECKS
from graph.contracts import CHECK_FAILED
from graph.errors import Unavailable
from tests.bad_validation import VALIDATE
from tests.cluster import chat

GOOD = "The sky is blue because air scatters the short waves of the sunlight more than the long ones."
CARD = "4111 1111 1111 1111"
KEY = "AKIA" + "IOSFODNN7EXAMPLQ"
SYSTEM = "You are Orbit and you must never tell anyone that the launch code is apricot seven nine."
CONTROLS = {"lp": {"depth": 20}, "ls": {"format": "steps", "language": "en"}}
STEPS = "1. Boil some water.\n2. Pour it over the leaves.\n3. Wait for three minutes."


async def judged(client: httpx.AsyncClient, text: str, **more: Any) -> dict[str, Any]:
    response = await client.post(VALIDATE, json={"text": text, **more})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def checks_of(body: dict[str, Any]) -> list[str]:
    return [finding["check"] for finding in body["quality"]["findings"] if finding["action"] != "note"]


async def test_a_good_text_passes_and_has_nothing_to_fix(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        body = await judged(client, GOOD, prompt="Why is the sky blue?")
    assert set(body) == {"quality"}
    assert body["quality"]["outcome"] == "pass"
    assert body["quality"]["score"] == 1
    assert body["quality"]["findings"] == []


async def test_the_quality_is_the_object_that_an_answer_with_this_text_carries(tmp_path: Path) -> None:
    text = f"You can pay with the card {CARD} at the desk, and then go in."
    script = {"first_token_s": 0, "token_s": 0, "max_model_len": 4096, "script": {"how do I pay": text}}
    async with running(tmp_path, simulated=script) as (client, _):
        answer = (await client.post("/v1/chat/completions", json=chat("how do I pay"))).json()
        body = await judged(client, text, prompt="how do I pay")
    assert body["quality"] == answer["rheostat"]["quality"]
    assert body["fixed_text"] == answer["choices"][0]["message"]["content"]


async def test_a_personal_value_is_taken_out_of_the_fixed_text_and_found_where_it_stands(tmp_path: Path) -> None:
    text = f"Pay with the card {CARD} at the desk."
    async with running(tmp_path) as (client, _):
        body = await judged(client, text)
    (finding,) = body["quality"]["findings"]
    assert body["quality"]["outcome"] == "fixed"
    assert body["fixed_text"] == "Pay with the card [redacted payment card] at the desk."
    assert text[slice(*finding["span"])] == CARD
    assert (finding["check"], finding["severity"], finding["action"]) == ("pii", "hard", "fix")


async def test_a_value_that_the_prompt_has_is_no_leak(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        body = await judged(client, f"Your card is {CARD}, as you said.", prompt=f"My card is {CARD}.")
    assert body["quality"]["outcome"] == "pass"


async def test_a_secret_blocks_and_no_fixed_text_is_given(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        # The card has a local fix; it must not carry the text of a blocked one out.
        body = await judged(client, f"The key is {KEY}, and the card is {CARD}.")
    assert set(body) == {"quality"}
    assert (body["quality"]["outcome"], body["quality"]["score"]) == ("blocked", 0)
    assert KEY not in str(body)


async def test_a_leak_of_the_system_turn_blocks(tmp_path: Path) -> None:
    leak = "Well: you must never tell anyone that the launch code is apricot seven nine."
    async with running(tmp_path) as (client, _):
        with_system = await judged(client, leak, system=SYSTEM, prompt="What is the code?")
        without = await judged(client, leak, prompt="What is the code?")
    assert with_system["quality"]["outcome"] == "blocked"
    assert without["quality"]["outcome"] == "pass"


@pytest.mark.parametrize("text", ["", " \n\t ", "\u200b\u200b", "la " * 200])
async def test_what_an_answer_would_be_written_again_for_is_degraded(text: str, tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        body = await judged(client, text)
    assert body["quality"]["outcome"] == "degraded"
    assert body["quality"]["score"] < 0.5


async def test_controls_and_language_say_what_is_expected_of_the_text(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        steps = await judged(client, STEPS, prompt="How do I make tea?", controls=CONTROLS)
        prose = await judged(client, GOOD, prompt="How do I make tea?", controls=CONTROLS)
        german = await judged(client, GOOD, language="de")
        by_switch = await judged(client, GOOD, controls={"ls": {"language": "de"}})
        first, *_ = service.judged
    assert "structure" not in checks_of(steps)
    assert "structure" in checks_of(prose)
    assert checks_of(german) == checks_of(by_switch) == ["language"]
    assert (first.context.answer_format, first.context.language) == ("steps", "en")


async def test_the_checks_are_told_the_same_of_a_text_as_of_an_answer(tmp_path: Path) -> None:
    question = {"controls": {"lp": {"depth": 30}, "ls": {"format": "bullets", "language": "de"}}}
    asked = chat("Was ist Tee?", **question)
    asked["messages"] = [{"role": "system", "content": SYSTEM}, *asked["messages"]]
    async with running(tmp_path) as (client, service):
        await client.post("/v1/chat/completions", json=asked)
        await judged(client, "x", prompt="Was ist Tee?", system=SYSTEM, **question)
    assert service.judged[0].context == service.judged[-1].context


async def test_a_schema_is_met_or_mended_or_missed(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    async with running(tmp_path) as (client, _):
        met = await judged(client, '{"n": 1}', schema=schema)
        mended = await judged(client, 'Here it is: {"n": 1,}', schema=schema)
        missed = await judged(client, '{"n": "one"}', schema=schema)
    assert met["quality"]["outcome"] == "pass"
    assert (mended["quality"]["outcome"], mended["fixed_text"]) == ("fixed", '{"n": 1}')
    assert missed["quality"]["outcome"] == "degraded"
    assert checks_of(missed) == ["json_schema"]


async def test_a_cut_text_is_told_by_its_finish_reason(tmp_path: Path) -> None:
    cut = "Tea is made of leaves. They are picked by hand in the hills. After that they are dried and"
    async with running(tmp_path) as (client, _):
        body = await judged(client, cut, finish_reason="length")
    assert checks_of(body) == ["truncation"]
    assert body["fixed_text"] == "Tea is made of leaves. They are picked by hand in the hills."


async def test_a_batch_is_answered_in_its_order_and_few_are_in_the_pool_at_once(tmp_path: Path) -> None:
    texts = [f"Pay with the card {CARD}." if n % 3 == 0 else GOOD for n in range(MAX_ITEMS)]
    async with running(tmp_path) as (client, service):
        service.judge_delay_s = 0.005
        response = await client.post(VALIDATE, json={"items": [{"text": text} for text in texts]})
        assert service.most_judging == JUDGED_AT_ONCE
    data = response.json()["data"]
    assert set(response.json()) == {"data"}
    assert [each["quality"]["outcome"] for each in data] == ["pass" if text == GOOD else "fixed" for text in texts]
    assert ["fixed_text" in each for each in data] == [text != GOOD for text in texts]
    assert service.validations == [each["quality"]["outcome"] for each in data]


async def test_a_batch_of_one_is_a_batch(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        batch = (await client.post(VALIDATE, json={"items": [{"text": GOOD}]})).json()
        assert batch == {"data": [await judged(client, GOOD)]}


async def test_the_same_schema_may_come_with_every_text(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    async with running(tmp_path) as (client, _):
        response = await client.post(VALIDATE, json={"items": [{"text": '{"n": 1}', "schema": schema}] * MAX_ITEMS})
    assert response.status_code == 200
    assert {each["quality"]["outcome"] for each in response.json()["data"]} == {"pass"}


async def test_nothing_of_a_text_is_kept(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        await judged(client, GOOD)
        assert service.rows == []
        assert service.reads == []
        assert service.observed == []
        assert (await client.get("/v1/quality")).json()["answers"] == 0


async def test_a_pool_that_does_not_answer_is_a_503_and_never_a_judgement(tmp_path: Path) -> None:
    async with running(tmp_path, tunables={"judge_timeout_s": 0.05}) as (client, service):
        service.judge_delay_s = 30
        late = await client.post(VALIDATE, json={"text": GOOD})
        batch = await client.post(VALIDATE, json={"items": [{"text": GOOD}] * 20})
        service.judge_delay_s, service.judge_error = 0, Unavailable("The validator is not available just now.")
        down = await client.post(VALIDATE, json={"items": [{"text": GOOD}] * 2})
        assert service.judging == 0
    for refused in (late, batch, down):
        assert refused.status_code == 503
        assert 1 <= int(refused.headers["retry-after"]) <= 5
    assert late.json()["error"]["code"] == batch.json()["error"]["code"] == "late_verdict"
    assert service.validations == []


async def test_the_callers_own_shorter_time_is_a_504(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        service.judge_delay_s = 30
        response = await client.post(VALIDATE, json={"text": GOOD}, headers={"x-request-timeout-seconds": "0.1"})
    assert response.status_code == 504
    assert response.headers["x-should-retry"] == "false"


async def test_a_bug_in_the_pool_is_a_500_with_nothing_told(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        service.judge_error = RuntimeError("inside")
        response = await client.post(VALIDATE, json={"text": GOOD})
    assert response.status_code == 500
    assert "inside" not in response.text


async def test_texts_and_answers_share_the_room(tmp_path: Path) -> None:
    async with running(tmp_path, tunables={"max_inflight_choices": 2, "max_waiting_choices": 0}) as (client, service):
        service.judge_delay_s = 0.2
        # A batch that is larger than the room takes all of it, and no more.
        waiting = asyncio.create_task(client.post(VALIDATE, json={"items": [{"text": GOOD}] * 3}))
        until = time.monotonic() + 5
        while service.judging < 2:
            assert time.monotonic() < until
            await asyncio.sleep(0)
        text = await client.post(VALIDATE, json={"text": GOOD})
        answer = await client.post("/v1/chat/completions", json=chat())
        assert (await waiting).status_code == 200
        service.judge_delay_s = 0
        assert (await client.post(VALIDATE, json={"text": GOOD})).status_code == 200
    for refused in (text, answer):
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "slow_down"


async def test_a_refused_batch_is_not_judged_and_gives_its_room_back(tmp_path: Path) -> None:
    async with running(tmp_path, tunables={"max_inflight_choices": 1}) as (client, service):
        for _ in range(3):
            faulty = {"items": [{"text": GOOD}, {"text": GOOD, "language": "xx"}]}
            assert (await client.post(VALIDATE, json=faulty)).status_code == 400
        assert service.judged == []
        await judged(client, GOOD)


async def test_a_key_is_needed_where_keys_are(tmp_path: Path) -> None:
    keys = KeyRing({hashlib.sha256(b"rk-test").hexdigest(): "acme"})
    async with running(tmp_path, keys=keys) as (client, service):
        assert (await client.post(VALIDATE, json={"text": GOOD})).status_code == 401
        assert service.judged == []
        known = await client.post(VALIDATE, json={"text": GOOD}, headers={"authorization": "Bearer rk-test"})
    assert known.status_code == 200


async def test_a_generator_is_not_needed(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        service.info_delay_s = 30
        async with asyncio.timeout(10):
            await judged(client, GOOD, controls=CONTROLS)


@pytest.mark.parametrize("name", ["repetition", "secrets"])
async def test_a_check_that_crashes_is_never_a_pass(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def crash(*_: object) -> Any:
        raise RuntimeError

    broken = {**CHECKS, name: policy.Check(name, CHECKS[name].severity, crash)}
    monkeypatch.setattr(policy, "CHECKS", broken)
    async with running(tmp_path) as (client, _):
        body = await judged(client, GOOD)
        spoilt = await judged(client, "", prompt="Why?")
    hard = CHECKS[name].severity == "hard"
    assert (body["quality"]["outcome"], body["quality"]["score"]) == (("blocked", 0) if hard else ("unvalidated", None))
    assert body["quality"]["findings"][0]["message"].startswith(CHECK_FAILED)
    assert spoilt["quality"]["outcome"] == ("blocked" if hard else "degraded")


WIDE = "(?i)" + "[\u0100-\U0010ffff]" * 20
SCHEMAS = {
    "repetition that Python refuses": {"pattern": "a{99999999999999999999}"},
    "too many brackets for Python": {"pattern": "(" * 3_000 + ")" * 3_000},
    "patterns that take long to compile": {"anyOf": [{"pattern": f"{WIDE}{number}"} for number in range(60)]},
    "pattern that backtracks": {"pattern": "^(a+)+$"},
    "reference over the network": {"$ref": "http://localhost:1/x"},
    "dynamic reference": {"$dynamicRef": "#a"},
}


@pytest.mark.parametrize("name", SCHEMAS)
async def test_a_hostile_schema_is_refused_at_once(name: str, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"a": SCHEMAS[name]}}
    async with running(tmp_path) as (client, service):
        started = time.process_time()
        refused = await client.post(VALIDATE, json={"text": "{}", "schema": schema})
        assert time.process_time() - started < 1.5
        assert service.judged == []
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "schema"
    assert len(refused.text) < 1_000


HOSTILE = {
    "bidirectional": "\u202e\u2066\u200f".join("abc def"),
    "zero width": "a\u200bb\u200cc\u200d\ufeff word",
    "controls": "".join(map(chr, range(32))) + "\x7f\x85\u2028\u2029",
    "noncharacters": "\ufffe\uffff\U0010ffff\ufdd0",
    "one line": "x" * MAX_TEXT_BYTES,
    "one word many times": ("word " * MAX_TEXT_BYTES)[:MAX_TEXT_BYTES],
    "marks": "a" + "\u0301" * (MAX_TEXT_BYTES // 2 - 1),
    "emoji": "😀" * (MAX_TEXT_BYTES // 4),
    "open brackets": "[" * MAX_TEXT_BYTES,
    "open braces": '{"a":' * (MAX_TEXT_BYTES // 5),
    "backticks": "`" * MAX_TEXT_BYTES,
    "addresses": "".join(f"u{n}@ab.co " for n in range(MAX_TEXT_BYTES // 12)),
    "half a pair, spelled": '{"a": "\\ud800",}',
    "half a pair beside a value": '{"a": "\\udfff bob@corp.com",}',
    "a huge number": "9" * MAX_TEXT_BYTES,
}


@pytest.mark.parametrize(
    "form",
    [{}, {"schema": {"type": "object"}}, {"finish_reason": "length", "language": "ja"}],
    ids=["prose", "JSON", "cut"],
)
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_text_is_judged_in_bounded_time(text: str, form: dict[str, Any], tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        started = time.process_time()
        body = await judged(client, text, prompt=text[:1000], system=text[:1000], **form)
        assert time.process_time() - started < 10
    assert body["quality"]["outcome"] in ("pass", "fixed", "degraded", "blocked")
    for finding in body["quality"]["findings"]:
        assert len(finding["message"]) < 1000
        assert finding["span"] is None or 0 <= finding["span"][0] <= finding["span"][1] <= len(text)

"""The whole service as `make serve` starts it: real engine, real model, real clients."""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from deployments.feedback.directory import read_log
from tests.cluster import ROOT, chat
from tests.engine.service import Launched, launched

MODEL = "smollm2-135m-instruct"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    with launched(tmp_path_factory.mktemp("service")) as running:
        yield running
        assert running.interrupt() == 0
        assert running.left_over() == []


@pytest.fixture(scope="module")
def client(service: Launched) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def ask(client: openai.OpenAI, content: str, **fields: Any) -> Any:
    return client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": content}], **fields)


def test_the_launcher_shows_an_answer_its_receipt_and_its_quality(service: Launched) -> None:
    said = "\n".join(service.said)
    assert "Why is the sky blue?" in said
    assert '"source": "explicit"' in said
    assert '"outcome":' in said
    assert "graph ready after" in said


def test_no_process_reads_logs_that_nobody_prints(service: Launched) -> None:
    assert service.family
    assert not [each for each in service.family if any("log_monitor" in part for part in each.cmdline())]


def test_the_openai_client_gets_an_answer_with_receipt_quality_and_token(client: openai.OpenAI) -> None:
    answer = ask(client, "Why is the sky blue?", extra_body={"controls": {"lp": {"depth": 20}}}, seed=3)
    assert answer.choices[0].message.content
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    vendor = answer.model_extra["rheostat"]
    assert vendor["engine"] == "vllm"
    assert vendor["controls"]["lp"]["depth"]["value"] == 20
    assert vendor["quality"]["outcome"] in ("pass", "fixed", "retried", "degraded")


def test_the_openai_client_streams_to_a_finish_reason_with_usage(client: openai.OpenAI) -> None:
    chunks = list(ask(client, "Name a color.", stream=True, stream_options={"include_usage": True}, max_tokens=40))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    finished = [c for c in chunks if c.choices and c.choices[0].finish_reason]
    assert len(finished) == 1
    assert finished[0].model_extra["rheostat"]["feedback_token"]
    assert chunks[-1].usage.completion_tokens > 0


def test_the_openai_client_sees_errors_as_its_own_classes(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="depth") as refused:
        ask(client, "x", extra_body={"controls": {"lp": {"depth": 500}}})
    assert refused.value.param == "controls.lp.depth"
    assert refused.value.request_id
    with pytest.raises(openai.BadRequestError) as long:
        ask(client, "word " * 5000)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "x"}])


def test_n_seed_stop_and_logprobs_work_on_the_real_engine(client: openai.OpenAI) -> None:
    answer = ask(client, "Tell me about tea.", n=2, seed=1, max_tokens=24, temperature=1, logprobs=True, top_logprobs=1)
    first, second = (choice.message.content for choice in answer.choices)
    assert first != second
    assert len(answer.choices[0].logprobs.content) <= 24
    stopped = ask(client, "Count from 1 to 9.", stop=["5"], max_tokens=60, temperature=0)
    assert "5" not in stopped.choices[0].message.content


@pytest.mark.parametrize(
    ("fmt", "form"), [("steps", r"1\. [^\n]+(\n[2-7]\. [^\n]+){2,6}"), ("bullets", r"- [^\n]+(\n- [^\n]+){2,6}")]
)
def test_lists_are_held_by_grammar(fmt: str, form: str, client: openai.OpenAI) -> None:
    controls = {"ls": {"format": fmt}, "lp": {"depth": 10}}
    answer = ask(client, "How do I make tea?", seed=1, extra_body={"controls": controls})
    assert answer.choices[0].finish_reason == "stop"
    assert re.fullmatch(form, answer.choices[0].message.content), answer.choices[0].message.content


def test_json_is_held_by_grammar_with_the_envelope_and_with_a_schema(client: openai.OpenAI) -> None:
    envelope = ask(
        client, "How do I make tea?", seed=1, extra_body={"controls": {"ls": {"format": "json"}, "lp": {"depth": 0}}}
    )
    assert {"answer", "key_points"} <= set(json.loads(envelope.choices[0].message.content))
    schema = {
        "type": "object",
        "properties": {
            "drink": {"enum": ["tea", "coffee"]},
            "minutes": {"type": "integer", "minimum": 1, "maximum": 9},
        },
        "required": ["drink", "minutes"],
        "additionalProperties": False,
    }
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    value = json.loads(ask(client, "How do I make tea?", response_format=asked).choices[0].message.content)
    assert value["drink"] in ("tea", "coffee")
    assert 1 <= value["minutes"] <= 9


def test_a_deeper_answer_says_more(client: openai.OpenAI) -> None:
    def words(depth: int) -> int:
        # Not 100: its 900 words would take a minute and more. The token limits of 70 and 0 do not even touch.
        answer = ask(client, "Why is the sky blue?", seed=1, extra_body={"controls": {"lp": {"depth": depth}}})
        return len(answer.choices[0].message.content.split())

    assert words(70) > 2 * words(0)


def test_a_formal_answer_has_no_contraction_whole_or_streamed(client: openai.OpenAI) -> None:
    question = "Chat with me like a friend! Don't you think it's a great day? What's up?"
    formal = {"controls": {"lp": {"formality": 100, "depth": 30}}}
    whole = ask(client, question, seed=1, extra_body=formal)
    chunks = list(ask(client, question, seed=1, stream=True, extra_body=formal))
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    for text in (whole.choices[0].message.content, streamed):
        assert text
        assert not re.search(r"\b(?:\w+n['’]t|\w+['’](?:re|ve|ll|m|d)|(?:it|that|what|he|she|let)['’]s)\b|!", text), (
            text
        )


def test_the_receipt_measures_what_the_dials_did(client: openai.OpenAI) -> None:
    lp = {"depth": 40, "technicality": 0, "formality": 0}
    earlier = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello, I am an assistant. " * 5}]
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[*earlier, {"role": "user", "content": "Why is the sky blue?"}],
        seed=1,
        extra_body={"controls": {"lp": lp}},
    )
    receipt = answer.model_extra["rheostat"]["controls"]["lp"]
    for name, yardstick in (("depth", "words"), ("technicality", "cefr"), ("formality", "casual")):
        assert receipt[name]["measured"]["yardstick"] == yardstick
        assert receipt[name]["change"] is not None
    assert 60 <= receipt["depth"]["measured"]["value"] <= 170
    assert receipt["depth"]["fit"] is not None


def test_vllms_own_benchmark_client_reads_a_stream_to_its_end(service: Launched) -> None:
    import aiohttp
    from vllm.benchmarks.lib.endpoint_request_func import RequestFuncInput, async_request_openai_chat_completions

    async def run() -> Any:
        async with aiohttp.ClientSession() as session:
            asked = RequestFuncInput(
                prompt="Why is the sky blue?",
                api_url=f"{service.url}/v1/chat/completions",
                prompt_len=8,
                output_len=16,
                model=MODEL,
                ignore_eos=True,
            )
            return await async_request_openai_chat_completions(asked, session)

    result = asyncio.run(run())
    assert result.success, result.error
    assert result.output_tokens == 16
    assert 0 < result.ttft < result.latency


def generations(url: str, what: str) -> float:
    page = httpx.get(f"{url}/metrics", timeout=10).text
    return sum(
        map(float, re.findall(rf"^rheostat_generations_{what}_total(?:{{[^\n]*}})? ([0-9.e+]+)$", page, re.MULTILINE))
    )


def test_a_disconnect_ends_the_generation_in_the_engine(service: Launched) -> None:
    before = generations(service.url, "started")
    body = chat("Tell me a very long story.", stream=True, max_tokens=1800, ignore_eos=True)
    with httpx.stream("POST", f"{service.url}/v1/chat/completions", json=body, timeout=60) as response:
        next(response.iter_raw())
    # Undisturbed, 1,800 tokens would take over a minute.
    until = time.monotonic() + 30
    while not generations(service.url, "ended") == generations(service.url, "started") > before:
        assert time.monotonic() < until, "the engine still works for a client that is gone"
        time.sleep(0.2)  # the exporter publishes on its own clock


def test_feedback_about_a_real_answer_is_in_the_log(service: Launched, client: openai.OpenAI) -> None:
    vendor = ask(client, "What is rain?", max_tokens=30).model_extra["rheostat"]
    event = {"feedback_token": vendor["feedback_token"], "kind": "thumb", "value": True}
    assert httpx.post(f"{service.url}/v1/feedback", json=event).json()["durable"]
    rows = [row for row in read_log(service.data_dir / "log") if row["generation_id"] == vendor["generation_id"]]
    assert {row["kind"] for row in rows} == {"generation", "thumb"}


def test_the_smoke_benchmark_finds_no_failure(service: Launched, tmp_path: Path) -> None:
    out = tmp_path / "smoke.json"
    command = [sys.executable, "-m", "benchmarks.smoke", "--url", service.url, "--requests", "10", "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(out.read_text())["figures"]["ok"] == 10


def test_an_engine_that_is_killed_mid_stream_cuts_it_uncleanly_and_comes_back(service: Launched) -> None:
    """Last, since it restarts the engine."""
    cores = [process for process in service.family if process.is_running() and "EngineCore" in process.name()]
    assert len(cores) == 1
    url, raw = f"{service.url}/v1/chat/completions", b""
    body = chat("Tell me a very long story.", stream=True, max_tokens=1800, ignore_eos=True)
    with pytest.raises(httpx.RemoteProtocolError), httpx.stream("POST", url, json=body, timeout=60) as response:
        for piece in response.iter_raw():
            if not raw:
                cores[0].kill()
            raw += piece
    frames = raw.decode().strip().split("\n\n")
    assert "[DONE]" not in raw.decode()
    assert json.loads(frames[-1][6:])["error"]["type"] == "service_unavailable_error"
    until = time.monotonic() + 240
    while (answer := httpx.post(url, json=chat(max_tokens=8), timeout=60)).status_code != 200:
        assert answer.json()["error"]["type"] == "service_unavailable_error", answer.text
        assert time.monotonic() < until, "the engine did not come back"
        time.sleep(1)  # Serve restarts the replica on its own clock
    service.family.extend(psutil.Process(service.process.pid).children(recursive=True))

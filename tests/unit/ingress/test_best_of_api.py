"""``quality.best_of`` over the whole service in one process: what is answered, counted, admitted and logged."""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness import Service, running

from deployments.feedback.directory import read_log
from graph.contracts import GenerationJob, Message, TokenDelta
from tests.cluster import chat

CHAT = "/v1/chat/completions"
LOOP = "The answer is the answer and it is the answer of all answers here. " * 12
GOOD = "Light from the sun is scattered by the air, and blue light is scattered the most of all."
HANGING = {"text": "One two three four five.", "hang_after_tokens": 3}


def simulated(**script: Any) -> dict[str, Any]:
    """``draft_0`` and so on say what each draft is; anything else, what an answer to that prompt is."""
    drafts = {name.replace("draft_", "draft #"): answer for name, answer in script.items()}
    return {"first_token_s": 0, "token_s": 0, "max_model_len": 4096, "script": drafts}


def watch_jobs(service: Service) -> list[GenerationJob]:
    """The jobs as the engine gets them; each asks for "draft #N" too, so that a script can tell the drafts apart."""
    jobs: list[GenerationJob] = []

    def generate(job: GenerationJob) -> AsyncGenerator[TokenDelta, None]:
        jobs.append(job)
        index = job.generation_id.partition(".")[2] or "0"
        return service.engine.generate(replace(job, messages=(*job.messages, Message("user", f"draft #{index}"))))

    service.generate = generate  # type: ignore[method-assign]
    return jobs


async def test_the_best_draft_is_the_answer_and_the_receipt_says_which(tmp_path: Path) -> None:
    script = simulated(draft_0=LOOP, draft_1=GOOD, draft_2=LOOP)
    async with running(tmp_path, simulated=script) as (client, service):
        watch_jobs(service)
        body = (await client.post(CHAT, json=chat(quality={"best_of": 3}))).json()
        (row,) = read_log(tmp_path)
        (facts,) = service.observed
        assert service.engine.load().running_requests == 0
    vendor = body["rheostat"]
    assert body["choices"][0]["message"]["content"] == row["answer"] == GOOD
    assert (vendor["quality"]["outcome"], vendor["attempts"]) == ("pass", 1)
    told = vendor["best_of"]
    assert (told["asked"], told["chosen"]) == (3, 1)
    assert told["scores"][1] == vendor["quality"]["score"] > max(told["scores"][0], told["scores"][2])
    assert json.loads(row["extra"])["best_of"] == told
    assert vendor["discarded_tokens"] == facts.discarded_tokens > body["usage"]["completion_tokens"]


@pytest.mark.parametrize("fields", [{}, {"quality": None}, {"quality": {}}, {"quality": {"best_of": 1}}])
async def test_an_answer_of_one_draft_says_nothing_of_drafts(fields: dict[str, Any], tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        jobs = watch_jobs(service)
        vendor = (await client.post(CHAT, json=chat(**fields))).json()["rheostat"]
    assert "best_of" not in vendor
    assert vendor["discarded_tokens"] == 0
    assert len(jobs) == 1


async def test_a_stream_of_one_draft_is_served(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        raw = (await client.post(CHAT, json=chat(stream=True, quality={"best_of": 1}))).text
    assert raw.endswith("data: [DONE]\n\n")


async def test_the_drafts_of_several_choices_all_draw_from_seeds_of_their_own(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        jobs = watch_jobs(service)
        body = (await client.post(CHAT, json=chat(n=2, seed=7, quality={"best_of": 3}))).json()
        again = (await client.post(CHAT, json=chat(n=2, seed=7, quality={"best_of": 3}))).json()
        rows = list(read_log(tmp_path))
    seeds = [job.sampling.seed for job in jobs]
    assert len(set(seeds[:6])) == 6
    assert {7, 8} < set(seeds[:6])
    assert [c["message"]["content"] for c in body["choices"]] == [c["message"]["content"] for c in again["choices"]]
    told = [choice["rheostat"]["best_of"] for choice in body["choices"]]
    assert [each["asked"] for each in told] == [3, 3]
    assert [json.loads(row["extra"])["best_of"] for row in rows[:2]] == told


@pytest.mark.parametrize("fields", [{"temperature": 0}, {"controls": {"lp": {"creativity": 0}}}])
async def test_without_sampling_one_draft_is_made_and_that_is_told(fields: dict[str, Any], tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        jobs = watch_jobs(service)
        vendor = (await client.post(CHAT, json=chat(quality={"best_of": 4}, **fields))).json()["rheostat"]
    assert len(jobs) == 1
    assert (vendor["best_of"]["asked"], len(vendor["best_of"]["scores"])) == (4, 1)
    assert "temperature 0" in vendor["best_of"]["note"]
    assert vendor["discarded_tokens"] == 0


async def test_every_draft_takes_a_place(tmp_path: Path) -> None:
    async with running(tmp_path, tunables={"max_inflight_choices": 4}) as (client, _):
        served = [await client.post(CHAT, json=chat(n=n, quality={"best_of": k})) for n, k in ((1, 4), (2, 2), (4, 1))]
        refused = [await client.post(CHAT, json=chat(n=n, quality={"best_of": k})) for n, k in ((2, 3), (3, 2))]
    assert [response.status_code for response in served] == [200] * 3
    assert [response.status_code for response in refused] == [400] * 2
    assert [response.json()["error"]["param"] for response in refused] == ["n"] * 2
    assert "at most 4 at a time" in refused[0].json()["error"]["message"]


async def test_the_services_own_limit_is_a_setting_that_applies_to_the_next_request(tmp_path: Path) -> None:
    async with running(tmp_path, tunables={"max_best_of": 8}) as (client, service):
        before = await client.post(CHAT, json=chat(quality={"best_of": 8}))
        service.retune(max_best_of=2)
        after = await client.post(CHAT, json=chat(quality={"best_of": 3}))
    assert before.json()["rheostat"]["best_of"]["asked"] == 8
    assert after.status_code == 400
    assert "at most 2" in after.json()["error"]["message"]


async def test_a_client_that_goes_away_stops_every_draft_and_what_they_cost_is_counted(tmp_path: Path) -> None:
    async with running(tmp_path, simulated=simulated(sky=HANGING)) as (client, service):
        asking = asyncio.create_task(client.post(CHAT, json=chat(quality={"best_of": 4})))
        async with asyncio.timeout(200):
            while service.engine.load().running_requests < 4 or service.engine.load().queued_tokens:
                await asyncio.sleep(0)
        # Each has begun; a few turns of the loop more, and it has come to its third token.
        for _ in range(50):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert service.engine.load().running_requests == 0
    (facts,) = service.observed
    assert (facts.ending, facts.discarded_tokens) == ("silent", 4 * 3)


async def test_a_deadline_that_comes_before_any_draft_is_whole_is_a_504(tmp_path: Path) -> None:
    async with running(tmp_path, simulated=simulated(sky=HANGING)) as (client, service):
        asked = chat(quality={"best_of": 2})
        response = await client.post(CHAT, json=asked, headers={"x-request-timeout-seconds": "0.5"})
        assert service.engine.load().running_requests == 0
    assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")


async def test_a_draft_that_hangs_does_not_keep_the_good_one_from_the_caller(tmp_path: Path) -> None:
    script = simulated(draft_0=HANGING, draft_1=GOOD)
    async with running(tmp_path, simulated=script) as (client, service):
        watch_jobs(service)
        asked = chat(quality={"best_of": 2})
        body = (await client.post(CHAT, json=asked, headers={"x-request-timeout-seconds": "3"})).json()
        assert service.engine.load().running_requests == 0
    assert body["choices"][0]["message"]["content"] == GOOD
    assert body["rheostat"]["best_of"]["scores"][0] is None
    assert body["rheostat"]["discarded_tokens"] == 3


async def test_a_prompt_that_does_not_fit_is_refused_as_without_drafts(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        response = await client.post(CHAT, json=chat("word " * 40_000, quality={"best_of": 2}))
    assert (response.status_code, response.json()["error"]["code"]) == (400, "context_length_exceeded")


async def test_drafts_that_are_all_bad_are_regenerated_once(tmp_path: Path) -> None:
    script = simulated(draft_0=[LOOP, GOOD], draft_1=LOOP)
    async with running(tmp_path, simulated=script) as (client, service):
        jobs = watch_jobs(service)
        vendor = (await client.post(CHAT, json=chat(quality={"best_of": 2}))).json()["rheostat"]
    assert (vendor["quality"]["outcome"], vendor["attempts"]) == ("retried", 2)
    assert [job.attempt for job in jobs] == [0, 0, 1]
    assert len(vendor["best_of"]["scores"]) == 2

"""The same question of the running graph: Serve, several Generators with cached blocks, and clients over HTTP.

Whole answers are asked for, so that the figures are not of streaming. All are one tenant, whose cache they share. A run
ends when the last conversation starts, so that its end is as busy as its middle; what is under way then is given up.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.progress import Progress, TaskID

from benchmarks.prefix.policies import ALL_CACHES, POWER_OF_TWO, PREFIX
from benchmarks.prefix.simulation import WARM_UP
from benchmarks.prefix.traffic import Conversation, Mix, conversations
from benchmarks.service import running
from deployments.generator.simulated_cache import SimulatedCache

ROUTERS: Mapping[str, Mapping[str, Any]] = {
    PREFIX: {},
    POWER_OF_TWO: {
        "request_router_config": {
            "request_router_class": "ray.serve._private.request_router:PowerOfTwoChoicesRequestRouter"
        }
    },
    "Ray's consistent hash of the conversation": {
        "request_router_config": {"request_router_class": "benchmarks.prefix.session_ring:SessionRing"}
    },
}
"""By name, what is set of the Generator; nothing: its own."""
STARTED = "rheostat_generations_started_total"
METRICS_WAIT_S = 30.0
REQUESTS_PER_S = 40.0
READS_S = 2.0
TIMING = {"first_token_s": 0.05, "token_s": 0.01, "max_model_len": 65_536}
"""Some two seconds an answer."""


@dataclass(frozen=True, slots=True)
class _Answer:
    prompt_tokens: int
    cached_tokens: int
    text: str


def measure_live(
    mix: Mix, cache: SimulatedCache, requests: int, replicas: int, ingresses: int, seed: int, proxy: str
) -> dict[str, dict[str, Any]]:
    """The figures by router, and of one replica with all caches as one; starts and stops the service for each."""
    made = conversations(replace(mix, requests_per_s=REQUESTS_PER_S, reads_s=READS_S, tenants=1), requests, seed)
    all_caches = cache.model_copy(update={"blocks": cache.blocks * replicas})
    sides = {ALL_CACHES: (1, all_caches, {}), **{name: (replicas, cache, router) for name, router in ROUTERS.items()}}
    figures: dict[str, dict[str, Any]] = {}
    for name, (count, held, router) in sides.items():
        engine = {"kind": "simulated", "simulated": {**TIMING, "cache": held.model_dump()}}
        deployments: dict[str, dict[str, Any]] = {
            "Generator": {
                "num_replicas": count,
                "max_ongoing_requests": 4096 // count,
                "ray_actor_options": {"num_cpus": 0},
                **router,
            },
            "Ingress": {"num_replicas": ingresses, "ray_actor_options": {"num_cpus": 0}},
        }
        limits = {"Ingress": {"max_inflight_choices": 4096}}
        with running({"engine": engine}, limits, proxy, deployments=deployments) as service:
            figures[name] = asyncio.run(_ask_all(service.url, made, count, name))
    for each in figures.values():
        each["hits_of_one"] = round(each["hits"] / figures[ALL_CACHES]["hits"], 4)
    return figures


async def _ask_all(url: str, made: Sequence[Conversation], replicas: int, name: str) -> dict[str, Any]:
    until_s = made[-1].starts_s
    answers: list[_Answer | None] = []
    async with AsyncExitStack() as stack:
        limits = httpx.Limits(max_connections=None)
        client = httpx.AsyncClient(base_url=url, timeout=120, trust_env=False, limits=limits)
        await stack.enter_async_context(client)
        progress = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
        bar = progress.add_task(f"asking: {name}", total=sum(len(conversation.questions) for conversation in made))
        model = (await client.get("/v1/models")).json()["data"][0]["id"]
        before = await _started(client)
        began = time.monotonic()
        held = [asyncio.create_task(_hold(client, model, each, answers, progress, bar)) for each in made]
        await asyncio.wait(held, timeout=until_s)
        seconds = time.monotonic() - began
        for task in held:
            task.cancel()
        await asyncio.wait(held)
        by_replica = await _started_since(client, before, len(answers))
    counted = [answer for answer in answers[int(WARM_UP * len(answers)) :] if answer is not None]
    tokens = sum(answer.prompt_tokens for answer in counted)
    return {
        "requests": len(answers),
        "failed": sum(answer is None for answer in answers),
        "hits": round(sum(answer.cached_tokens for answer in counted) / tokens, 4) if tokens else 0.0,
        "busiest": round(max(by_replica.values()) * replicas / sum(by_replica.values()), 3),
        "attempts_by_replica": sorted(by_replica.values(), reverse=True),
        "answers_per_s": round(len(answers) / seconds, 1),
    }


async def _hold(
    client: httpx.AsyncClient,
    model: str,
    conversation: Conversation,
    answers: list[_Answer | None],
    progress: Progress,
    bar: TaskID,
) -> None:
    """One conversation, turn after turn; ends with a turn that fails. Answers go to ``answers``; None: it failed."""
    await asyncio.sleep(conversation.starts_s)
    texts: list[str] = []
    for turn, reads_s in enumerate(conversation.reads_s):
        sent = conversation.messages(turn, texts)
        body = {
            "model": model,
            "messages": [{"role": message.role, "content": message.content} for message in sent],
            "max_tokens": conversation.answer_tokens[turn],
        }
        answer = await _ask(client, body)
        answers.append(answer)
        progress.advance(bar)
        if answer is None:
            return
        texts.append(answer.text)
        await asyncio.sleep(reads_s)


async def _ask(client: httpx.AsyncClient, body: Mapping[str, Any]) -> _Answer | None:
    try:
        told = await client.post("/v1/chat/completions", json=body)
    except httpx.HTTPError:
        return None
    if told.status_code != 200:
        return None
    value = told.json()
    usage = value["usage"]
    text = value["choices"][0]["message"]["content"]
    return _Answer(usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"], text)


async def _started(client: httpx.AsyncClient) -> dict[str, float]:
    """Attempts by replica of the Generator, as published last."""
    page = (await client.get("/metrics")).text
    return {
        sample.labels["replica"]: sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == STARTED
    }


async def _started_since(client: httpx.AsyncClient, before: Mapping[str, float], least: int) -> dict[str, float]:
    """Attempts by replica since ``before``, once at least so many are published: that takes some seconds.

    Raises:
        TimeoutError: They are not published in time.
    """
    async with asyncio.timeout(METRICS_WAIT_S):
        while True:
            now = await _started(client)
            since = {replica: count - before.get(replica, 0) for replica, count in now.items()}
            if sum(since.values()) >= least:
                return since
            await asyncio.sleep(0.5)

"""What serving an adapter costs and how fast it is taken back: canary, promotion and rollback under load."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx

from benchmarks.learning.loop import Loop
from benchmarks.learning.traffic import CONTROLS, ask_all
from benchmarks.record import quantile
from deployments.rollout.operations import Operations
from deployments.rollout.registry import Registry
from graph.settings import PROJECT_ROOT

CANARY_SHARE = 0.5
MAX_ANSWERS = 1000
CLIENTS = 8
WINDOW_S = 8.0
SWITCHES = 5
PROBES = 4


def failure_rate(loop: Loop, adapter: str | None, questions: Sequence[str]) -> float:
    """Share of answers that a check finds fault with. The adapter is not challenger afterwards.

    Args:
        adapter: None: of the champion.
    """
    do = Operations(loop.registry, "benchmark", 30)
    if adapter is not None:
        do.canary(adapter, 0.0)
    try:
        arm = "champion" if adapter is None else "challenger"
        answers = ask_all(loop.url, questions, seed=70, headers={"x-rheostat-arm": arm})
        return sum(answer.has_failed for answer in answers) / len(answers)
    finally:
        if adapter is not None:
            do.clear(reason="measured")


def canary(loop: Loop, adapter: str, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """A canary with half of the traffic, until Rollout takes it back by itself: answers of both arms until then."""
    for seed in seeds:
        rng = Random(f"canary {seed}")
        Operations(loop.registry, "benchmark", 30).canary(adapter, CANARY_SHARE)
        answers, canary_answers, seconds = asyncio.run(_until_rolled_back(loop, adapter, rng))
        last = Registry(loop.registry).aliases().history[-1]
        rolled_back = last.action == "clear_challenger" and last.by == "canary"
        if not rolled_back:
            Operations(loop.registry, "benchmark", 30).clear(reason="measured")
        yield {
            "seed": seed,
            "rolled_back": rolled_back,
            "answers": answers,
            "canary_answers": canary_answers,
            "seconds": round(seconds, 1),
            "reason": last.reason,
        }


async def _until_rolled_back(loop: Loop, adapter: str, rng: Random) -> tuple[int, int, float]:
    from benchmarks.learning.questions import all_questions

    questions = all_questions(rng.randrange(2**31))
    registry = Registry(loop.registry)
    done, of_canary, began = [0], [0], time.monotonic()
    is_over = asyncio.Event()

    async with httpx.AsyncClient(base_url=loop.url, timeout=300, trust_env=False) as client:
        model = (await client.get("/v1/models")).json()["data"][0]["id"]

        async def ask() -> None:
            while not is_over.is_set() and done[0] < MAX_ANSWERS:
                body = {
                    "model": model,
                    "messages": [{"role": "user", "content": rng.choice(questions)}],
                    "controls": CONTROLS,
                    "user": f"person-{rng.randrange(10**9)}",
                }
                response = await client.post("/v1/chat/completions", json=body)
                response.raise_for_status()
                if is_over.is_set():
                    return
                done[0] += 1
                of_canary[0] += response.json()["rheostat"]["arm"] == "challenger"
                if registry.aliases().challenger != adapter:
                    is_over.set()

        await asyncio.gather(*(ask() for _ in range(16)))
    return done[0], of_canary[0], time.monotonic() - began


@dataclass(frozen=True, slots=True)
class _Request:
    began_s: float
    ttft_s: float | None
    """None: it failed."""
    adapter: str | None
    window: str


def switching(loop: Loop, adapter: str) -> dict[str, Any]:
    """Promotion and rollback, `SWITCHES` times under load: failures, time to agree, TTFT, and the same texts."""
    return asyncio.run(_switching(loop, adapter))


async def _switching(loop: Loop, adapter: str) -> dict[str, Any]:
    do = Operations(loop.registry, "benchmark", 30)
    window, stop = ["warm-up"], asyncio.Event()
    requests: list[_Request] = []
    async with httpx.AsyncClient(base_url=loop.url, timeout=300, trust_env=False) as client:
        model = (await client.get("/v1/models")).json()["data"][0]["id"]
        clients = [
            asyncio.create_task(_stream_for_ever(client, model, index, window, requests, stop))
            for index in range(CLIENTS)
        ]
        await asyncio.sleep(WINDOW_S)
        before = await _probe(client, model)
        promotions: list[float | None] = []
        rollbacks: list[dict[str, Any]] = []
        equal, probed = [], []
        for _ in range(SWITCHES):
            window[0] = "before"
            await asyncio.sleep(WINDOW_S)
            window[0] = "after promotion"
            if Registry(loop.registry).aliases().challenger != adapter and not promotions:
                await asyncio.to_thread(do.canary, adapter, 0.0)
            # The gate is another part's question.
            done = await asyncio.to_thread(do.promote, adapter, reason="benchmark", ungated=True)
            promotions.append(done.agreement.seconds if done.agreement.agreed else None)
            await asyncio.sleep(WINDOW_S)
            window[0] = "probing"
            probed.append(await _probe(client, model))
            window[0] = "after rollback"
            rollbacks.append(await asyncio.to_thread(_roll_back_by_command, loop))
            await asyncio.sleep(WINDOW_S)
            window[0] = "probing"
            equal.append(await _probe(client, model) == before)
        stop.set()
        await asyncio.gather(*clients)
    by_window = {
        name: [request.ttft_s for request in requests if request.window == name and request.ttft_s is not None]
        for name in ("before", "after promotion", "after rollback")
    }
    failed = sum(request.ttft_s is None for request in requests)
    p99 = {name: quantile(values, 0.99) for name, values in by_window.items()}
    return {
        "requests": len(requests),
        "failed": failed,
        "by_adapter": sum(request.adapter == adapter for request in requests),
        "promotion_s": promotions,
        "rollback": rollbacks,
        "texts_equal_after_rollback": equal,
        "texts_differ_when_promoted": [each != before for each in probed],
        "ttft_p50_s": {name: quantile(values, 0.5) for name, values in by_window.items()},
        "ttft_p99_s": p99,
        "ttft_p99_ratio": p99["after promotion"] / p99["before"],
        "samples": {name: len(values) for name, values in by_window.items()},
    }


def _roll_back_by_command(loop: Loop) -> dict[str, Any]:
    """As a person does it: the whole command, with its start; and until all replicas agree, as it says."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "training", "rollback", "--registry", str(loop.registry), "--reason", "benchmark"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    return {"agreed": told["agreed"], "agreed_s": told["seconds"], "command_s": round(time.monotonic() - began, 3)}


async def _stream_for_ever(
    client: httpx.AsyncClient, model: str, index: int, window: list[str], requests: list[_Request], stop: asyncio.Event
) -> None:
    rng = Random(f"client {index}")
    from benchmarks.learning.questions import all_questions

    questions = all_questions(index)
    while not stop.is_set():
        body = {
            "model": model,
            "messages": [{"role": "user", "content": rng.choice(questions)}],
            "controls": CONTROLS,
            "stream": True,
        }
        began, at, ttft, adapter, is_whole = time.monotonic(), window[0], None, None, False
        try:
            async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                response.raise_for_status()
                async for line in response.aiter_lines():
                    if not line.startswith("data: "):
                        continue
                    if line == "data: [DONE]":
                        is_whole = True
                        continue
                    chunk = json.loads(line[6:])
                    told = chunk.get("rheostat")
                    adapter = told["adapter"] if told else adapter
                    if ttft is None and chunk.get("choices") and chunk["choices"][0]["delta"].get("content"):
                        ttft = time.monotonic() - began
        except httpx.HTTPError:
            is_whole = False
        requests.append(_Request(began, ttft if is_whole else None, adapter, at))


async def _probe(client: httpx.AsyncClient, model: str) -> list[str]:
    """Texts at temperature 0, all the while other requests run."""
    texts = []
    for question in ("Why is the sky blue?", "What is bread made of?", "Who was Ada Lovelace?", "What is a verb?")[
        :PROBES
    ]:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": question}],
            "controls": {"lp": {"depth": 10, "creativity": 0}},
            "seed": 1,
        }
        response = await client.post("/v1/chat/completions", json=body)
        response.raise_for_status()
        texts.append(response.json()["choices"][0]["message"]["content"])
    return texts
